package killswitch

// A block of a key store, or of a key of it, stays with the path that AWS KMS calls, whatever the
// key store is called.

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/xks"
)

// storesAt are the XksProxyURIPaths of key stores, of which names and path prefixes are given.
func storesAt(prefixByName ...string) map[string]string {
	paths := map[string]string{}
	for i := 0; i < len(prefixByName); i += 2 {
		paths[prefixByName[i]] = xks.URIPath(prefixByName[i+1])
	}
	return paths
}

func served() error { return nil }

// flush waits until the file says what is in effect.
func (k *Switch) flush(t *testing.T) {
	t.Helper()
	k.mu.Lock()
	version := k.file.wanted
	k.mu.Unlock()
	err := k.await(version, time.Now().Add(saveLimit))
	if err != nil {
		t.Fatal(err)
	}
}

func TestBlocksFollowThePath(t *testing.T) {
	whole, key := blockOf("payroll", ""), blockOf("payroll", "key-1")
	whole.URIPath, key.URIPath = xks.URIPath("/p"), xks.URIPath("/p")
	for name, c := range map[string]struct {
		configs []map[string]string // in this order
		blocked string              // beside payroll
	}{
		"the same": {
			[]map[string]string{storesAt("payroll", "/p", "tax", "/t")},
			"",
		},
		"renamed": {
			[]map[string]string{storesAt("wages", "/p", "tax", "/t")},
			"wages",
		},
		"gone, and back as another": {
			[]map[string]string{storesAt("tax", "/t"), storesAt("tax", "/t", "wages", "/p")},
			"wages",
		},
		"renamed twice": {
			[]map[string]string{storesAt("wages", "/p"), storesAt("salaries", "/p")},
			"salaries",
		},
		"changed places": {
			[]map[string]string{storesAt("payroll", "/t", "tax", "/p")},
			"tax",
		},
		"moved, then renamed": {
			[]map[string]string{storesAt("payroll", "/new"), storesAt("wages", "/new")},
			"wages",
		},
		"without a prefix": {
			[]map[string]string{storesAt("payroll", ""), storesAt("wages", "")},
			"wages",
		},
	} {
		directory := t.TempDir()
		k := mustOpen(t, directory)
		enforcer := &enforced{}
		k.Attach(enforcer)
		mustAdd(t, k, whole)
		mustAdd(t, k, key)
		for _, next := range c.configs {
			if err := k.Follow(next, zap.NewNop(), served); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		b := enforcer.now()
		for _, store := range []string{"payroll", "wages", "salaries", "tax"} {
			want := store == "payroll" || store == c.blocked ||
				name == "renamed twice" && store == "wages"
			if b.KeyStores[store] != want ||
				b.Keys[xks.BlockedKey{KeyStore: store, Key: "key-1"}] != want {
				t.Errorf("%s: %s is blocked: %t, want %t: %+v", name, store, !want, want, b)
			}
		}
		k.flush(t)
		current, _ := k.List()
		if after, _ := mustOpen(t, directory).List(); fmt.Sprint(after) != fmt.Sprint(current) {
			t.Errorf("%s: after a restart %+v, before %+v", name, after, current)
		}
	}
}

// A block by CKA_LABEL is of no key store; and one that was forced for a key store that there is
// not yet learns its path.
func TestBlocksThatFollowNothing(t *testing.T) {
	k := mustOpen(t, "")
	mustAdd(t, k, blockOf("", "label"))
	mustAdd(t, k, blockOf("later", ""))
	for _, next := range []map[string]string{
		storesAt("tax", ""), storesAt("later", "/l"), storesAt("now", "/l"),
	} {
		if err := k.Follow(next, zap.NewNop(), served); err != nil {
			t.Fatal(err)
		}
	}
	blocks, _ := k.List()
	if _, found := findBlock(blocks, BlockTarget{KeyStore: "now"}); !found || len(blocks) != 3 {
		t.Errorf("%+v", blocks)
	}
}

func TestTooManyBlocksToFollow(t *testing.T) {
	k := mustOpen(t, "")
	for i := range maxBlocks {
		b := blockOf("payroll", fmt.Sprintf("key-%d", i))
		b.URIPath = xks.URIPath("/p")
		k.blocks = append(k.blocks, b)
	}
	err := k.Follow(storesAt("wages", "/p"), zap.NewNop(), served)
	if blocks, _ := k.List(); !errors.Is(err, ErrTooManyBlocks) || len(blocks) != maxBlocks {
		t.Errorf("%v, %d blocks", err, len(blocks))
	}
}

package test

// Keys as pkcs11-tool and other programs make them: CKA_IDs that are not four bytes, numbers that
// are nobody's version, labels that are not text.

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"xks-proxy/pkg/hsm/pkcs11"
)

// oddKey is an AES-256 key with any CKA_ID.
func oddKey(label string, id ...byte) pkcs11.NewKey {
	return pkcs11.NewKey{Label: label, ID: id, Value: randomBytes(32)}
}

func (p *pair) createOdd(t *testing.T, keys ...pkcs11.NewKey) {
	t.Helper()
	p.A.createOdd(t, keys...)
	p.B.createOdd(t, keys...)
}

// keyRow is a row of `keys list --json`.
type keyRow struct {
	Label      string
	LabelBytes []byte
	Version    *uint32
	State      string
	Encrypts   bool
	Notes      []string
}

func (p *proxy) keyRows(t testing.TB, args ...string) []keyRow {
	t.Helper()
	args = append([]string{"keys", "list", "--json", "--config", p.file}, args...)
	stdout, stderr, code := command(t, args...)
	if code != 0 {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	var answer struct{ Keys []keyRow }
	err := json.Unmarshal([]byte(stdout), &answer)
	if err != nil {
		t.Fatal(err)
	}
	return answer.Keys
}

// waitState waits until a version of a key is shown in a state, and returns what is said of it.
func (p *proxy) waitState(t testing.TB, label string, version uint32, state string) string {
	t.Helper()
	notes := ""
	eventually(t, catalogueLimit, func() error {
		rows := p.keyRows(t, "--label", label)
		for _, row := range rows {
			if row.Version != nil && *row.Version == version && row.State == state {
				notes = strings.Join(row.Notes, "; ")
				return nil
			}
		}
		return fmt.Errorf("%s version %d is not %s: %+v", label, version, state, rows)
	})
	return notes
}

func (p *proxy) refresh(t testing.TB) {
	t.Helper()
	_, stderr, code := command(t, "hsm", "refresh", "--config", p.file)
	if code != 0 {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
}

// --id 01, and later --id 02, as every tutorial writes: old data is decrypted before and after,
// also when the operator then has CKA_ID read as a number (D2).
func TestSecondKeyWithAShortID(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	p.world.createOdd(t, oddKey("tutorial", 1))
	p.refresh(t)
	notes := p.waitState(t, "tutorial", 0, "doubtful")
	if !strings.Contains(notes, "CKA_ID 0x01") || !strings.Contains(notes, "key_version id") {
		t.Errorf("the notes are %q", notes)
	}
	c := p.client(t, http1)
	before := c.encrypt(t, "tutorial", encryptBody([]byte("before"), nil))
	p.world.createOdd(t, oddKey("tutorial", 2))
	p.refresh(t)
	p.waitState(t, "tutorial", 0, "doubtful")
	readsBefore := func(c *client) {
		t.Helper()
		for range 10 { // whichever HSM is asked first
			if got := c.decrypt(t, "tutorial", before, nil); string(got) != "before" {
				t.Errorf("decrypted to %q", got)
			}
		}
	}
	readsBefore(c)
	refused := c.post(t, encryptURI("tutorial"), encryptBody([]byte("x"), nil))
	refused.wantError(t, 500, "InternalException")
	p.stop(t)

	p = p.world.start(t, func(s *settings) { s.Group["key_version"] = "id" })
	p.waitState(t, "tutorial", 1, "complete")
	p.waitState(t, "tutorial", 2, "complete")
	c = p.client(t, http1)
	readsBefore(c)
	after := c.encrypt(t, "tutorial", encryptBody([]byte("after"), nil))
	if got := c.decrypt(t, "tutorial", after, nil); string(got) != "after" {
		t.Errorf("decrypted to %q", got)
	}
	p.wantHealthy(t)
}

// A CKA_ID that some program made up outranks every later version: that is reported.
func TestAlienID(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil, newKey("alien", 1))
	p.world.createOdd(t, oddKey("alien", 0xf0, 0xf1, 0xf2, 0xf3))
	p.refresh(t)
	notes := p.waitState(t, "alien", 4042388211, "doubtful")
	if !strings.Contains(notes, "far above the next lower version 1") {
		t.Errorf("the notes are %q", notes)
	}
	p.waitState(t, "alien", 1, "complete")
	stdout, _, _ := command(t, "hsm", "list", "--config", p.file)
	if !strings.Contains(stdout, "implausible version: \"alien\" version 4042388211") {
		t.Errorf("hsm list:\n%s", stdout)
	}
}

// Labels are compared byte for byte: neither a NUL at the end nor bytes that are not UTF-8 make two
// keys one, on the way from the HSM's process, in the state directory, or for a script.
func TestOddLabels(t *testing.T) {
	t.Parallel()
	odd := []string{"odd\x00", "odd", "odd\xff", "odd\xfe"}
	p := newProxy(t, func(s *settings) { s.State = "state" })
	for i, label := range odd {
		p.world.createOdd(t, oddKey(label, 0, 0, 0, byte(i+1)))
	}
	p.refresh(t)
	check := func() {
		t.Helper()
		var got []string
		for _, row := range p.keyRows(t, "--label", "odd*") {
			label := row.Label
			if len(row.LabelBytes) > 0 {
				label = string(row.LabelBytes)
			}
			got = append(got, fmt.Sprintf("%q %d %s", label, *row.Version, row.State))
		}
		want := []string{
			`"odd" 2 complete`, `"odd\x00" 1 complete`, `"odd\xfe" 4 complete`, `"odd\xff" 3 complete`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	check()
	c := p.client(t, http1)
	sealed := c.encrypt(t, "odd", encryptBody([]byte("plain"), nil))
	p.stop(t)
	p = p.world.start(t, func(s *settings) { s.State = "state" })
	check()
	if got := p.client(t, http1).decrypt(t, "odd", sealed, nil); string(got) != "plain" {
		t.Errorf("decrypted to %q", got)
	}
	stdout, _, _ := command(t, "keys", "list", "--label", "odd*", "--config", p.file)
	if !strings.Contains(stdout, `"odd\x00"`) || !strings.Contains(stdout, `"odd\xff"`) {
		t.Errorf("keys list:\n%s", stdout)
	}
}

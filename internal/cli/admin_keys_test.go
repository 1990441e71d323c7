package cli

// `keys list` and `hsm refresh` over a real socket, on HSMs in memory.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/config"
	"xks-proxy/internal/testkit"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/hsmtest"
)

// newKeyRig has a key of every state in the group main, and key stores that reach some of them.
func newKeyRig(t *testing.T) *adminRig {
	rig := newAdminRig(t)
	a, b := rig.tokens["hsm-a"], rig.tokens["hsm-b"]
	for _, token := range []*hsmtest.Token{a, b} {
		token.AddKey("finance-1", 1)
		token.AddKey("finance-1", 2)
		doubtful := hsmtest.Object("finance-id01", 0)
		doubtful.ID = []byte{1}
		token.AddObject(doubtful, bytes.Repeat([]byte{7}, 32))
		token.AddKey("nul\x00", 1)
		token.AddKey("\xff", 1)
		token.AddKey("\xfe", 1)
	}
	a.AddKey("finance-1", 3)
	a.AddKey("payroll-"+strings.Repeat("long-", 20)+"end", 1)
	weaker := hsmtest.Object("differs", 1)
	a.AddObject(weaker, bytes.Repeat([]byte{8}, 32))
	weaker.Usage = hsm.CanDecrypt
	b.AddObject(weaker, bytes.Repeat([]byte{8}, 32))
	more := hsmtest.Object("vendor", 1)
	a.AddObject(more, bytes.Repeat([]byte{9}, 32))
	more.Usage |= hsm.CanSign | hsm.CanDerive
	b.AddObject(more, bytes.Repeat([]byte{9}, 32))
	a.AddObject(hsm.Object{Label: "rsa", Class: hsm.PublicKey, KeyType: "RSA", Bits: 2048, Usage: hsm.CanVerify}, nil)
	rig.admin.Running = func() *config.Config {
		return &config.Config{KeyStores: []config.KeyStore{
			{Name: "finance", HSMGroup: "main", Keys: config.Keys{Labels: []string{"finance-*"}, Label: "finance-{key_id}"}},
			{Name: "all", HSMGroup: "main", Keys: config.Keys{Labels: []string{"*"}, Label: "{key_id}"}},
			{Name: "elsewhere", HSMGroup: "other", Keys: config.Keys{Labels: []string{"*"}, Label: "{key_id}"}},
		}}
	}
	for range 2 { // differences stand after every HSM was listed once more
		rig.want(t, 0, "hsm-a (group main): ", "refresh")
	}
	return rig
}

func (rig *adminRig) keys(t *testing.T, args ...string) (string, string, int) {
	t.Helper()
	return execute(t, append([]string{"keys", "list", "--socket", rig.socket}, args...)...)
}

func TestKeysList(t *testing.T) {
	rig := newKeyRig(t)
	for name, args := range map[string][]string{
		"keys-list":            {"--group", "main"},
		"keys-list-store":      {"--key-store", "finance"},
		"keys-list-attributes": {"--group", "main", "--label", "[fv]*", "--attributes"},
		"keys-list-missing":    {"--state", "missing"},
		"keys-list-none":       {"--label", "nothing-*"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := rig.keys(t, args...)
			if code != 0 || stderr != "" {
				t.Fatalf("exit code %d, %s", code, stderr)
			}
			testkit.CheckGolden(t, testkit.CLIGolden(name), []byte(stdout))
		})
	}
	for want, args := range map[string][]string{
		`xks-proxy: key store "finanse" does not exist; did you mean "finance"?`:                                 {"--key-store", "finanse"},
		`xks-proxy: HSM group "zzzzzzzzz" does not exist; known: main, other`:                                    {"--group", "zzzzzzzzz"},
		`xks-proxy: state "good" does not exist; known: differs, doubtful, missing, unusable, unknown, complete`: {"--state", "good"},
		`xks-proxy: label pattern "[a": syntax error in pattern`:                                                 {"--label", "[a"},
	} {
		_, stderr, code := rig.keys(t, args...)
		if code != 1 || stderr != want+"\n" {
			t.Errorf("%v: exit code %d, %s", args, code, stderr)
		}
	}
}

// Labels that JSON has no text for stay apart on their way to a script.
func TestKeysAsJSON(t *testing.T) {
	rig := newKeyRig(t)
	stdout, stderr, code := rig.keys(t, "--json", "--group", "main")
	if code != 0 {
		t.Fatal(stderr)
	}
	var answer api.KeyAnswer
	err := json.Unmarshal([]byte(stdout), &answer)
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]catalogue.KeyState{}
	for _, k := range answer.Keys {
		if k.Version != nil {
			states[fmt.Sprintf("%s %d", k.ExactLabel(), *k.Version)] = k.State
		}
	}
	for key, want := range map[string]catalogue.KeyState{
		"finance-1 2": catalogue.KeyComplete, "finance-1 3": catalogue.KeyIsMissing, "finance-id01 0": catalogue.KeyDoubtful, "differs 1": catalogue.KeyDiffers,
		"vendor 1": catalogue.KeyComplete, "nul\x00 1": catalogue.KeyComplete, "\xff 1": catalogue.KeyComplete, "\xfe 1": catalogue.KeyComplete,
	} {
		if states[key] != want {
			t.Errorf("%q is %q, not %q", key, states[key], want)
		}
	}
}

// 80 columns on a terminal, and whole lines in a pipe.
func TestKeysFitTheTerminal(t *testing.T) {
	rig := newKeyRig(t)
	answer, err := rig.admin.Keys(api.KeyQuery{})
	if err != nil {
		t.Fatal(err)
	}
	narrow, wide := text.NewPage(80), text.NewPage(0)
	printKeys(narrow, answer, false)
	printKeys(wide, answer, false)
	for line := range strings.Lines(narrow.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	label := "payroll-" + strings.Repeat("long-", 20) + "end"
	if !strings.Contains(wide.String(), label+"       1   missing") || strings.Contains(narrow.String(), label) ||
		!strings.Contains(narrow.String(), label[:30]) {
		t.Errorf("narrow:\n%swide:\n%s", narrow.String(), wide.String())
	}
}

// What 10,000 keys cost the proxy, and the command.
func TestTenThousandKeysListed(t *testing.T) {
	rig := newAdminRig(t)
	for i := range 10_000 {
		rig.tokens["hsm-a"].AddKey(fmt.Sprintf("key-%05d", i), 1)
		rig.tokens["hsm-b"].AddKey(fmt.Sprintf("key-%05d", i), 1)
	}
	rig.want(t, 0, "hsm-a (group main): 10002 keys, listed in ", "refresh", "hsm-a")
	rig.want(t, 0, "hsm-b (group main): 10002 keys, listed in ", "refresh", "hsm-b")
	start := time.Now()
	_, err := rig.admin.Keys(api.KeyQuery{})
	if err != nil {
		t.Fatal(err)
	}
	gathered := time.Since(start)
	start = time.Now()
	stdout, stderr, code := rig.keys(t, "--group", "main")
	listed := time.Since(start)
	if code != 0 || strings.Count(stdout, "complete") < 10_000 {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	text, _, _ := rig.keys(t, "--json")
	t.Logf("gathered in %v, listed in %v, %d bytes of JSON", gathered, listed, len(text))
	if listed > 10*time.Second {
		t.Errorf("listing took %v", listed)
	}
}

func TestRefresh(t *testing.T) {
	rig := newAdminRig(t)
	rig.want(t, 0, "hsm-a (group main): 2 keys, listed in ", "refresh", "hsm-a")
	for i := range 7 {
		rig.tokens["hsm-a"].AddKey(fmt.Sprint("new-", i), 1)
	}
	rig.tokens["hsm-a"].AddKey("key", 2)
	stdout, _, code := rig.run(t, "refresh", "hsm-a")
	for _, part := range []string{"9 keys", "new: new-0, new-1, new-2, new-3, new-4 and 2 more", "changed: key."} {
		if code != 0 || !strings.Contains(stdout, part) {
			t.Errorf("exit code %d, %q does not say %q", code, stdout, part)
		}
	}
	rig.tokens["hsm-a"].RemoveKey("new-3")
	stdout, _, _ = rig.run(t, "refresh")
	for _, part := range []string{"hsm-a (group main): 8 keys", "gone: new-3.", "hsm-b (group main): 2 keys", "hsm-b (group other)", "hsm-c (group other)", "nothing has changed."} {
		if !strings.Contains(stdout, part) {
			t.Errorf("%q does not say %q", stdout, part)
		}
	}
	rig.want(t, 1, `xks-proxy: no HSM group has an HSM named "hsm-d"; did you mean "hsm-a"?`, "refresh", "hsm-d")
	rig.tokens["hsm-a"].SetHook(func(_ context.Context, op hsmtest.Op, _ hsm.KeyRef) error {
		return &hsm.Error{Op: string(op), Kind: hsm.ErrUnavailable, Detail: "unplugged"}
	})
	rig.want(t, 1, "xks-proxy: hsm-a (group main): its keys cannot be listed: keys: the HSM is not available: unplugged", "refresh", "hsm-a")
}

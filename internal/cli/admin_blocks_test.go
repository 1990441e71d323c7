package cli

// block and unblock as commands, over a real socket.

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/killswitch"
	"xks-proxy/internal/testkit"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/xks"
)

// wantSaid runs a command line for the rig's proxy and compares the exit code and all that it prints, times and users left out.
func (rig *adminRig) wantSaid(t *testing.T, code int, want string, args ...string) {
	t.Helper()
	stdout, stderr, got := execute(t, append(args, "--socket", rig.socket)...)
	said := regexp.MustCompile(`by \S+ at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`).ReplaceAllString(stdout+stderr, "by USER at TIME")
	if got != code || strings.TrimSpace(said) != want {
		t.Errorf("%s: exit code %d, want %d:\n%swant\n%s", strings.Join(args, " "), got, code, said, want)
	}
}

func TestBlockAndUnblockAKeyStore(t *testing.T) {
	rig := newAdminRig(t)
	rig.wantSaid(t, 0, "The key store finance is blocked: from now on all its requests are answered InvalidStateException.",
		"block", "key-store", "finance", "--reason", "case 4711")
	if !rig.blocked().KeyStores["finance"] {
		t.Fatal("answered, and not in effect")
	}
	if !strings.Contains(testkit.ReadFile(t, rig.killPath()), "finance") {
		t.Error("answered, and not remembered")
	}
	rig.wantSaid(t, 0, "The key store finance was blocked already, by USER at TIME (case 4711). That block stays in effect.", "block", "key-store", "finance", "--reason", "another")
	rig.wantSaid(t, 0, "The block of the key store finance by USER at TIME (case 4711) was removed.", "unblock", "key-store", "finance")
	if len(rig.blocked().KeyStores) != 0 || strings.Contains(testkit.ReadFile(t, rig.killPath()), "finance") {
		t.Error("it stays blocked")
	}
	rig.wantSaid(t, 0, "The key store finance is not blocked; nothing was changed.", "unblock", "key-store", "finance")
}

func TestBlockAKey(t *testing.T) {
	rig := newAdminRig(t)
	rig.wantSaid(t, 0, `The key with the label "key" is blocked in every key store: from now on Encrypt and Decrypt are answered InvalidStateException.`, "block", "key", "key")
	rig.wantSaid(t, 0, `The key key of key store finance is blocked: from now on Encrypt and Decrypt are answered InvalidStateException.`, "block", "key", "key", "--key-store", "finance")
	if b := rig.blocked(); len(b.Keys) != 2 || !b.Keys[xks.BlockedKey{Key: "key"}] || !b.Keys[xks.BlockedKey{KeyStore: "finance", Key: "key"}] {
		t.Errorf("in effect: %+v", b)
	}
	rig.wantSaid(t, 0, `The key with the label "nowhere" is blocked in every key store: from now on Encrypt and Decrypt are answered InvalidStateException.
Note: no HSM lists a key of the label "nowhere" now; it is blocked anyway.`, "block", "key", "nowhere")
	rig.wantSaid(t, 0, `The key 1 of key store payroll is blocked: from now on Encrypt and Decrypt are answered InvalidStateException.
Note: no HSM lists a key of the label "payroll-1" now; it is blocked anyway.`, "block", "key", "1", "--key-store", "payroll")
	rig.wantSaid(t, 1, `xks-proxy: The block of the key key of key store finance by USER at TIME was removed; it stays blocked: the key with the label "key" is blocked by USER at TIME`,
		"unblock", "key", "key", "--key-store", "finance")
	rig.wantSaid(t, 0, `The key with the label "Key" is not blocked; nothing was changed. Blocked are: key with the label "key"; key with the label "nowhere"; key 1 of key store payroll.`, "unblock", "key", "Key")
}

// What is blocked in the configuration stays blocked, and unblock says where.
func TestUnblockWhatTheConfigurationBlocks(t *testing.T) {
	rig := newAdminRig(t)
	const place = "the configuration has blocked: true at xks-proxy.yaml:40:14: key_stores[2].blocked; change it there and reload"
	rig.wantSaid(t, 1, "xks-proxy: The key store archive had no block of its own; it stays blocked: "+place, "unblock", "key-store", "archive")
	rig.wantSaid(t, 0, "The key store archive is blocked: from now on all its requests are answered InvalidStateException.", "block", "key-store", "archive")
	rig.wantSaid(t, 1, "xks-proxy: The block of the key store archive by USER at TIME was removed; it stays blocked: "+place, "unblock", "key-store", "archive")
	rig.wantSaid(t, 1, "xks-proxy: The key old of key store payroll had no block of its own; it stays blocked: the configuration disables the key at xks-proxy.yaml:30:16: key_stores[1].keys.disabled; change it there and reload",
		"unblock", "key", "old", "--key-store", "payroll")
}

func TestBlockAnUnknownKeyStore(t *testing.T) {
	rig := newAdminRig(t)
	rig.wantSaid(t, 1, `xks-proxy: there is no key store "finanec"; did you mean "finance"? Nothing was blocked; --force blocks it anyway, for when a reload adds it`, "block", "key-store", "finanec")
	rig.wantSaid(t, 1, `xks-proxy: there is no key store "x"; known: finance, payroll, archive. Nothing was blocked; --force blocks it anyway, for when a reload adds it`, "block", "key", "a", "--key-store", "x")
	rig.wantSaid(t, 1, `xks-proxy: there is no key store "finanec", and no block of that name; did you mean "finance"?`, "unblock", "key-store", "finanec")
	if b := rig.blocked(); len(b.KeyStores)+len(b.Keys) != 0 {
		t.Errorf("in effect: %+v", b)
	}
	rig.wantSaid(t, 0, "The key store later is blocked: from now on all its requests are answered InvalidStateException.\nNote: this key store does not exist now; it will be blocked when a reload adds it.", "block", "key-store", "later", "--force")
	if !rig.blocked().KeyStores["later"] {
		t.Error("not in effect")
	}
}

// The disk fails: blocked anyway, exit code 1, and both are said. Unblocking is refused instead.
func TestBlockWithoutADisk(t *testing.T) {
	rig := newAdminRig(t)
	rig.wantSaid(t, 0, "The key store finance is blocked: from now on all its requests are answered InvalidStateException.", "block", "key-store", "finance")
	rig.admin.Kill.Write = func(string, []byte) error { return errors.New("no space left on device") }
	rig.wantSaid(t, 1, "xks-proxy: the key store payroll IS BLOCKED now, but the block will not survive a restart: no space left on device; fix that, then give the same command again to check", "block", "key-store", "payroll")
	rig.wantSaid(t, 1, "xks-proxy: the key store finance stays blocked, because its block cannot be taken out of the file: no space left on device; what a restart would block is not certain until the file can be written; fix that and give the same command again", "unblock", "key-store", "finance")
	if b := rig.blocked(); !b.KeyStores["payroll"] || !b.KeyStores["finance"] {
		t.Errorf("in effect: %+v", b)
	}
}

func TestBlockWithoutAStateDirectory(t *testing.T) {
	rig := newAdminRig(t)
	rig.admin.Kill = killswitch.New("", nil, rig.admin.Log)
	rig.admin.Kill.Attach(&rig.held)
	rig.wantSaid(t, 0, "The key store finance is blocked: from now on all its requests are answered InvalidStateException.\nWARNING: this block will NOT survive a restart of the proxy, because state_directory is \"\". Block it in the configuration too.", "block", "key-store", "finance")
}

// Blocks do not wait for HSMs.
func TestBlockWhileTheProxyStarts(t *testing.T) {
	rig := newAdminRig(t)
	rig.admin.Groups = func() []*group.Group { return nil }
	kill, err := killswitch.Open(t.TempDir(), rig.admin.Log)
	if err != nil {
		t.Fatal(err)
	}
	defer kill.Close()
	rig.admin.Kill = kill // it has no handler yet
	rig.wantSaid(t, 0, `The key with the label "key" is blocked in every key store: from now on Encrypt and Decrypt are answered InvalidStateException.
Note: the proxy is starting; whether an HSM has such a key is not known yet.`, "block", "key", "key")
	rig.admin.Kill.Attach(&rig.held)
	if !rig.blocked().Keys[xks.BlockedKey{Key: "key"}] {
		t.Error("the handler began without the block")
	}
}

func TestBlockUsage(t *testing.T) {
	rig := newAdminRig(t)
	for args, want := range map[string]string{
		"block key-store":                                              "which key store? Give its name: xks-proxy block key-store NAME [flags]",
		"block key-store a b":                                          "one at a time, not 2; a reason of several words needs quotes",
		"block key-store a/b":                                          `"a/b" is not a key store name: 1 to 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit`,
		"block key a/b --key-store finance":                            `"a/b" is not an external key id: 1 to 128 letters, digits, dots, dashes and underscores. Without --key-store it would be a CKA_LABEL`,
		"block key a --key-store=":                                     "--key-store is empty; without it KEY is a CKA_LABEL",
		"block key-store finance --reason a\x1b[2J":                    "a reason is one line of UTF-8 without control characters",
		"block key a\u202eb":                                           "a CKA_LABEL to block has at most 255 bytes of UTF-8 and no control characters",
		"block key-store finance --reason " + strings.Repeat("x", 501): "a reason has at most 500 bytes, not 501",
		"unblock key-store finance --force":                            "unknown flag: --force",
	} {
		_, stderr, code := execute(t, append(strings.Split(args, " "), "--socket", rig.socket)...)
		if code != 2 || !strings.HasPrefix(stderr, "xks-proxy: "+want+"\nTry: ") {
			t.Errorf("%s: exit code %d: %s", args, code, stderr)
		}
	}
	for _, query := range []url.Values{
		{}, {"key_store": {"a b"}}, {"key_store": {"finance"}, "reason": {"a\nb"}}, {"key_store": {"finance"}, "force": {"perhaps"}}, {"key": {strings.Repeat("k", 256)}},
	} {
		for _, method := range []string{http.MethodPost, http.MethodDelete} {
			_, _, err := api.NewClient(rig.socket).Change(t.Context(), method, api.BlocksPath, query, api.Patience)
			if err == nil {
				t.Errorf("%s %v was taken", method, query)
			}
		}
	}
	if b := rig.blocked(); len(b.KeyStores)+len(b.Keys) != 0 {
		t.Errorf("in effect: %+v", b)
	}
}

// A configuration with a mistake finds the proxy anyway; only one that hides the socket does not.
func TestBlockWithABadConfiguration(t *testing.T) {
	rig := newAdminRig(t)
	testkit.ConfigDir(t)
	t.Setenv(schema.ConfigVariable, "")
	testkit.WriteFile(t, "bad.yaml", "admin: {socket: "+rig.socket+"}\n"+testkit.ValidConfig(t, "hsm_group: main", "hsm_group: mian"), 0o644)
	stdout, stderr, code := execute(t, "block", "key-store", "finance", "--config", "bad.yaml")
	if code != 0 || !rig.blocked().KeyStores["finance"] {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	for _, text := range []string{"admin: {socket: 5, sokcet: 6}\n" + testkit.ValidConfig(t), "admin: {socket: [a]}\n" + testkit.ValidConfig(t), "x: [\n"} {
		testkit.WriteFile(t, "bad.yaml", text, 0o644)
		_, stderr, code = execute(t, "block", "key-store", "finance", "--config", "bad.yaml")
		if code != 1 || !strings.Contains(stderr, "bad.yaml:") && !strings.Contains(stderr, "xks-proxy is not running") {
			t.Errorf("%q: exit code %d: %s", text, code, stderr)
		}
	}
}

// Each order is a warning in the log: what, why, who and what came of it.
func TestBlocksAreAudited(t *testing.T) {
	rig := newAdminRig(t)
	for _, args := range [][]string{
		{"block", "key-store", "finance", "--reason", "case 4711"},
		{"unblock", "key-store", "finance", "--reason", "closed"},
		{"block", "key", "a", "--key-store", "nowhere"},
	} {
		execute(t, append(args, "--socket", rig.socket)...)
	}
	lines := rig.log.FilterMessage("admin").All()
	if len(lines) != 3 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, want := range []map[string]any{
		{"order": "block", "what": "key store finance", "reason": "case 4711", "result": "done"},
		{"order": "unblock", "what": "key store finance", "reason": "closed", "result": "done"},
		{"order": "block", "what": "key a of key store nowhere", "reason": ""},
	} {
		want["uid"], want["gid"], want["pid"] = int64(os.Getuid()), int64(os.Getgid()), int64(os.Getpid())
		got := lines[i].ContextMap()
		for key, value := range want {
			if got[key] != value {
				t.Errorf("line %d: %s is %v, want %v", i, key, got[key], value)
			}
		}
		if lines[i].Level != zap.WarnLevel {
			t.Errorf("line %d: level %s", i, lines[i].Level)
		}
	}
	if result, _ := lines[2].ContextMap()["result"].(string); !strings.Contains(result, "there is no key store") {
		t.Errorf("the refusal's result is %q", result)
	}
}

func TestBlockList(t *testing.T) {
	rig := newAdminRig(t)
	rig.wantSaid(t, 0, "The key store finance is blocked: from now on all its requests are answered InvalidStateException.", "block", "key-store", "finance", "--reason", "case 4711")
	stdout, _, code := execute(t, "block", "list", "--json", "--socket", rig.socket)
	var list api.BlockList
	err := json.Unmarshal([]byte(stdout), &list)
	if code != 0 || err != nil || len(list.Blocks) != 1 || list.Blocks[0].KeyStore != "finance" || list.Blocks[0].Reason != "case 4711" ||
		list.Blocks[0].UID != os.Getuid() || time.Since(list.Blocks[0].Since) > time.Hour || !list.Survive ||
		len(list.Configured) != 1 || list.Configured[0].KeyStore != "archive" {
		t.Errorf("exit code %d, %v: %s", code, err, stdout)
	}
	now := time.Date(2026, 11, 25, 6, 30, 0, 0, time.UTC)
	long := aliceBlocks("finance", "key-"+strings.Repeat("0123456789", 12))
	long.Reason = strings.Repeat("because ", 60)
	list = api.BlockList{Blocks: []killswitch.Block{aliceBlocks("finance", ""), aliceBlocks("", "finance-payroll-production"), long}, Configured: list.Configured, Unsaved: "no space left on device"}
	testkit.CheckPage(t, "block-list", func(p *text.Page) { printBlocks(p, list, now) })
	p := text.NewPage(80)
	printBlocks(p, api.BlockList{Survive: true}, now)
	if p.String() != "Nothing is blocked.\n" {
		t.Error(p.String())
	}
}

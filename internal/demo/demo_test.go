package demo

// The demo as a user meets it: the real program, on real SoftHSM tokens, over HTTPS.

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"xks-proxy/internal/config"
	"xks-proxy/internal/testkit"
	"xks-proxy/internal/xksclient"
)

// TestDemo is the life of a demo: made, asked, stopped, started again, killed.
func TestDemo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's a demo") // a name that shells and YAML trip over
	demo := startDemo(t, "--dir", dir, "--listen", "127.0.0.1:0", "--keys", "3")
	for _, part := range []string{"hsm-a        new token with 8 keys", "hsm-a ACTIVE, hsm-b ACTIVE", "demo-key-1: AES_256, ENABLED, ENCRYPT DECRYPT",
		"key version 2", `"Hello HSM!" again`, "the integrity value of the answer is right", "vendor's own means",
		"HSMs           main: 2 of 2 in service", "enabled         6"} {
		if !strings.Contains(demo.stdout, part) {
			t.Errorf("it did not print %q but\n%s", part, demo.stdout)
		}
	}
	program, err := testkit.Program()
	if err != nil {
		t.Fatal(err)
	}
	// In a pipe, status does not fit its lines to any width.
	before, status, _ := strings.Cut(demo.stdout, "\n$ ")
	_, after, _ := strings.Cut(status, "\nTry it yourself")
	for line := range strings.Lines(before + after) {
		if len([]rune(line)) > 81 && !strings.Contains(line, dir) && !strings.Contains(line, filepath.Dir(filepath.Dir(program))) {
			t.Errorf("wider than 80 columns: %s", line)
		}
	}
	to := readDemo(t, dir)
	for _, secret := range demoSecrets(t, dir, to) {
		for _, printed := range []string{demo.stdout, testkit.ReadFile(t, filepath.Join(dir, "xks-proxy.log")), testkit.ReadFile(t, filepath.Join(dir, "xks-proxy.yaml"))} {
			if strings.Contains(printed, secret) {
				t.Error("a secret is printed or logged")
			}
		}
	}
	connection := filepath.Join(dir, "connection.json")

	t.Run("the lines for another terminal", func(t *testing.T) {
		lines := regexp.MustCompile(`(?s)\ncd .*?\n\n`).FindString(demo.stdout)
		shell := exec.CommandContext(t.Context(), "bash", "-e", "-o", "pipefail", "-c", lines)
		shell.Dir = "/"
		said, err := shell.Output()
		if err != nil {
			t.Fatalf("%s\nended with %v, after\n%s", lines, err, said)
		}
		for _, part := range []string{"2 of 2 in service", "hsm-b", "CDIV         32 bytes", `{"status":"ready"}`,
			`xks_proxy_requests_total{key_store="demo",operation="Decrypt",outcome="ok"} 1`} {
			if !strings.Contains(string(said), part) {
				t.Errorf("%s\ndo not show %q but\n%s", lines, part, said)
			}
		}
		var answer xksclient.EncryptAnswer
		last := said[bytes.LastIndex(bytes.TrimSpace(said), []byte("\n")):]
		if json.Unmarshal(last, &answer) != nil || len(answer.Ciphertext) != 5 {
			t.Errorf("curl printed %s", last)
		}
	})
	t.Run("request", func(t *testing.T) {
		sealed, stderr, code := testkit.RunProgram(t, "", "request", "encrypt", "--connection", connection, "--key", "demo-key-3", "--plaintext", "round trip", "--aad", "x", "--cdiv", "--json")
		if code != 0 {
			t.Fatal(stderr)
		}
		stdout, stderr, code := testkit.RunProgram(t, sealed, "request", "decrypt", "--connection", connection, "--key", "demo-key-3", "--aad", "x", "--http1")
		if code != 0 || !strings.Contains(stdout, "as text      round trip") {
			t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
		}
		_, stderr, code = testkit.RunProgram(t, sealed, "request", "decrypt", "--connection", connection, "--key", "demo-key-3", "--aad", "y")
		if code != 1 || !strings.Contains(stderr, "InvalidCiphertextException") {
			t.Errorf("other AAD: exit code %d, %s", code, stderr)
		}
		for key, usage := range map[string]string{"demo-key-1": "ENCRYPT, DECRYPT", to.SpecialKeys["encryptOnly"]: "ENCRYPT", to.SpecialKeys["decryptOnly"]: "DECRYPT", to.SpecialKeys["impotent"]: "WRAP"} {
			stdout, _, _ := testkit.RunProgram(t, "", "request", "metadata", "--connection", connection, "--key", key)
			if !strings.Contains(stdout, "key usage    "+usage+"\n") {
				t.Errorf("%s: want usage %s\n%s", key, usage, stdout)
			}
		}
		_, stderr, code = testkit.RunProgram(t, "", "request", "metadata", "--connection", connection, "--key", demoTestKey)
		if code != 1 || !strings.Contains(stderr, "KeyNotFoundException") {
			t.Errorf("H2: the proxy's own test key: exit code %d, %s", code, stderr)
		}
	})
	t.Run("a second demo in the directory", func(t *testing.T) {
		_, stderr, code := testkit.RunProgram(t, "", "demo", "--dir", dir, "--exit")
		if code != 1 || !strings.Contains(stderr, "another demo runs in") {
			t.Errorf("exit code %d, %s", code, stderr)
		}
	})
	t.Run("a port that is taken", func(t *testing.T) {
		other := filepath.Join(t.TempDir(), "other")
		_, stderr, code := testkit.RunProgram(t, "", "demo", "--dir", other, "--listen", to.Listen, "--exit")
		if code != 1 || stderr != "xks-proxy: another program listens on "+to.Listen+": stop it, or take a free port with --listen 127.0.0.1:0\n" {
			t.Errorf("exit code %d, %s", code, stderr)
		}
		_, stderr, code = testkit.RunProgram(t, "", "demo", "--dir", other, "--listen", "127.0.0.1:0", "--health-listen", to.Health, "--exit")
		if code != 1 || stderr != "xks-proxy: another program listens on "+to.Health+": stop it, or take a free port with --health-listen 127.0.0.1:0\n" {
			t.Errorf("the health port: exit code %d, %s", code, stderr)
		}
	})

	sealed, stderr, code := testkit.RunProgram(t, "", "request", "encrypt", "--connection", connection, "--plaintext", "kept", "--json")
	if code != 0 {
		t.Fatal(stderr)
	}
	rest, err := demo.end(t, syscall.SIGINT)
	if err != nil || rest != "\nStopping … stopped.\n" {
		t.Errorf("after Ctrl-C: %q, %v", rest, err)
	}
	wantNothingRunning(t, dir)

	t.Run("serve", func(t *testing.T) {
		stdout, stderr, code := testkit.RunProgram(t, "", "config", "check", filepath.Join(dir, "xks-proxy.yaml"))
		if code != 0 || stderr != "" {
			t.Errorf("config check: exit code %d\n%s%s", code, stdout, stderr)
		}
	})
	// The same keys, on the same port, two more of them, from a directory that was moved.
	moved := filepath.Join(t.TempDir(), "moved")
	err = os.Rename(dir, moved)
	if err != nil {
		t.Fatal(err)
	}
	connection = filepath.Join(moved, "connection.json")
	demo = startDemo(t, "--dir", moved, "--keys", "5")
	if !strings.Contains(demo.stdout, "hsm-a and hsm-b from the last run, with 2 more keys on both") || !strings.Contains(demo.stdout, to.Endpoint) {
		t.Errorf("the second run printed\n%s", demo.stdout)
	}
	stdout, stderr, code := testkit.RunProgram(t, sealed, "request", "decrypt", "--connection", connection)
	if code != 0 || !strings.Contains(stdout, "kept") {
		t.Errorf("what was encrypted before: exit code %d\n%s%s", code, stdout, stderr)
	}
	_, stderr, code = testkit.RunProgram(t, "", "request", "encrypt", "--connection", connection, "--key", "demo-key-5", "--plaintext", "new")
	if code != 0 {
		t.Errorf("a key that was added: %s", stderr)
	}
	if again := readDemo(t, moved); len(again.Keys) != 5 || again.Credential != to.Credential || again.CACertificate != filepath.Join(moved, "ca.crt") {
		t.Errorf("connection.json of the second run: %+v", again)
	}
	_, _ = demo.end(t, syscall.SIGKILL) // which is what is tested
	wantNothingRunning(t, moved)
	wantFree(t, to.Listen)

	// Unchanged: what the user edits in the configuration stays.
	testkit.AppendToFile(t, filepath.Join(moved, "xks-proxy.yaml"), "# mine\n")
	stdout, stderr, code = testkit.RunProgram(t, "", "demo", "--dir", moved, "--exit")
	if code != 0 || !strings.Contains(stdout, "All checks passed; the proxy is stopped.") || !strings.Contains(stdout, "(unchanged)") {
		t.Errorf("--exit: exit code %d\n%s%s", code, stdout, stderr)
	}
	if !strings.HasSuffix(testkit.ReadFile(t, filepath.Join(moved, "xks-proxy.yaml")), "# mine\n") {
		t.Error("an edited configuration was written anew without need")
	}
	wantNothingRunning(t, moved)
}

// TestDemoDirectory: modes, absolute paths, and what it says in connection.json.
func TestDemoDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	stdout, stderr, code := testkit.RunProgram(t, "", "demo", "--dir", dir, "--listen", "127.0.0.1:0", "--prepare-only")
	if code != 0 || !strings.Contains(stdout, "xks-proxy serve --config "+dir+"/xks-proxy.yaml") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	to := readDemo(t, dir)
	if to.URIPath != "/demo/kms/xks/v1" || to.Region != "us-east-1" || !strings.HasPrefix(to.Endpoint, "https://127.0.0.1:") || strings.HasSuffix(to.Endpoint, ":0") {
		t.Errorf("%+v", to)
	}
	if strings.Join(to.Keys, " ") != "demo-key-1 demo-key-2" || len(to.HSMs) != 2 {
		t.Errorf("keys %v, HSMs %+v", to.Keys, to.HSMs)
	}
	for i, name := range []string{"hsm-a", "hsm-b"} {
		h := to.HSMs[i]
		if h.Name != name || h.Token != name {
			t.Errorf("%+v", h)
		}
		for _, path := range []string{h.Module, h.SoftHSM2Conf, h.PINFile, to.CACertificate} {
			_, err := os.Stat(path)
			if !filepath.IsAbs(path) || err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if testkit.ReadFile(t, to.HSMs[0].PINFile) == testkit.ReadFile(t, to.HSMs[1].PINFile) {
		t.Error("both tokens have the same PIN")
	}
	c, warnings, err := config.Load(filepath.Join(dir, "xks-proxy.yaml"))
	if err != nil || len(warnings) > 0 || c.Server.Listen != to.Listen {
		t.Errorf("the configuration: %v, %v", warnings, err)
	}
}

// TestDemoRefuses: a directory of somebody else, a module that is none, an interrupted demo.
func TestDemoRefuses(t *testing.T) {
	foreign := t.TempDir()
	testkit.WriteFile(t, filepath.Join(foreign, "thesis.txt"), "mine", 0o600)
	for want, args := range map[string][]string{
		"is not empty and was not made by this demo": {"--dir", foreign},
		"invalid ELF header":                         {"--dir", filepath.Join(t.TempDir(), "a"), "--module", "/etc/passwd"},
		"/nowhere/x.so does not exist":               {"--dir", filepath.Join(t.TempDir(), "b"), "--module", "/nowhere/x.so"},
		"cannot listen on 192.0.2.1:1":               {"--dir", filepath.Join(t.TempDir(), "c"), "--listen", "192.0.2.1:1"},
	} {
		args = append([]string{"demo", "--exit", "--listen", "127.0.0.1:0"}, args...)
		_, stderr, code := testkit.RunProgram(t, "", args...)
		if code != 1 || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: exit code %d, %s\nwant 1 and %q", args, code, stderr, want)
		}
	}
	entries, err := os.ReadDir(foreign)
	if err != nil || len(entries) != 1 {
		t.Errorf("the foreign directory was changed: %v, %v", entries, err)
	}

	dir := filepath.Join(t.TempDir(), "demo")
	_, _, code := testkit.RunProgram(t, "", "demo", "--dir", dir, "--listen", "127.0.0.1:0", "--module", "/etc/passwd", "--exit")
	if code != 1 {
		t.Fatal("a text file was taken for a module")
	}
	_, stderr, code := testkit.RunProgram(t, "", "demo", "--dir", dir, "--listen", "127.0.0.1:0", "--exit")
	if code != 0 {
		t.Errorf("after a demo that was not finished: exit code %d, %s", code, stderr)
	}
	for _, missing := range []string{"connection.json", "hsm-a"} {
		err := os.Rename(filepath.Join(dir, missing), dir+"-away")
		if err != nil {
			t.Fatal(err)
		}
		_, stderr, code := testkit.RunProgram(t, "", "demo", "--dir", dir, "--exit")
		err = os.Rename(dir+"-away", filepath.Join(dir, missing))
		if err != nil {
			t.Fatal(err)
		}
		if code != 1 || !strings.Contains(stderr, "delete "+dir+" and start anew") {
			t.Errorf("without %s: exit code %d, %s", missing, code, stderr)
		}
	}
}

// TestDemoManyKeys: they are made in memory, and nothing is left there.
func TestDemoManyKeys(t *testing.T) {
	before := staged(t)
	dir := filepath.Join(t.TempDir(), "demo")
	stdout, stderr, code := testkit.RunProgram(t, "", "demo", "--dir", dir, "--listen", "127.0.0.1:0", "--keys", "150", "--exit")
	if code != 0 || !strings.Contains(stdout, "new token with 155 keys") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if after := staged(t); after > before {
		t.Errorf("%d directories are left in %s", after-before, demoStageDirectory)
	}
}

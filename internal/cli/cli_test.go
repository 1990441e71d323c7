package cli

// The command line: help, exit codes, what goes where.

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/testkit"
	"xks-proxy/internal/text"
	"xks-proxy/internal/version"
)

// execute runs a command line.
func execute(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errors bytes.Buffer
	code = Run(t.Context(), args, strings.NewReader(""), &out, &errors)
	return out.String(), errors.String(), code
}

func TestHelp(t *testing.T) {
	for name, args := range map[string][]string{
		"help":                    nil,
		"help-config":             {"config"},
		"help-config-check":       {"config", "check", "--help"},
		"help-config-show":        {"help", "config", "show"},
		"help-config-reference":   {"config", "reference", "--help"},
		"help-config-example":     {"config", "example", "--help"},
		"help-config-schema":      {"config", "schema", "--help"},
		"help-version":            {"version", "--help"},
		"help-credentials":        {"credentials"},
		"help-hsm":                {"hsm"},
		"help-hsm-list":           {"hsm", "list", "--help"},
		"help-hsm-drain":          {"hsm", "drain", "--help"},
		"help-hsm-resume":         {"hsm", "resume", "--help"},
		"help-hsm-restart":        {"hsm", "restart", "--help"},
		"help-hsm-refresh":        {"hsm", "refresh", "--help"},
		"help-keys":               {"keys"},
		"help-keys-list":          {"keys", "list", "--help"},
		"help-hsm-test-key":       {"hsm", "create-test-key", "--help"},
		"help-hsm-probe":          {"hsm", "probe", "--help"},
		"help-policy":             {"policy"},
		"help-policy-check":       {"policy", "check", "--help"},
		"help-policy-test":        {"policy", "test", "--help"},
		"help-credentials-new":    {"credentials", "new", "--help"},
		"help-credentials-export": {"credentials", "export", "--help"},
		"help-credentials-list":   {"credentials", "list", "--help"},
		"help-status":             {"status", "--help"},
		"help-block":              {"block"},
		"help-block-key":          {"block", "key", "--help"},
		"help-block-key-store":    {"block", "key-store", "--help"},
		"help-block-list":         {"block", "list", "--help"},
		"help-unblock":            {"unblock"},
		"help-unblock-key":        {"unblock", "key", "--help"},
		"help-unblock-key-store":  {"unblock", "key-store", "--help"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := execute(t, args...)
			if code != 0 || stderr != "" {
				t.Errorf("exit code %d, stderr %q", code, stderr)
			}
			for line := range strings.Lines(stdout) {
				if len([]rune(line)) > 101 {
					t.Errorf("a line of more than 100 characters: %s", line)
				}
			}
			testkit.CheckGolden(t, testkit.CLIGolden(name), []byte(stdout))
		})
	}
}

func TestExitCodes(t *testing.T) {
	testkit.ConfigDir(t)
	t.Setenv(schema.ConfigVariable, "")
	testkit.WriteFile(t, "good.yaml", testkit.ValidConfig(t), 0o644)
	testkit.WriteFile(t, "bad.yaml", testkit.ValidConfig(t, "hsm_group: main", "hsm_group: mian"), 0o644)
	for _, test := range []struct {
		args   string
		code   int
		stderr string
	}{
		{"config check good.yaml", 0, ""},
		{"config check bad.yaml", 1, "xks-proxy: bad.yaml:11:16: key_stores[0].hsm_group: there is no HSM group named \"mian\"; did you mean \"main\"?\n"},
		{"config show bad.yaml", 1, "xks-proxy: bad.yaml:11:16: key_stores[0].hsm_group: there is no HSM group named \"mian\"; did you mean \"main\"?\n"},
		{"config check nowhere.yaml", 1, "xks-proxy: the configuration file cannot be read: nowhere.yaml does not exist\n"},
		{"config check .", 1, "xks-proxy: the configuration file cannot be read: read .: is a directory\n"},
		{"config check", 2, "xks-proxy: no configuration file: " + command.DefaultConfigFile + " does not exist; name one with --config, or set XKS_CONFIG\nTry: xks-proxy config check --help\n"},
		{"config check a.yaml b.yaml", 2, "xks-proxy: one configuration file at a time, not 2\nTry: xks-proxy config check --help\n"},
		{"config check --fast", 2, "xks-proxy: unknown flag: --fast\nTry: xks-proxy config check --help\n"},
		{"config chekc", 2, "xks-proxy: unknown command \"chekc\" for xks-proxy config; did you mean \"check\"?\nTry: xks-proxy config --help\n"},
		{"vresion", 2, "xks-proxy: unknown command \"vresion\" for xks-proxy; did you mean \"version\"?\nTry: xks-proxy --help\n"},
		{"--verbose", 2, "xks-proxy: unknown flag: --verbose\nTry: xks-proxy --help\n"},
		{"help nonsense", 2, "xks-proxy: unknown command \"nonsense\" for xks-proxy; known: block, completion, config, credentials, demo, help, hsm, keys, policy, reload, request, serve, status, unblock, version\nTry: xks-proxy help --help\n"},
		{"help config chekc", 2, "xks-proxy: unknown command \"chekc\" for xks-proxy config; did you mean \"check\"?\nTry: xks-proxy help --help\n"},
		{"help version now", 2, "xks-proxy: unexpected argument \"now\": xks-proxy version takes none\nTry: xks-proxy help --help\n"},
		{"config check a.yaml --config b.yaml", 2, "xks-proxy: two configurations are named, a.yaml and --config b.yaml: name one\nTry: xks-proxy config check --help\n"},
		{"config check good.yaml --config ./good.yaml", 0, ""},
		{"config check --config=", 2, "xks-proxy: --config is empty: name a configuration file, or leave it out\nTry: xks-proxy config check --help\n"},
		{"version now", 2, "xks-proxy: unexpected argument \"now\": xks-proxy version takes none\nTry: xks-proxy version --help\n"},
	} {
		t.Run(test.args, func(t *testing.T) {
			stdout, stderr, code := execute(t, strings.Fields(test.args)...)
			if code != test.code || stderr != test.stderr {
				t.Errorf(
					"exit code %d, want %d, stderr\n%swant\n%s",
					code,
					test.code,
					stderr,
					test.stderr,
				)
			}
			if code != 0 && stdout != "" {
				t.Errorf("prints beside the error: %s", stdout)
			}
		})
	}
}

func TestConfigCheck(t *testing.T) {
	testkit.ConfigDir(t)
	testkit.WriteFile(t, "good.yaml", testkit.ValidConfig(t), 0o644)
	check := func(t *testing.T, args ...string) (string, string, int) {
		stdout, stderr, code := execute(
			t,
			append([]string{"config", "check", "good.yaml"}, args...)...)
		return stdout, stderr, code
	}
	t.Run("good", func(t *testing.T) {
		stdout, stderr, code := check(t)
		if code != 0 || stderr != "" || !strings.HasPrefix(stdout, "good.yaml: ok\n") {
			t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
		}
		for _, want := range []string{"/demo/kms/xks/v1", "https://127.0.0.1:8443", "http://127.0.0.1:8080/healthz/ready", "xks.example.com *.wild.example.com, until 20", "hsm-a", "hsm-b", "all read"} {
			if !strings.Contains(stdout, want) {
				t.Errorf("does not say %q:\n%s", want, stdout)
			}
		}
		if strings.Contains(stdout, "N3xK") || strings.Contains(stdout, "1234-a") {
			t.Errorf("shows a secret:\n%s", stdout)
		}
	})
	for _, test := range []struct {
		name, file, content string
		code                int
		want                string
	}{
		{"secret that is none", "demo.key", "too short", 1, "good.yaml:13:70: key_stores[0].credentials[0].secret_access_key: "},
		{"guessable secret", "demo.key", strings.Repeat("a", 43), 0, "warning: good.yaml:13:70: key_stores[0].credentials[0].secret_access_key: can be guessed: "},
		{"empty PIN", "hsm-b.pin", "\n", 1, "good.yaml:4:57: hsms[1].pin: "},
		{"no certificate", "server.crt", "hello", 1, "good.yaml:1:15: server.tls: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			testkit.ConfigDir(t)
			testkit.WriteFile(t, "good.yaml", testkit.ValidConfig(t), 0o644)
			testkit.WriteFile(t, test.file, test.content, 0o600)
			_, stderr, code := check(t)
			if code != test.code || !strings.Contains(stderr, test.want) ||
				strings.Contains(stderr, "too short") {
				t.Errorf("exit code %d, %q does not contain %q", code, stderr, test.want)
			}
			_, stderr, code = check(t, "--no-secrets")
			if test.file != "server.crt" && (code != 0 || stderr != "") {
				t.Errorf("--no-secrets: exit code %d, %s", code, stderr)
			}
		})
	}
}

func TestConfigCheckCertificate(t *testing.T) {
	day := 24 * time.Hour
	for _, test := range []struct {
		name, cn string
		left     time.Duration
		code     int
		want     string
	}{
		{"good", "xks.example.com", 90 * day, 0, ""},
		{"wildcard", "*.wild.example.com", 90 * day, 0, ""},
		{"another wildcard", "*.example.com", 90 * day, 0, "its subject CN \"*.example.com\" is not among its DNS names"},
		{"another name", "other.example.com", 90 * day, 0, "its subject CN \"other.example.com\" is not among its DNS names"},
		{"no CN", "", 90 * day, 0, "its subject CN \"\" is not among its DNS names"},
		{"ends soon", "xks.example.com", 20*day + time.Hour, 0, "expires in 20 days, on "},
		{"has ended", "xks.example.com", -day, 1, "expired on "},
		{"not yet", "xks.example.com", 400 * day, 1, "is not valid before "},
	} {
		t.Run(test.name, func(t *testing.T) {
			testkit.ConfigDir(t)
			certificate, key := testkit.Certificate(t, test.cn, time.Now().Add(test.left))
			testkit.WriteFile(t, "server.crt", certificate, 0o644)
			testkit.WriteFile(t, "server.key", key, 0o600)
			testkit.WriteFile(t, "good.yaml", testkit.ValidConfig(t), 0o644)
			_, stderr, code := execute(t, "config", "check", "good.yaml")
			if code != test.code || !strings.Contains(stderr, test.want) ||
				(test.want == "" && stderr != "") {
				t.Errorf("exit code %d, %q does not contain %q", code, stderr, test.want)
			}
		})
	}
	t.Run("key of another certificate", func(t *testing.T) {
		testkit.ConfigDir(t)
		_, key := testkit.Certificate(t, "xks.example.com", time.Now().Add(90*day))
		testkit.WriteFile(t, "server.key", key, 0o600)
		testkit.WriteFile(t, "good.yaml", testkit.ValidConfig(t), 0o644)
		_, stderr, code := execute(t, "config", "check", "good.yaml")
		if code != 1 || !strings.Contains(stderr, "server.tls: ") ||
			!strings.Contains(stderr, "private key does not match public key") {
			t.Errorf("exit code %d, %s", code, stderr)
		}
	})
}

func TestVersion(t *testing.T) {
	v := version.Info{Version: "v1.2.3", Revision: "abcdef", RevisionTime: "2026-01-02T03:04:05Z",
		Modified: true, FIPS140Build: "v1.0.0"}
	b := text.NewPage(0)
	printVersion(b, v)
	for _, want := range []string{"xks-proxy   v1.2.3\n", "revision    abcdef of 2026-01-02T03:04:05Z, with changes\n", "built with GOFIPS140=v1.0.0\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	stdout, _, code := execute(t, "version", "--json")
	var fields map[string]any
	err := json.Unmarshal([]byte(stdout), &fields)
	if err != nil || code != 0 {
		t.Fatalf("exit code %d, %v: %s", code, err, stdout)
	}
	for _, key := range []string{"version", "go", "platform", "fips140", "modified"} {
		if _, ok := fields[key]; !ok {
			t.Errorf("%q is not in %s", key, stdout)
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		stdout, stderr, code := execute(t, "completion", shell)
		if code != 0 || stderr != "" || len(stdout) < 1000 {
			t.Errorf("%s: exit code %d, %d bytes, %s", shell, code, len(stdout), stderr)
		}
	}
	stdout, _, _ := execute(t, "__complete", "config", "")
	for _, want := range []string{"check\tValidate a", "show\tPrint", "reference\tPrint"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not offered:\n%s", want, stdout)
		}
	}
	stdout, _, _ = execute(t, "__complete", "")
	if strings.Contains(stdout, "hsm-worker") {
		t.Error("hsm-worker is offered")
	}
}

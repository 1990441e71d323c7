package cli

// `config check` goes to the end whatever it finds: no class of mistakes hides another.

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"xks-proxy/internal/testkit"
)

// brokenEverywhere has one mistake of each class, in each file.
func brokenEverywhere(t *testing.T) {
	t.Helper()
	testkit.StoreDir(t)
	certificate, _ := testkit.Certificate(t, "xks.example.com", time.Now().Add(-24*time.Hour))
	_, key := testkit.Certificate(t, "second", time.Now().Add(time.Hour))
	other, otherKey := testkit.Certificate(t, "third", time.Now().Add(-24*time.Hour))
	testkit.WriteFile(t, "server.crt", certificate, 0o644)
	testkit.WriteFile(t, "server.key", key, 0o600) // of another certificate
	testkit.WriteFile(t, "second.crt", other, 0o644)
	testkit.WriteFile(t, "second.key", otherKey, 0o600)
	testkit.WriteFile(t, "bad.cedar", "permit(", 0o644)
	testkit.WriteFile(t, "demo.key", "short", 0o600)
	testkit.WriteFile(t, "text.so", strings.Repeat("a script\n", 20), 0o644)
	testkit.WriteFile(t, "key_stores.d/broken.yaml", "owner: [\n", 0o644)
	testkit.WriteFile(t, "key_stores.d/open.yaml", "nmae: x\n", 0o666)
	testkit.WriteFile(
		t,
		"key_stores.d/typed.yaml",
		testkit.StoreText("typed", testkit.PayrollKey, "quota: {burst: many}"),
		0o644,
	)
	testkit.WriteFile(t, "test.yaml", testkit.ValidConfig(
		t,
		"server: {tls: {certificate: server.crt, key: server.key}}",
		"server: {budget: 200, max_in_flight: [1], tls: {certificate: server.crt, key: server.key, more: [{certificate: second.crt, key: second.key}, {certificate: none.crt, key: second.key}]}}",
		"hsm-b, module: module.so",
		"hsm-b, module: text.so",
		"{file: hsm-b.pin}",
		"{env: \"not a name hunter2\"}",
		"hsm-a, module: module.so",
		"hsm-a, module: none.so",
		"    hsm_group: main\n",
		"    hsm_group: main\n    hosts: [1.2.3.4, \"a b\", 5]\n    keys: {labels: [demo]}\n    policy: {files: [bad.cedar]}\n",
		"{file: hsm-a.pin}",
		"{file: none.pin}",
	)+"log: {output: none/log, levl: info}\n", 0o644)
}

// wantEverywhere are the places of all of them.
var wantEverywhere = []string{
	`test.yaml:1:18: server.budget: 200 has no unit`,
	`test.yaml:1:38: server.max_in_flight: must be a number`,
	`test.yaml:1:48: server.tls: .*private key does not match`,
	`server.tls.more\[0\].certificate: expired on`,
	`server.tls.more\[1\].certificate: .*none.crt does not exist`,
	`hsms\[0\].module: .*none.so does not exist`,
	`hsms\[0\].pin: .*none.pin does not exist`,
	`hsms\[1\].module: .*text.so is not a shared library`,
	`hsms\[1\].pin.env: must be the name of an environment variable`,
	`key_stores\[0\].hosts\[0\]: .* is an address`,
	`key_stores\[0\].hosts\[1\]: .* is not a host name`,
	`key_stores\[0\].hosts\[2\]: must be text`,
	`key_stores\[0\].credentials\[0\].secret_access_key: `,
	`bad.cedar:1:`,
	`log.output: .*none does not exist`,
	`log.levl: unknown key; did you mean "level"`,
	`key_stores.d/broken.yaml:`,
	`key_stores.d/open.yaml: the file can be changed by others`,
	`key_stores.d/open.yaml:1:1: nmae: unknown key; did you mean "name"`,
	`key_stores.d/typed.yaml:.*: quota.burst: must be a number`,
}

func TestCheckFindsEverythingAtOnce(t *testing.T) {
	brokenEverywhere(t)
	_, stderr, code := execute(t, "config", "check", "test.yaml")
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range wantEverywhere {
		if !regexp.MustCompile(want).MatchString(stderr) {
			t.Errorf("does not say %s", want)
		}
	}
	if strings.Contains(stderr, "hunter") || strings.Contains(stderr, " more\n") {
		t.Error("quotes what could be a secret, or keeps something back")
	}
	if t.Failed() {
		t.Log(stderr)
	}
}

// A main file that is not YAML does not hide the others.
func TestCheckReadsKeyStoresBesideABrokenFile(t *testing.T) {
	brokenEverywhere(t)
	testkit.WriteFile(t, "test.yaml", "server: [\n", 0o644)
	_, stderr, code := execute(t, "config", "check", "test.yaml")
	for _, want := range []string{"test.yaml:2: is not YAML", "key_stores.d/broken.yaml:", "key_stores.d/typed.yaml:", "not checked: what the configuration names"} {
		if code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("exit code %d, %q is not in\n%s", code, want, stderr)
		}
	}
	testkit.WriteFile(t, "test.yaml", "key_store_directory: elsewhere\nserver: [\n", 0o644)
	_, stderr, _ = execute(t, "config", "check", "test.yaml")
	if strings.Contains(stderr, "key_stores.d") {
		t.Errorf("reads a directory that is not the configuration's:\n%s", stderr)
	}
}

// checkedJSON runs config check --json.
func checkedJSON(t *testing.T, args ...string) (checkJSON, int) {
	t.Helper()
	stdout, stderr, code := execute(t, append([]string{"config", "check", "--json"}, args...)...)
	if stderr != "" {
		t.Errorf("prints beside the JSON: %s", stderr)
	}
	var answer checkJSON
	decoder := json.NewDecoder(strings.NewReader(stdout))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&answer)
	if err != nil {
		t.Fatalf("%v:\n%s", err, stdout)
	}
	return answer, code
}

func TestCheckJSON(t *testing.T) {
	testkit.StoreDir(t)
	good, code := checkedJSON(t, "test.yaml")
	if code != 0 || !good.Good || good.File != "test.yaml" || len(good.Problems) != 0 ||
		len(good.NotChecked) != 0 {
		t.Errorf("exit code %d, %+v", code, good)
	}
	testkit.WriteFile(t, "hsm-a.pin", "1\n", 0o644)
	testkit.WriteFile(t, "key_stores.d/tax.yaml", testkit.StoreText("tax", testkit.TaxKey, "hsm_gruop: main"), 0o644)
	t.Setenv("XKS_SERVER_BUDGET", "300ms")
	t.Setenv("XKS_LOG_LEVEL", "loud")
	bad, code := checkedJSON(t, "test.yaml", "--no-modules")
	if code != 1 || bad.Good || len(bad.NotChecked) != 1 ||
		!strings.Contains(bad.NotChecked[0], "--no-modules") {
		t.Errorf("exit code %d, %+v", code, bad)
	}
	for _, want := range []problemJSON{
		{Severity: "error", File: "test.yaml", Line: 3, Column: 57, Field: "hsms[0].pin", Message: " is open to others (mode 0644)", Remedy: "run: chmod 600 "},
		{Severity: "error", File: "key_stores.d/tax.yaml", Line: 1, Column: 1, Field: "hsm_gruop", Message: "unknown key", Remedy: `did you mean "hsm_group"?`},
		{Severity: "error", Variable: "XKS_LOG_LEVEL", Field: "log.level", Message: `"loud" is not one of debug, info, warn, error`},
		{Severity: "warning", Variable: "XKS_SERVER_BUDGET", Field: "server.budget", Message: "AWS KMS gives up after 250ms, network included"},
	} {
		if !hasProblem(bad.Problems, want) {
			t.Errorf("%+v is not in\n%+v", want, bad.Problems)
		}
	}
	missing, code := checkedJSON(t, "nowhere.yaml")
	if code != 1 || missing.Good || len(missing.Problems) != 1 ||
		!strings.Contains(missing.Problems[0].Message, "nowhere.yaml does not exist") {
		t.Errorf("exit code %d, %+v", code, missing)
	}
}

// hasProblem compares messages and remedies by what they contain.
func hasProblem(problems []problemJSON, want problemJSON) bool {
	for _, p := range problems {
		fits := strings.Contains(p.Message, want.Message) &&
			strings.HasPrefix(p.Remedy, want.Remedy) &&
			(want.Remedy != "" || p.Remedy == "")
		p.Message, p.Remedy = want.Message, want.Remedy
		if want.Line == 1 && p.Line > 0 {
			p.Line, p.Column = want.Line, want.Column
		}
		if fits && p == want {
			return true
		}
	}
	return false
}

// A user who may not read the secrets can check everything else.
func TestCheckWithoutSecrets(t *testing.T) {
	testkit.ConfigDir(t)
	testkit.WriteFile(t, "test.yaml", testkit.ValidConfig(t), 0o644)
	for _, secret := range []string{"server.key", "hsm-a.pin", "hsm-b.pin", "demo.key"} {
		err := os.Remove(secret)
		if err != nil {
			t.Fatal(err)
		}
	}
	stdout, stderr, code := execute(t, "config", "check", "--no-secrets", "test.yaml")
	if code != 0 || stderr != "" ||
		!strings.Contains(stdout, "xks.example.com *.wild.example.com, until 20") ||
		!strings.Contains(stdout, "3 secrets and 1 key of certificates (--no-secrets)") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	certificate, _ := testkit.Certificate(t, "xks.example.com", time.Now().Add(-time.Hour))
	testkit.WriteFile(t, "server.crt", certificate, 0o644)
	_, stderr, code = execute(t, "config", "check", "--no-secrets", "test.yaml")
	if code != 1 || !strings.Contains(stderr, "server.tls.certificate: expired") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

func TestCheckAsAnUnknownUser(t *testing.T) {
	testkit.ConfigDir(t)
	testkit.WriteFile(t, "test.yaml", testkit.ValidConfig(t), 0o644)
	_, stderr, code := execute(t, "config", "check", "--as-user", "no-such-user", "test.yaml")
	if code != 2 || !strings.Contains(stderr, "the user no-such-user does not exist") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// A library that the module needs and that is nowhere is a warning: the loader may know more places.
func TestCheckModuleDependencies(t *testing.T) {
	testkit.ConfigDir(t)
	data, err := os.ReadFile("module.so")
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Replace(data, []byte("libcrypto.so"), []byte("libcrypt0.so"), 1)
	testkit.WriteFile(t, "patched.so", string(data), 0o755)
	testkit.WriteFile(t, "test.yaml", testkit.ValidConfig(t, "hsm-b, module: module.so", "hsm-b, module: patched.so"), 0o644)
	_, stderr, code := execute(t, "config", "check", "test.yaml")
	if code != 0 || !strings.Contains(stderr, "warning: test.yaml:4:27: hsms[1].module: ") ||
		!strings.Contains(stderr, "cannot load without libcrypt0.so") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// A FIFO in the place of a file is refused. Opening one waits, and no signal ends that.
func TestCheckRefusesFIFOs(t *testing.T) {
	for _, file := range []string{"server.crt", "server.key", "ca.crt", "demo.key", "own.cedar"} {
		t.Run(file, func(t *testing.T) {
			testkit.StoreDir(t)
			testkit.WriteFile(t, "own.cedar", "permit(principal, action, resource);", 0o644)
			testkit.WriteFile(t, "test.yaml", testkit.ValidConfig(t,
				"server: {", "server: {client_certificates: {ca: ca.crt, subjects: [a]}, ",
				"    hsm_group: main\n", "    hsm_group: main\n    policy: {files: [own.cedar]}\n",
			), 0o644)
			err := os.RemoveAll(file)
			if err == nil {
				err = syscall.Mkfifo(file, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan string, 1)
			go func() {
				_, stderr, _ := execute(t, "config", "check", "--no-modules", "test.yaml")
				done <- stderr
			}()
			select {
			case stderr := <-done:
				if !strings.Contains(stderr, file+" is no") || !strings.Contains(stderr, "regular file") {
					t.Error(stderr)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("it waits for the FIFO")
			}
		})
	}
}

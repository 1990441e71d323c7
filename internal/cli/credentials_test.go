package cli

// The credentials commands.

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/testkit"
	"xks-proxy/pkg/sigv4"
	"xks-proxy/pkg/xks"
)

// A10: the file that AWS's console imports, of its owner only, and its secret nowhere else.
func TestCredentialsExport(t *testing.T) {
	testkit.ConfigDir(t)
	t.Setenv(schema.ConfigVariable, "")
	testkit.WriteFile(t, "good.yaml", testkit.ValidConfig(t), 0o644)
	stdout, stderr, code := execute(t, "credentials", "export", "console.json", "--config", "good.yaml", "--key-store", "demo")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	info, err := os.Stat("console.json")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, mode %v", err, info.Mode())
	}
	text, err := os.ReadFile("console.json")
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	err = json.Unmarshal(text, &got)
	if err != nil {
		t.Fatal(err)
	}
	credential, _ := got["XksProxyAuthenticationCredential"].(map[string]any)
	id, _ := credential["AccessKeyId"].(string)
	secret, _ := credential["RawSecretAccessKey"].(string)
	want, err := os.ReadFile("demo.key")
	if err != nil {
		t.Fatal(err)
	}
	if got["XksProxyUriPath"] != "/demo/kms/xks/v1" || len(got) != 2 || len(credential) != 2 || secret != strings.TrimSpace(string(want)) {
		t.Errorf("%s", text)
	}
	err = sigv4.Credential{AccessKeyID: id, SecretAccessKey: secret}.Validate()
	if err != nil {
		t.Error(err)
	}
	if strings.Contains(stdout, secret) || !strings.Contains(stdout, id) {
		t.Errorf("it prints %q", stdout)
	}
	_, stderr, code = execute(t, "credentials", "export", "console.json", "--config", "good.yaml")
	if code != 1 || stderr != "xks-proxy: console.json exists already and is left as it is; choose another name\n" {
		t.Errorf("again: exit code %d, %q", code, stderr)
	}
	_, stderr, code = execute(t, "credentials", "export", "x.json", "--config", "good.yaml", "--key-store", "dmeo")
	if code != 1 || stderr != "xks-proxy: there is no key store named \"dmeo\"; there are demo\n" {
		t.Errorf("wrong store: exit code %d, %q", code, stderr)
	}
	_, stderr, code = execute(t, "credentials", "export", "x.json", "--config", "good.yaml", "--access-key-id", "AAAABBBBCCCCDDDDEEEE")
	if code != 1 || !strings.Contains(stderr, "key store demo has no access key with that id") {
		t.Errorf("wrong id: exit code %d, %q", code, stderr)
	}
}

// A6: a new pair is good, goes to a file of its owner only, and can be used as printed.
func TestCredentialsNew(t *testing.T) {
	testkit.ConfigDir(t)
	t.Setenv(schema.ConfigVariable, "")
	stdout, stderr, code := execute(t, "credentials", "new", "new.secret")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	info, err := os.Stat("new.secret")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, mode %v", err, info.Mode())
	}
	secret, err := os.ReadFile("new.secret")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(stdout, strings.TrimSpace(string(secret))) {
		t.Errorf("the secret is printed: %q", stdout)
	}
	text := testkit.ValidConfig(t)
	at := strings.Index(text, "- {access_key_id:")
	if at < 0 {
		t.Fatal("the good configuration has another form")
	}
	testkit.WriteFile(t, "two.yaml", text[:at]+strings.ReplaceAll(strings.TrimSpace(stdout), "\n", "\n      ")+"\n      "+text[at:], 0o644)
	_, stderr, code = execute(t, "config", "check", "two.yaml")
	if code != 0 {
		t.Errorf("what it printed does not work: %s", stderr)
	}
	_, stderr, code = execute(t, "credentials", "export", "x.json", "--config", "two.yaml")
	if code != 2 || !strings.Contains(stderr, "which access key? --access-key-id takes ") {
		t.Errorf("two keys: exit code %d, %q", code, stderr)
	}
	_, stderr, code = execute(t, "credentials", "new", "new.secret")
	if code != 1 || !strings.Contains(stderr, "exists already") {
		t.Errorf("again: exit code %d, %q", code, stderr)
	}
}

// A5, A6, A10: with a key store, new writes the file for AWS too, and says how to rotate. The secret is in the two files only.
func TestCredentialsNewForAKeyStore(t *testing.T) {
	dir := testkit.ConfigDir(t)
	t.Setenv(schema.ConfigVariable, "")
	testkit.WriteFile(t, "good.yaml", testkit.ValidConfig(t), 0o644)
	stdout, stderr, code := execute(t, "credentials", "new", "new.secret", "--config", "good.yaml", "--key-store", "demo")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	secret := strings.TrimSpace(testkit.ReadFile(t, "new.secret"))
	var got map[string]any
	err := json.Unmarshal([]byte(testkit.ReadFile(t, "new.secret.json")), &got)
	if err != nil {
		t.Fatal(err)
	}
	credential, _ := got["XksProxyAuthenticationCredential"].(map[string]any)
	id, _ := credential["AccessKeyId"].(string)
	if got["XksProxyUriPath"] != "/demo/kms/xks/v1" || credential["RawSecretAccessKey"] != secret || len(got) != 2 || len(credential) != 2 {
		t.Errorf("%v", got)
	}
	for _, name := range []string{"new.secret", "new.secret.json"} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, mode %v", name, err, info.Mode())
		}
	}
	if strings.Contains(stdout, secret) {
		t.Errorf("the secret is printed:\n%s", stdout)
	}
	testkit.CheckGolden(t, testkit.CLIGolden("credentials-new"), []byte(strings.ReplaceAll(strings.ReplaceAll(stdout, id, "ACCESSKEYID"), dir, "DIR")))
	// A file for AWS that is there already: nothing is left behind, and nothing of the old one is lost.
	_, stderr, code = execute(t, "credentials", "new", "other.secret", "--config", "good.yaml", "--key-store", "demo", "--console", "new.secret.json")
	if _, err := os.Stat("other.secret"); code != 1 || !strings.Contains(stderr, "new.secret.json exists already") || !os.IsNotExist(err) {
		t.Errorf("exit code %d, %q, %v", code, stderr, err)
	}
	if !strings.Contains(testkit.ReadFile(t, "new.secret.json"), secret) {
		t.Error("the file of the first one was changed")
	}
	for args, want := range map[string]string{
		"credentials new x --config good.yaml":                     "which key store? Name it (--key-store)",
		"credentials new x --console x.json":                       "which key store? Name it (--key-store)",
		"credentials new x --key-store demo":                       "no configuration file: " + command.DefaultConfigFile + " does not exist",
		"credentials new x --key-store dmeo --config good.yaml":    `there is no key store named "dmeo"; there are demo`,
		"credentials new x --key-store demo --config nowhere.yaml": "the configuration file cannot be read: nowhere.yaml does not exist",
	} {
		_, stderr, code := execute(t, strings.Fields(args)...)
		if _, err := os.Stat("x"); code == 0 || !strings.HasPrefix(stderr, "xks-proxy: "+want) || !os.IsNotExist(err) {
			t.Errorf("%s: exit code %d, %q, %v", args, code, stderr, err)
		}
	}
}

// Of a key store of the directory, its own file is named, and the path of the secret starts there.
func TestCredentialsNewForATenant(t *testing.T) {
	testkit.StoreDir(t)
	t.Setenv(schema.ConfigVariable, "")
	stdout, stderr, code := execute(t, "credentials", "new", "key_stores.d/secrets/tax-2.key", "--config", "test.yaml", "--key-store", "tax")
	for _, part := range []string{"(key_stores.d/tax.yaml:5:14)", "secret_access_key: {file: secrets/tax-2.key}\n"} {
		if code != 0 || !strings.Contains(stdout, part) {
			t.Errorf("exit code %d, no %q:\n%s%s", code, part, stdout, stderr)
		}
	}
}

func TestCredentialsList(t *testing.T) {
	rig := newAdminRig(t)
	rig.admin.Uses.Since = time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	rig.wantSaid(t, 0, "The proxy is starting: it serves no key store yet.", "credentials", "list")
	used := time.Now().Add(-90 * time.Second).Truncate(time.Second)
	rig.admin.KeyStores = func() []xks.KeyStoreStatus {
		return rig.admin.Uses.Overlay([]xks.KeyStoreStatus{
			{Name: "finance", Credentials: []xks.CredentialStatus{{AccessKeyID: "AAAABBBBCCCCDDDDEEEE", LastUsed: used}, {AccessKeyID: "AAAABBBBCCCCDDDDFFFF"}}},
			{Name: "payroll", Credentials: []xks.CredentialStatus{{AccessKeyID: "AAAABBBBCCCCDDDDEEEE"}}},
		})
	}
	stdout, _, code := execute(t, "credentials", "list", "--socket", rig.socket)
	want := `  KEY STORE  ACCESS KEY ID         LAST USED
  finance    AAAABBBBCCCCDDDDEEEE  1m30s ago (` + used.UTC().Format(time.RFC3339) + `)
  finance    AAAABBBBCCCCDDDDFFFF  not since 2026-11-20T08:00:00Z
  payroll    AAAABBBBCCCCDDDDEEEE  not since 2026-11-20T08:00:00Z
`
	if code != 0 || regexp.MustCompile(`1m3\ds ago`).ReplaceAllString(stdout, "1m30s ago") != want {
		t.Errorf("exit code %d\n%swant\n%s", code, stdout, want)
	}
	stdout, _, code = execute(t, "credentials", "list", "--key-store", "payroll", "--json", "--socket", rig.socket)
	var uses api.CredentialUses
	err := json.Unmarshal([]byte(stdout), &uses)
	if code != 0 || err != nil || len(uses.Credentials) != 1 || uses.Credentials[0].KeyStore != "payroll" {
		t.Errorf("exit code %d, %v: %s", code, err, stdout)
	}
	rig.wantSaid(t, 1, `xks-proxy: the proxy serves no key store "payrol"; did you mean "payroll"?`, "credentials", "list", "--key-store", "payrol")
}

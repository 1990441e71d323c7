package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"xks-proxy/pkg/sigv4"
)

// A10: the file that AWS's console imports, of its owner only, and its secret nowhere else.
func TestCredentialsExport(t *testing.T) {
	configDir(t)
	t.Setenv(configVariable, "")
	writeFile(t, "good.yaml", validConfig(t), 0o644)
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
	configDir(t)
	t.Setenv(configVariable, "")
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
	text := validConfig(t)
	at := strings.Index(text, "- {access_key_id:")
	if at < 0 {
		t.Fatal("the good configuration has another form")
	}
	writeFile(t, "two.yaml", text[:at]+strings.ReplaceAll(strings.TrimSpace(stdout), "\n", "\n      ")+"\n      "+text[at:], 0o644)
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

package testkit

// A configuration with every kind of protection.

import (
	"os"
	"strings"
	"testing"
)

// ProtectedConfig has a setting of each kind that can be loosened. Required keys come first in each
// section, so that a truncated file is valid.
const ProtectedConfig = `hsms:
  - {name: hsm-a, module: ./module.so, token: hsm-a, serial: "1", token_initialized: required, pin: {file: hsm-a.pin}}
  - {name: hsm-b, module: ./module.so, token: hsm-b, pin: {file: hsm-b.pin}}
hsm_groups:
  - {name: main, hsms: [{hsm: hsm-a}, {hsm: hsm-b}], lost_key: refuse}
  - {name: second, hsms: [{hsm: hsm-b}]}
reload: {loosening: confirm}
server:
  tls: {certificate: server.crt, key: server.key}
  client_certificates:
    ca: clients.pem
    subjects:
      - cks.kms.eu-central-1.amazonaws.com
    usages:
      - serverAuth
  listeners:
    - listen: "127.0.0.1:9443"
      client_certificates: {ca: clients.pem, subjects: [other]}
key_stores:
  - name: payroll
    hsm_group: main
    credentials:
      - access_key_id: XKSTESTACCESSKEYIDPAYPAY
        secret_access_key: {file: demo.key}
    path_prefix: /payroll
    owner: agency
    keys:
      labels:
        - payroll-*
      disabled:
        - payroll-retired
        - payroll-older
    policy:
      files:
        - policies
      mode: enforce
    hosts:
      - xks.example.com
    regions:
      - eu-central-1
      - eu-west-1
    quota:
      requests_per_second: 100
      burst: 200
    integrity_check: other
  - name: archive
    hsm_group: main
    credentials:
      - access_key_id: XKSTESTACCESSKEYIDARCHIV
        secret_access_key: {file: second.key}
    keys: {labels: ["archive-*"]}
    path_prefix: /archive
    owner: museum
    blocked: true
`

const (
	protectedPolicies = `@id("alice") permit (principal == User::"arn:aws:iam::111122223333:user/Alice", action, resource);
@id("bob") permit (principal == User::"arn:aws:iam::111122223333:user/Bob", action, resource);
@id("bob-decrypts-nothing")
forbid (principal == User::"arn:aws:iam::111122223333:user/Bob", action == Action::"Decrypt", resource);
`
	taxStore = `hsm_group: main
credentials:
  - access_key_id: XKSTESTACCESSKEYIDTAXTAX
    secret_access_key: {file: ../third.key}
path_prefix: /tax
owner: agency
keys:
  labels:
    - tax-*
  disabled: [tax-old]
name: tax-main
policy: {files: [../more.cedar]}
`
)

// ProtectedDir makes a directory with ProtectedConfig as test.yaml.
func ProtectedDir(t *testing.T) {
	t.Helper()
	ConfigDir(t)
	for _, dir := range []string{"policies", "key_stores.d"} {
		err := os.Mkdir(dir, 0o755)
		if err != nil {
			t.Fatal(err)
		}
	}
	WriteFile(t, "second.key", "Zk3qPw8sVt5LmZr0PdFhJ2uGbA7cTeQ1iXoWkS4yRvU9", 0o600)
	WriteFile(t, "third.key", "Ak3qPw8sVt5LmZr0PdFhJ2uGbA7cTeQ1iXoWkS4yRvU9", 0o600)
	WriteFile(t, "clients.pem", PEM("CERTIFICATE", NewCA(t, "AWS").Raw), 0o644)
	WriteFile(t, "policies/a.cedar", protectedPolicies, 0o644)
	WriteFile(t, "more.cedar", protectedPolicies, 0o644)
	WriteFile(t, "key_stores.d/tax.yaml", taxStore, 0o644)
	WriteFile(t, "test.yaml", ProtectedConfig, 0o644)
}

// Edit replaces the first occurrence of each old text in a file (old, new, …). Each has to occur.
func Edit(t *testing.T, file string, replacements ...string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for i := 0; i < len(replacements); i += 2 {
		if !strings.Contains(text, replacements[i]) {
			t.Fatalf("%s does not contain %q", file, replacements[i])
		}
		text = strings.Replace(text, replacements[i], replacements[i+1], 1)
	}
	WriteFile(t, file, text, 0o644)
}

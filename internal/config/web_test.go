package config

// The file of metrics.web_config: each mistake with its place, and no secret in a message.

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/testkit"
	"xks-proxy/internal/webconfig"
)

const goodWeb = `basic_auth_users:
  prometheus: HASH
tls_server_config:
  cert_file: server.crt
  key_file: server.key
rate_limit: {burst: 10, interval: 1s}
`

// loadWeb loads a configuration with this file, changed by pairs of old and new, and gives every
// message, warnings included, with DIR for the directory.
func loadWeb(t *testing.T, mode uint32, replace ...string) []string {
	t.Helper()
	dir := testkit.ConfigDir(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(replace...).Replace(goodWeb)
	text = strings.ReplaceAll(text, "HASH", string(hash))
	testkit.WriteFile(t, "web.yaml", text, 0o600|os.FileMode(mode))
	main := testkit.ValidConfig(t) + "metrics: {listen: \"127.0.0.1:9443\", web_config: web.yaml}\n"
	testkit.WriteFile(t, "test.yaml", main, 0o644)
	_, warnings, err := Load("test.yaml")
	var all []string
	var wrong *schema.Error
	if errors.As(err, &wrong) {
		for _, p := range wrong.Problems {
			all = append(all, strings.ReplaceAll(p.String(), dir, "DIR"))
		}
	}
	for _, w := range warnings {
		if strings.Contains(w.String(), "web") {
			all = append(all, "warning: "+strings.ReplaceAll(w.String(), dir, "DIR"))
		}
	}
	return all
}

func TestWebConfig(t *testing.T) {
	const (
		at     = "test.yaml:14:49: metrics.web_config: "
		noHash = "the value is not a bcrypt hash of the password; make one with: " +
			"htpasswd -nBC 10 \"\" | tr -d ':\\n'"
		notSeen = "tls_server_config is missing: passwords and metrics would cross the network " +
			"readable; give it cert_file and key_file"
		anybody = "asks for neither a password (basic_auth_users) nor a client certificate " +
			"(client_auth_type: RequireAndVerifyClientCert): anybody can read the metrics"
		noLimit = "has no rate_limit: each wrong password costs tens of milliseconds of " +
			"processor time; add rate_limit: {burst: 10, interval: 1s}"
		mutual = "server.key\n  client_auth_type: RequireAndVerifyClientCert"
		users  = "basic_auth_users:\n  prometheus: HASH\n"
		limit  = "rate_limit: {burst: 10, interval: 1s}"
	)
	for _, test := range []struct {
		name    string
		mode    uint32
		replace []string
		want    []string
	}{
		{name: "good"},
		{"open to others", 0o044, nil, []string{
			at + "DIR/web.yaml is open to others (mode 0644); run: chmod 600 DIR/web.yaml"}},
		{"a password for a hash", 0, []string{"HASH", "hunter2"}, []string{
			"DIR/web.yaml:2:15: basic_auth_users.prometheus: " + noHash}},
		{"a key open to others", 0, []string{"server.key", "open.key"}, []string{
			"DIR/web.yaml:5:13: tls_server_config.key_file: DIR/open.key is open to others " +
				"(mode 0644); run: chmod 600 DIR/open.key"}},
		{"no certificate", 0, []string{"server.crt", "gone.crt"}, []string{
			"DIR/web.yaml:4:14: tls_server_config.cert_file: DIR/gone.crt does not exist"}},
		{"two mistakes", 0, []string{"server.crt", "gone.crt", "HASH", "x"}, []string{
			"DIR/web.yaml:2:15: basic_auth_users.prometheus: " + noHash,
			"DIR/web.yaml:4:14: tls_server_config.cert_file: DIR/gone.crt does not exist"}},
		{"a key of another certificate", 0, []string{"server.key", "hsm-a.pin"}, []string{
			"DIR/web.yaml: failed to load X509KeyPair: " +
				"tls: failed to find any PEM data in key input"}},
		{"no TLS", 0, []string{"tls_server_", "#", "  cert_file", "#", "  key_file", "#"}, []string{
			"DIR/web.yaml:1:1: " + notSeen}},
		{"unknown keys", 0, []string{"rate_limit", "rate_limits", "key_file", "keyfile"}, []string{
			"DIR/web.yaml:5: unknown key \"keyfile\"",
			"DIR/web.yaml:6: unknown key \"rate_limits\""}},
		{"a value of another type", 0, []string{"  prometheus: HASH", "  hunter2"}, []string{
			"DIR/web.yaml:2: a value of this type (!!str) cannot stand here"}},
		{"no YAML", 0, []string{"tls_server_config:", "tls_server_config: ["}, []string{
			"DIR/web.yaml:4: did not find expected ',' or ']'"}},
		{"client certificates of nobody", 0,
			[]string{limit, "", "server.key", mutual + "\n  client_ca_file: hsm-a.pin"},
			[]string{"DIR/web.yaml:7:19: tls_server_config.client_ca_file: " +
				"DIR/hsm-a.pin holds no certificate"}},
		{"client certificates of every CA", 0,
			[]string{"server.key", mutual},
			[]string{"DIR/web.yaml:6:21: tls_server_config.client_auth_type: needs " +
				"client_ca_file: without it a certificate of any public CA would do"}},
		{"client certificates only", 0,
			[]string{users, "", "server.key", mutual + "\n  client_ca_file: server.crt"}, nil},
		{"no such way", 0, []string{"key_file", "client_auth_type: Always\n  key_file"}, []string{
			"DIR/web.yaml: invalid ClientAuth: Always"}},
		{"for anybody", 0, []string{users, ""}, []string{
			"warning: " + at + "DIR/web.yaml " + anybody}},
		{"no limit", 0, []string{limit, ""}, []string{
			"warning: " + at + "DIR/web.yaml " + noLimit}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := loadWeb(t, test.mode, test.replace...)
			text, want := strings.Join(got, "\n"), strings.Join(test.want, "\n")
			if text != want {
				t.Errorf("got\n%s\nwant\n%s", text, want)
			}
			if strings.Contains(text, "hunter2") {
				t.Errorf("a secret is shown: %s", text)
			}
		})
	}
}

// The example of docs/operations.md is good, and whatever of it a full disk leaves is refused, or
// still asks for the password and the certificate.
func TestWebConfigExample(t *testing.T) {
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(doc), "```yaml\n# metrics-web.yaml\n")
	example, _, ended := strings.Cut(after, "```")
	if !found || !ended {
		t.Fatal("there is no example")
	}
	example = strings.NewReplacer("metrics.crt", "server.crt", "metrics.key", "server.key",
		"monitoring-ca.crt", "server.crt").Replace(example)
	if got := loadWeb(t, 0, goodWeb, example); len(got) > 0 {
		t.Errorf("%q\n%s", got, example)
	}
	whole := strings.TrimRight(example, "\n")
	for end := range len(whole) {
		testkit.WriteFile(t, "web.yaml", whole[:end], 0o600)
		r := schema.NewReport(&schema.Source{File: "test.yaml"})
		webconfig.Check(r, WebConfigKey, "web.yaml")
		if r.Err() == nil {
			t.Fatalf("%d bytes are good:\n%s", end, whole[:end])
		}
	}
}

// The metrics are on one port only, and a file for a listener that there is not is a mistake.
func TestMetricsListenerContradictions(t *testing.T) {
	const own = "metrics: {listen: \"127.0.0.1:9443\"}\n"
	for text, want := range map[string]string{
		"metrics: {web_config: server.key}":              "is for metrics.listen, which is missing",
		"metrics: {listen: nowhere}":                     "\"nowhere\" is not an address and port",
		`metrics: {listen: "127.0.0.1:8080"}`:            "is the address of health.listen",
		own + `health: {listen: "127.0.0.1:9443"}`:       "is the address of health.listen",
		own + "health: {metrics: true}":                  "and metrics.listen is set as well",
		`metrics: {listen: ":1", web_config: gone.yaml}`: "gone.yaml does not exist",
	} {
		testkit.ConfigDir(t)
		testkit.WriteFile(t, "test.yaml", testkit.ValidConfig(t)+text+"\n", 0o644)
		_, _, err := Load("test.yaml")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}
}

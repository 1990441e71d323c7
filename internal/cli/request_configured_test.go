package cli

// A request to one's own key store, as the configuration has it.

import (
	"encoding/pem"
	"net/url"
	"os"
	"strings"
	"testing"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/secret"
	"xks-proxy/internal/testkit"
	"xks-proxy/internal/text"
)

// configuredFor writes a configuration whose first port is that of the stand-in, under a name that
// its certificate has. Nothing else that the configuration names is there: no other secret, no TLS
// key, no module, no policy.
func configuredFor(t *testing.T, s *standIn, replacements ...string) {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	otherPlaces(t)
	at, err := url.Parse(s.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	standard := []string{"PORT", at.Port(), "SECRET", "{file: own.secret}", "REST", ""}
	text := strings.NewReplacer(append(replacements, standard...)...).
		Replace(`server: {listen: "0.0.0.0:PORT", tls: {certificate: server.crt, key: missing.key}REST}
hsms:
  - {name: hsm-a, module: missing.so, token: a, pin: {file: missing.pin}}
  - {name: hsm-b, module: missing.so, token: b, pin: {credential: missing-pin}}
hsm_groups: [{name: main, hsms: [{hsm: hsm-a}, {hsm: hsm-b}], test_key: t}]
key_stores:
  - name: other
    path_prefix: /other
    hsm_group: main
    credentials: [{access_key_id: OTHERKEYOFANOTHERTENANT2, secret_access_key: {command: [touch, command-was-run]}}]
    keys: {labels: ["other-*"]}
  - name: own
    path_prefix: /store
    regions: [eu-central-1]
    hosts: [example.com]
    hsm_group: main
    policy: {files: [missing.cedar]}
    keys: {labels: ["own-*"]}
    credentials:
      - {access_key_id: ABCDEFGHIJKLMNOPQRST2345, secret_access_key: SECRET}
`)
	testkit.WriteFile(t, "xks-proxy.yaml", text, 0o644)
	testkit.WriteFile(t, "own.secret", testSecret+"\n", 0o600)
	certificate := pem.EncodeToMemory(
		&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw},
	)
	testkit.WriteFile(t, "server.crt", string(certificate), 0o644)
}

func TestRequestToAConfiguredKeyStore(t *testing.T) {
	s := newStandIn(
		t,
		200,
		`{"xksProxyFleetSize":1,"xksProxyVendor":"v","xksProxyModel":"m","ekmVendor":"e","ekmFleetDetails":[]}`,
	)
	configuredFor(t, s)
	stdout, stderr, code := runRequest(
		t,
		"",
		"health",
		"--config",
		"xks-proxy.yaml",
		"--key-store",
		"own",
	)
	if code != 0 || !strings.HasPrefix(stdout, "health at https://example.com:") ||
		!strings.Contains(stdout, "(127.0.0.1:") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if s.uri != "/store/kms/xks/v1/health" || s.cause != nil {
		t.Errorf("%s, %v", s.uri, s.cause)
	}
	if _, err := os.Stat("command-was-run"); err == nil {
		t.Error("another tenant's secret was read")
	}
	// Another way to it.
	stdout, stderr, code = runRequest(
		t,
		"",
		"health",
		"--config",
		"xks-proxy.yaml",
		"--key-store",
		"own",
		"--endpoint",
		s.server.URL,
	)
	if code != 0 || !strings.HasPrefix(stdout, "health at "+s.server.URL) {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	for args, want := range map[string]string{
		"health --config xks-proxy.yaml":                                   "which key store? --key-store takes other, own",
		"health --config xks-proxy.yaml --key-store onw":                   `there is no key store named "onw"`,
		"health --config xks-proxy.yaml --key-store own --access-key-id X": "key store own has no access key with that id; it has ABCDEFGHIJKLMNOPQRST2345",
		"health --config none.yaml --key-store own":                        "none.yaml does not exist",
		"health --config xks-proxy.yaml --connection c.json":               "--connection and --config both say where the proxy is",
		"metadata --config xks-proxy.yaml --key-store own":                 "which key? Give --key",
		"health": "give --config FILE and --key-store NAME, or --connection FILE",
		"health --config xks-proxy.yaml --key-store own --endpoint https://127.0.0.1:1":    "connection refused: nothing listens at 127.0.0.1:1",
		"health --config xks-proxy.yaml --key-store own --endpoint https://localhost:PORT": "name mismatch: the certificate at localhost:",
	} {
		at, _ := url.Parse(s.server.URL)
		stdout, stderr, code := runRequest(
			t,
			"",
			strings.Fields(strings.ReplaceAll(args, "PORT", at.Port()))...)
		if code == 0 || stdout != "" && !strings.HasPrefix(stdout, "health at ") ||
			!strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d\n%s%s\nwant %q", args, code, stdout, stderr, want)
		}
	}
}

// Without an argument it is the default configuration.
func TestRequestFindsTheDefaultConfiguration(t *testing.T) {
	s := newStandIn(t, 200, `{}`)
	configuredFor(t, s)
	command.DefaultConfigFile = "xks-proxy.yaml"
	_, stderr, code := runRequest(t, "", "health", "--key-store", "own")
	if code != 0 || len(s.bodies) != 1 {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

func TestRequestWhereOnlyKMSMayConnect(t *testing.T) {
	s := newStandIn(t, 200, `{}`)
	configuredFor(
		t,
		s,
		"REST",
		", client_certificates: {ca: server.crt, subjects: [kms.example.com]}",
	)
	_, stderr, code := runRequest(t, "", "health", "--config", "xks-proxy.yaml", "--key-store", "own")
	if code != command.ExitFailed ||
		!strings.Contains(stderr, "every port of the proxy wants AWS KMS's client certificate") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// systemd gives credentials to the unit only: the command says the line that works, with what the
// unit says.
func TestRequestWithASystemdCredential(t *testing.T) {
	s := newStandIn(t, 200, `{}`)
	configuredFor(t, s, "SECRET", "{credential: own-secret}")
	t.Setenv(secret.CredentialsVariable, "")
	t.Setenv("XKS_LOG_LEVEL", "debug")
	old := command.UnitPlaces
	defer func() { command.UnitPlaces = old }()
	command.UnitPlaces = []string{"none.service", "unit/*.service"}
	err := os.Mkdir("unit", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"health",
		"--config",
		"xks-proxy.yaml",
		"--key-store",
		"own",
		"--via-service",
		"two words",
	}
	check := func(want string) {
		t.Helper()
		_, stderr, code := runRequest(t, "", args...)
		if code != command.ExitFailed || !strings.Contains(stderr, want) {
			t.Errorf("exit code %d\n%s\nwant\n%s", code, stderr, want)
		}
	}
	line := func(properties string) string {
		return "\n  systemd-run --pipe --wait --collect --quiet --same-dir " + properties + " -E XKS_LOG_LEVEL " + text.ShellQuote(
			program,
		) +
			" request health --config xks-proxy.yaml --key-store own --via-service 'two words'\n"
	}
	check(
		line("-p LoadCredential=own-secret") + "(LoadCredential=NAME is read from /etc/credstore;",
	)
	testkit.WriteFile(
		t,
		"unit/xks-proxy.service",
		"[Service]\nUser=xks-proxy\n#LoadCredential=own-secret:/old\nLoadCredential=own-secret:/etc/x/own.key\nLoadCredential=missing-pin:/p\n",
		0o644,
	)
	check(line("-p User=xks-proxy -p LoadCredential=own-secret:/etc/x/own.key"))
	testkit.WriteFile(t, "unit/z.service", "LoadCredentialEncrypted=own-secret\n", 0o644)
	check(line("-p User=xks-proxy -p LoadCredentialEncrypted=own-secret"))
	// The PIN of one HSM, and no other secret.
	stdout, stderr, code := execute(t, "hsm", "create-test-key", "hsm-b", "--config", "xks-proxy.yaml")
	want := " -p User=xks-proxy -p LoadCredential=missing-pin:/p -E XKS_LOG_LEVEL "
	if code != command.ExitFailed || !strings.Contains(stderr, want) {
		t.Errorf("exit code %d\n%s%s\nwant\n%s", code, stdout, stderr, want)
	}
	// Inside such a unit it is there.
	dir := t.TempDir()
	testkit.WriteFile(t, dir+"/own-secret", testSecret, 0o400)
	t.Setenv(secret.CredentialsVariable, dir)
	_, stderr, code = runRequest(t, "", args...)
	if code != 0 {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// export reads the one secret that it exports.
func TestExportReadsOnlyWhatItExports(t *testing.T) {
	configuredFor(t, newStandIn(t, 200, `{}`))
	stdout, stderr, code := execute(
		t,
		"credentials",
		"export",
		"own.json",
		"--config",
		"xks-proxy.yaml",
		"--key-store",
		"own",
		"--json",
	)
	if code != 0 || !strings.Contains(stdout, `"uriPath": "/store/kms/xks/v1"`) ||
		strings.Contains(stdout, testSecret) {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if _, err := os.Stat("command-was-run"); err == nil {
		t.Error("another tenant's secret was read")
	}
	text, err := os.ReadFile("own.json")
	if err != nil || !strings.Contains(string(text), testSecret) {
		t.Errorf("%v", err)
	}
}

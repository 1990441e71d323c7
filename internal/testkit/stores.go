package testkit

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// A key store directory, and many key stores.

// StoreText is a file of the directory for a tenant of its own, with lines added.
func StoreText(owner, accessKey string, more ...string) string {
	return fmt.Sprintf("owner: %s\npath_prefix: /{owner}/{name}\nhsm_group: main\nkeys: {labels: "+
		"[\"{owner}-*\"]}\n"+
		"credentials: [{access_key_id: %s, secret_access_key: {file: \"secrets/{name}.key\"}}]\n",
		owner, accessKey) +
		strings.Join(more, "\n")
}

// Access key ids of tests.
const (
	TaxKey     = "XKSTESTACCESSKEYIDTAXTAX"
	PayrollKey = "XKSTESTACCESSKEYIDPAYPAY"
)

// StoreDir makes a directory with valid configurations of the key store demo in test.yaml and tax
// in key_stores.d/tax.yaml.
func StoreDir(t *testing.T) string {
	t.Helper()
	dir := ConfigDir(t)
	err := os.MkdirAll("key_stores.d/secrets", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	WriteFile(t, "test.yaml", ValidConfig(t, "hsm_group: main\n    credentials", "hsm_group: "+
		"main\n    keys: {labels: [demo]}\n    credentials"), 0o644)
	WriteFile(t, "key_stores.d/tax.yaml", StoreText("tax", TaxKey), 0o644)
	WriteFile(
		t, "key_stores.d/secrets/tax.key", "N3xKqYw8sVt5LmZr0PdFhJ2uGbA7cTeQ1iXoWkS4yTAX\n", 0o600,
	)
	return dir
}

// ThousandStores makes a directory of a thousand key stores with ten keys each.
func ThousandStores(t testing.TB) {
	t.Helper()
	for i := range 1000 {
		text := fmt.Sprintf("owner: agency-%d\napplication: app\nenvironment: test\npath_prefix: "+
			"/{owner}/{application}\nhsm_group: main\nregions: [eu-central-1]\n"+
			"credentials:\n  - {access_key_id: %s, secret_access_key: {file: secret.key}}\n  - "+
			"{access_key_id: %s, secret_access_key: {file: secret.key}}\nkeys:\n  labels:\n",
			i, NumberedAccessKey(2*i+1), NumberedAccessKey(2*i+2))
		for j := range 10 {
			text += fmt.Sprintf("    - \"{owner}-{application}-{environment}-%d\"\n", j)
		}
		err := os.WriteFile(fmt.Sprintf("key_stores.d/store-%d.yaml", i), []byte(text), 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// NumberedAccessKey is an access key id for each number.
func NumberedAccessKey(n int) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	id := []byte("XKSTESTNUMBEREDAAAAAAAAA")
	for i := len(id) - 1; n > 0; i-- {
		id[i] = digits[n%len(digits)]
		n /= len(digits)
	}
	return string(id)
}

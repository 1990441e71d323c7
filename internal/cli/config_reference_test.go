package cli

// `config reference` and docs/configuration.md.

import (
	"bytes"
	"testing"

	"xks-proxy/internal/config"
	"xks-proxy/internal/testkit"
)

func TestConfigurationReference(t *testing.T) {
	var b bytes.Buffer
	err := config.WriteReference(&b)
	if err != nil {
		t.Fatal(err)
	}
	testkit.CheckGolden(t, "../../docs/configuration.md", b.Bytes())
	stdout, stderr, code := execute(t, "config", "reference")
	if code != 0 || stderr != "" || stdout != b.String() {
		t.Errorf("config reference prints something else; exit code %d, %s", code, stderr)
	}
}

package cli

// `config show`.

import (
	"os"
	"strings"
	"testing"

	"xks-proxy/internal/testkit"
)

func TestShow(t *testing.T) {
	testkit.ConfigDir(t)
	t.Setenv("XKS_LOG_LEVEL", "debug")
	t.Setenv("XKS_HSMS_1_PIN_ENV", "HSM_B_PIN")
	t.Setenv("HSM_B_PIN", "hunter2")
	testkit.WriteFile(t, "test.yaml", testkit.ValidConfig(t), 0o644)
	stdout, stderr, code := execute(t, "config", "show", "test.yaml")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	testkit.CheckGolden(t, testkit.CLIGolden("config-show"), []byte(strings.ReplaceAll(stdout, dir, "/DIR")))
}

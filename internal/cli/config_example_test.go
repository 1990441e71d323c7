package cli

// The examples that `config example` prints.

import (
	"path/filepath"
	"testing"

	"xks-proxy/internal/config"
	"xks-proxy/internal/testkit"
)

func TestConfigExample(t *testing.T) {
	stdout, stderr, code := execute(t, "config", "example")
	if code != 0 || stderr != "" || stdout != testkit.ReadCommented() {
		t.Errorf("exit code %d, %s, or not what is shipped", code, stderr)
	}
	stdout, stderr, code = execute(t, "config", "example", "--minimal")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	testkit.CheckGolden(t, testkit.CLIGolden("config-example-minimal"), []byte(stdout))
	minimal := config.Parse("minimal.yaml", "/etc/xks-proxy", []byte(stdout), nil)
	whole := config.Parse("xks-proxy.yaml", "/etc/xks-proxy", []byte(testkit.ReadCommented()), nil)
	if err := minimal.Report.Err(); err != nil || len(minimal.Report.Warnings) > 0 {
		t.Errorf("%v %v", err, minimal.Report.Warnings)
	}
	if changes := config.Diff(whole.Config, minimal.Config, nil, nil); len(changes) > 0 {
		t.Errorf("means something else: %+v", changes)
	}
	for _, flags := range [][]string{{"--key-store"}, {"--key-store", "--minimal"}} {
		stdout, stderr, code = execute(t, append([]string{"config", "example"}, flags...)...)
		if code != 0 || stderr != "" {
			t.Fatalf("exit code %d, %s", code, stderr)
		}
		dir := testkit.StoreDir(t)
		testkit.WriteFile(t, filepath.Join(dir, "key_stores.d", "payroll.yaml"), stdout, 0o644)
		l, err := config.LoadFile("test.yaml")
		if err == nil {
			err = l.Report.Err()
		}
		if err != nil {
			t.Errorf("%v: %v", flags, err)
		}
	}
}

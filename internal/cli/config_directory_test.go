package cli

// Commands on a configuration with a key store directory.

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/config"
	"xks-proxy/internal/testkit"
)

// What `config show` prints of a directory is one file that loads to the same.
func TestShowOfDirectory(t *testing.T) {
	dir := testkit.StoreDir(t)
	stdout, stderr, code := execute(t, "config", "show", "test.yaml")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, want := range []string{"  # from \"key_stores.d/tax.yaml\"\n  - name: tax # default\n", "path_prefix: /tax/tax\n", "key_store_directory: \"\" # \"" + dir + "/key_stores.d\": its 1 key stores are above\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not in\n%s", want, stdout)
		}
	}
	c, _, err := config.Load("test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	again, _ := loadGood(t, stdout)
	if fmt.Sprintf("%+v", c.KeyStores) != fmt.Sprintf("%+v", again.KeyStores) {
		t.Errorf("%+v\ninstead of %+v", again.KeyStores, c.KeyStores)
	}
}

func TestDirectoryOfThousand(t *testing.T) {
	testkit.StoreDir(t)
	testkit.ThousandStores(t)
	start := time.Now()
	c, warnings, err := config.Load("test.yaml")
	took := time.Since(start)
	if err != nil || len(warnings) > 0 || len(c.KeyStores) != 1002 {
		t.Fatal(err, warnings)
	}
	t.Log(took)
	if took > 20*time.Second { // BenchmarkLoadThousand measures
		t.Errorf("took %v", took)
	}
	stdout, stderr, code := execute(t, "config", "check", "--no-secrets", "test.yaml")
	if code != 0 || stderr != "" || !strings.Contains(stdout, "1002, 1001 of them in ") || !strings.Contains(stdout, "and 952 more") || strings.Count(stdout, "\n") > 80 {
		t.Errorf("exit code %d, %s\n%s", code, stderr, stdout)
	}
	// More than one file may hold is shown anyway, and that it does not load is said.
	stdout, stderr, code = execute(t, "config", "show", "test.yaml")
	if code != 0 || !strings.Contains(stderr, "warning: this is for reading: it does not load as one file: ") || strings.Count(stdout, "  - name: store-") != 1000 {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// Package hostile is a PKCS#11 module that passes every call on to SoftHSM and attacks the proxy
// meanwhile: see module/hostile.c.
package hostile

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// DirectoryVariable names the directory with the file "orders", in which the module makes "report".
const DirectoryVariable = "HOSTILE_DIR"

//go:embed module/hostile.c
var source []byte

// Build compiles the module in front of the SoftHSM at the path softHSM into the directory dir, and
// gives its path. The compiler is $CC, or else gcc.
func Build(ctx context.Context, softHSM, dir string) (string, error) {
	file := filepath.Join(dir, "hostile.c")
	err := os.WriteFile(file, source, 0o600)
	if err != nil {
		return "", fmt.Errorf("build the hostile module: %w", err)
	}
	module := filepath.Join(dir, "hostile.so")
	cc := cmp.Or(os.Getenv("CC"), "gcc")
	out, err := exec.CommandContext(ctx, cc, "-O2", "-Wall", "-Werror", "-fPIC", "-shared", "-pthread",
		`-DSOFTHSM="`+softHSM+`"`, "-o", module, file, "-ldl").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("compile the hostile module with %s: %w\n%s", cc, err, out)
	}
	return module, nil
}

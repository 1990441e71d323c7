package faulty

// Compiling the module.

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed module
var sources embed.FS

// places are where Linux distributions put SoftHSM, as in test/softhsm.sh.
var places = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
	"/usr/lib64/libsofthsm2.so",
	"/usr/lib/pkcs11/libsofthsm2.so",
	"/usr/lib/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
}

// SoftHSM gives the path of SoftHSM's module: $SOFTHSM2_MODULE, or else the first that is there.
func SoftHSM() (string, error) {
	if path := os.Getenv("SOFTHSM2_MODULE"); path != "" {
		return path, nil
	}
	for _, place := range places {
		_, err := os.Stat(place)
		if err == nil {
			return place, nil
		}
	}
	return "", fmt.Errorf("SoftHSM (libsofthsm2.so) is not installed, or set SOFTHSM2_MODULE to its path: %w", fs.ErrNotExist)
}

// Build compiles the module in front of SoftHSM into the directory dir and gives its path,
// dir/faulty.so. It takes about a second. The compiler is $CC, or else gcc. Two modules in one process
// need two files: one file is one instance.
func Build(ctx context.Context, dir string) (string, error) {
	softHSM, err := SoftHSM()
	if err != nil {
		return "", err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("build the faulty module: %w", err)
	}
	source := filepath.Join(dir, "faulty-source")
	err = os.CopyFS(source, sources)
	if err != nil {
		return "", fmt.Errorf("build the faulty module: %w", err)
	}
	defer func() { _ = os.RemoveAll(source) }()
	files, err := filepath.Glob(filepath.Join(source, "module", "*.c"))
	if err != nil {
		return "", fmt.Errorf("build the faulty module: %w", err)
	}
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "gcc"
	}
	module := filepath.Join(dir, "faulty.so")
	args := append([]string{"-O2", "-Wall", "-Werror", "-fPIC", "-shared", "-pthread", `-DSOFTHSM="` + softHSM + `"`, "-o", module}, files...)
	out, err := exec.CommandContext(ctx, cc, append(args, "-ldl")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("compile the faulty module with %s: %w\n%s", cc, err, out)
	}
	return module, nil
}

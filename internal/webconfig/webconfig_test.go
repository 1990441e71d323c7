package webconfig

import (
	"path/filepath"
	"slices"
	"testing"
	"xks-proxy/internal/testkit"
)

// The listener has a private key that only its own file names.
func TestPlaces(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yaml")
	testkit.WriteFile(t, file, "tls_server_config: {cert_file: m.crt, key_file: keys/m.key}\n",
		0o600)
	want := []string{file, filepath.Join(filepath.Dir(file), "keys/m.key")}
	if got := Places(file); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Places("/nowhere/web.yaml"); !slices.Equal(got, []string{"/nowhere/web.yaml"}) {
		t.Errorf("%q", got)
	}
}

package cli

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/testkit"
	"xks-proxy/pkg/xks"
)

// completed is what a shell is offered.
func completed(t *testing.T, line ...string) []string {
	t.Helper()
	stdout, _, code := execute(t, append([]string{"__completeNoDesc"}, line...)...)
	if code != 0 {
		t.Fatalf("%v: exit code %d\n%s", line, code, stdout)
	}
	names := strings.Split(strings.TrimSpace(stdout), "\n")
	return names[:len(names)-1] // the last is the directive
}

// The running proxy is asked.
func TestCompletionAsksTheProxy(t *testing.T) {
	rig := newKeyRig(t)
	rig.admin.KeyStores = func() []xks.KeyStoreStatus {
		return []xks.KeyStoreStatus{
			{
				Name:        "finance",
				Credentials: []xks.CredentialStatus{{AccessKeyID: "A"}, {AccessKeyID: "B"}},
			},
			{Name: "payroll", Credentials: []xks.CredentialStatus{{AccessKeyID: "C"}}},
		}
	}
	for line, want := range map[string][]string{
		"hsm drain ":                       {"hsm-a", "hsm-b", "hsm-c"},
		"hsm restart hsm-b":                {"hsm-b"},
		"hsm drain hsm-a ":                 {},
		"keys list --group ":               {"main", "other"},
		"keys list --key-store ":           {"finance", "payroll"},
		"block key-store f":                {"finance"},
		"unblock key-store p":              {"payroll"},
		"block key finance-1":              {"finance-1"},
		"block key --key-store finance id": {"id01"},
		"credentials list --key-store pay": {"payroll"},
	} {
		words := strings.Split(line, " ")
		got := completed(t, slices.Insert(words, 2, "--socket", rig.socket)...)
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// Without a proxy the configuration says it.
func TestCompletionReadsTheConfiguration(t *testing.T) {
	testkit.ConfigDir(t)
	otherPlaces(t)
	testkit.WriteFile(t, "good.yaml", testkit.ValidConfig(t), 0o644)
	for line, want := range map[string][]string{
		"hsm drain --config good.yaml ":                      {"hsm-a", "hsm-b"},
		"hsm create-test-key --config good.yaml hsm-b":       {"hsm-b"},
		"block key-store --config good.yaml ":                {"demo"},
		"request health --config good.yaml --key-store ":     {"demo"},
		"credentials export --config good.yaml --key-store ": {"demo"},
		"policy test --config good.yaml --key-store ":        {"demo"},
		"hsm drain --config none.yaml ":                      {},
	} {
		got := completed(t, strings.Split(line, " ")...)
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// A proxy that accepts and never answers holds no shell up.
func TestCompletionNeverHangs(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "admin.sock")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	began := time.Now()
	got := completed(t, "hsm", "drain", "--socket", socket, "")
	if took := time.Since(began); len(got) != 0 || took > 3*command.CompletionPatience {
		t.Errorf("%q after %v", got, took)
	}
	began = time.Now()
	names, _ := command.Offer(t.Context(), "", func(context.Context) []string { select {} })
	if took := time.Since(began); len(names) != 0 || took > 3*command.CompletionPatience {
		t.Errorf("%q after %v", names, took)
	}
}

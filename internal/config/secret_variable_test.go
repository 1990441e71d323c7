package config

// Secrets in variables: children get none of them, and they can be read again.

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/secret"
	"xks-proxy/internal/testkit"
)

func TestVariablesAreTaken(t *testing.T) {
	t.Setenv("PIN_OF_ONE", "first")
	for range 2 { // the second time it is not in the environment any more
		got, err := secret.Ref{Env: "PIN_OF_ONE"}.Read(context.Background(), t.TempDir())
		if err != nil || got.Reveal() != "first" {
			t.Fatalf("read: %v", err)
		}
		if value, found := os.LookupEnv("PIN_OF_ONE"); found {
			t.Fatalf("it is in the environment still: %d bytes", len(value))
		}
	}
	t.Setenv("PIN_OF_ONE", "second")
	got, err := secret.Ref{Env: "PIN_OF_ONE"}.Read(context.Background(), t.TempDir())
	if err != nil || got.Reveal() != "second" {
		t.Errorf("a new value: %v", err)
	}
}

// A command runs without the variables of all references, also of those that come after it.
func TestCommandsSeeNoSecretVariable(t *testing.T) {
	t.Setenv("PIN_OF_B", hidden)
	t.Setenv("KEY_OF_STORE", hidden)
	dir := t.TempDir()
	script := "#!/bin/sh\nenv >environment\necho 1234\n"
	testkit.WriteFile(t, filepath.Join(dir, "pin"), script, 0o700)
	c := &Config{
		Source: &schema.Source{Dir: dir},
		HSMs: []HSM{
			{Name: "hsm-a", PIN: secret.Ref{Command: []string{"./pin"}}},
			{Name: "hsm-b", PIN: secret.Ref{Env: "PIN_OF_B"}},
		},
		KeyStores: []KeyStore{
			{
				Name: "main",
				Credentials: []Credential{
					{AccessKeyID: "A", SecretAccessKey: secret.Ref{Env: "KEY_OF_STORE"}},
				},
			},
		},
	}
	all := ResolveInto(context.Background(), schema.NewReport(c.Source), c)
	if all.PINs["hsm-a"].Reveal() != "1234" || all.PINs["hsm-b"].Reveal() != hidden {
		t.Error("a PIN was not read")
	}
	environment := testkit.ReadFile(t, filepath.Join(dir, "environment"))
	if !strings.Contains(environment, "PATH=") || strings.Contains(environment, hidden) {
		t.Errorf("the command was given\n%s", environment)
	}
	if strings.Contains(strings.Join(schema.ChildEnvironment(), "\n"), hidden) {
		t.Error("a child would be given a secret")
	}
}

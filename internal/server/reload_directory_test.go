package server

// A reload takes single tenants out, and not all at once because a directory has vanished.

import (
	"os"
	"strings"
	"testing"

	"xks-proxy/internal/config"
	"xks-proxy/internal/testkit"
)

func TestReloadRefusesAnEmptiedDirectory(t *testing.T) {
	testkit.ProtectedDir(t) // its key_stores.d has tax.yaml
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	load := func() *config.Config {
		t.Helper()
		c, _, err := config.Load("test.yaml")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	running := load()
	refused := func(says string) {
		t.Helper()
		err := refuseEmptied(load(), running)
		if err == nil || !strings.HasPrefix(err.Error(), "test.yaml: key_store_directory: "+dir+"/key_stores.d "+says+", but 1 key stores are served from it; ") {
			t.Errorf("%v", err)
		}
	}
	err = os.Rename("key_stores.d/tax.yaml", "tax.yaml")
	if err != nil {
		t.Fatal(err)
	}
	refused("holds no *.yaml file")
	err = os.Rename("key_stores.d", "away")
	if err != nil {
		t.Fatal(err)
	}
	refused("does not exist")
	without := load()
	if err := refuseEmptied(load(), without); err != nil {
		t.Errorf("one that was not there before: %v", err)
	}
	testkit.WriteFile(t, "test.yaml", testkit.ReadFile(t, "test.yaml")+"\nkey_store_directory: \"\"\n", 0o644)
	if err := refuseEmptied(load(), running); err != nil {
		t.Errorf("one that is not wanted any more: %v", err)
	}
	if err := refuseEmptied(running, without); err != nil {
		t.Errorf("one that is new: %v", err)
	}
}

package server

// Two proxies do not share a state directory; the next one may have it.

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func TestStateLock(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lockState(dir, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	_, err = lockState(dir, zap.NewNop())
	if err == nil || !strings.HasPrefix(err.Error(), "state_directory: another xks-proxy keeps its state in "+dir+"; stop it, or ") {
		t.Errorf("a second one: %v", err)
	}
	err = os.Remove(filepath.Join(dir, stateLockName)) // by somebody who takes it for a leftover
	if err != nil {
		t.Fatal(err)
	}
	_, err = lockState(dir, zap.NewNop())
	if err == nil || !strings.HasPrefix(err.Error(), "state_directory: another xks-proxy keeps its state in "+dir) {
		t.Errorf("a second one, after the file was deleted: %v", err)
	}
	unlock()
	unlock, err = lockState(dir, zap.NewNop())
	if err != nil {
		t.Fatalf("after the first: %v", err)
	}
	unlock()
	unlock, err = lockState("", zap.NewNop())
	if err != nil {
		t.Fatalf("without a directory: %v", err)
	}
	unlock()
}

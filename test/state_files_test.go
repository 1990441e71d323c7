package test

// What others may do to the state directory of the real program.

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Whoever deletes the lock file lets no second proxy in, which would lose what the first one has
// blocked.
func TestDeletedLockFile(t *testing.T) {
	t.Parallel()
	w := blockWorld(t)
	p := w.start(t, nil)
	err := os.Remove(filepath.Join(w.Dir, "state", "lock"))
	if err != nil {
		t.Fatal(err)
	}
	second := w.launch(t, nil)
	if code := second.waitExit(t, startLimit); code != 1 ||
		!strings.Contains(second.log.tail(5), "another xks-proxy keeps its state in ") {
		t.Errorf("exit code %d: %s", code, second.log.tail(5))
	}
	p.says(t, 0, "The key store main is blocked", "block", "key-store", "main")
}

// A FIFO in the place of anything that the proxy remembers does not hold up its start; in the place
// of blocks.json it ends it.
func TestFIFOsInTheStateDirectory(t *testing.T) {
	t.Parallel()
	w := blockWorld(t)
	p := w.start(t, nil)
	p.client(t, http1).encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	p.stop(t)
	state := filepath.Join(w.Dir, "state")
	files, err := filepath.Glob(filepath.Join(state, "*.json"))
	if err != nil || len(files) < 4 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		if filepath.Base(file) == "blocks.json" {
			continue
		}
		err = errors.Join(os.Remove(file), syscall.Mkfifo(file, 0o600))
		if err != nil {
			t.Fatal(err)
		}
	}
	p = w.start(t, nil)
	p.client(t, http1).encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	p.stop(t)
	blocks := filepath.Join(state, "blocks.json")
	_ = os.Remove(blocks)
	err = syscall.Mkfifo(blocks, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	bad := w.launch(t, nil)
	if code := bad.waitExit(t, startLimit); code != 1 ||
		!strings.Contains(bad.log.tail(3), "blocks.json is not a regular file") {
		t.Errorf("exit code %d: %s", code, bad.log.tail(3))
	}
}

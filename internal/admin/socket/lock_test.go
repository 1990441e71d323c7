package socket

// The lock of the directory that the admin socket is in.

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Another process that locks the directory of the socket does not hold up a start forever.
func TestAdminSocketInALockedDirectory(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lockDirectory(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = lockDirectory(ctx, dir, "")
	if err == nil || !strings.Contains(err.Error(), "is locked by another process") {
		t.Errorf("%v", err)
	}
	ours := dir // the state directory, which this process has locked
	again, err := lockDirectory(t.Context(), filepath.Join(dir, "."), ours)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

package group_test

// Files of any kind in place of a saved catalogue: they are not followed, and the start does not
// wait for them.

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

func TestMemoryThatIsNoFile(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"FIFO":          func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"dangling link": func(path string) error { return os.Symlink("nowhere", path) },
		"endless":       func(path string) error { return os.Symlink("/dev/zero", path) },
	} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			for _, file := range []string{"catalogue-main@hsm-a.json", "complete-main.json"} {
				err := put(filepath.Join(directory, file))
				if err != nil {
					t.Fatal(err)
				}
			}
			token := hsmtest.New("hsm-a")
			token.AddKey("test", 1)
			started := make(chan *group.Group, 1)
			go func() {
				g, err := group.New(group.Config{
					Name: "main", TestKey: "test", StateDirectory: directory,
					Members: []group.MemberConfig{{Name: "hsm-a", Token: token}},
				})
				if err != nil {
					t.Error(err)
				}
				started <- g
			}()
			select {
			case g := <-started:
				if g == nil {
					return
				}
				defer g.Close()
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				err := g.WaitFirstProbes(ctx)
				if err != nil || !g.CanServe() {
					t.Errorf("it does not serve: %v", err)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("the start hangs")
			}
		})
	}
}

package filewatch

// The watch of the files: what it notices, when it calls, and what a look costs.

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// watched files: a plain one, one behind two symbolic links, a directory of key stores.
type watchRig struct {
	dir   string
	files []string
}

func newWatchRig(t *testing.T) *watchRig {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"one", "two", "key_stores.d"} {
		err := os.Mkdir(filepath.Join(dir, sub), 0o700)
		if err != nil {
			t.Fatal(err)
		}
	}
	writeText(t, filepath.Join(dir, "plain"), "1")
	writeText(t, filepath.Join(dir, "one", "secret"), "1")
	writeText(t, filepath.Join(dir, "two", "secret"), "2")
	writeText(t, filepath.Join(dir, "key_stores.d", "a.yaml"), "a")
	rig := &watchRig{dir: dir}
	rig.link(t, "one", "..data")
	rig.link(t, filepath.Join("..data", "secret"), "secret")
	for _, name := range []string{"plain", "secret", "key_stores.d", "not-there"} {
		rig.files = append(rig.files, filepath.Join(dir, name))
	}
	return rig
}

func writeText(t *testing.T, path, text string) {
	t.Helper()
	err := os.WriteFile(path, []byte(text), 0o600)
	if err != nil {
		t.Fatal(err)
	}
}

func (rig *watchRig) path(name string) string { return filepath.Join(rig.dir, name) }

// link makes a symbolic link, or turns it, at once.
func (rig *watchRig) link(t *testing.T, target, name string) {
	t.Helper()
	err := os.Symlink(target, rig.path(name+".new"))
	if err == nil {
		err = os.Rename(rig.path(name+".new"), rig.path(name))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (rig *watchRig) replace(t *testing.T, name, text string) {
	t.Helper()
	writeText(t, rig.path(name+".new"), text)
	err := os.Rename(rig.path(name+".new"), rig.path(name))
	if err != nil {
		t.Fatal(err)
	}
}

func TestChangedFiles(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*testing.T, *watchRig)
		want []string
	}{
		"nothing":            {func(*testing.T, *watchRig) {}, nil},
		"written over":       {func(t *testing.T, rig *watchRig) { writeText(t, rig.path("plain"), "22") }, []string{"plain"}},
		"replaced":           {func(t *testing.T, rig *watchRig) { rig.replace(t, "plain", "1") }, []string{"plain"}},
		"another mode":       {func(t *testing.T, rig *watchRig) { _ = os.Chmod(rig.path("plain"), 0o644) }, []string{"plain"}},
		"removed":            {func(t *testing.T, rig *watchRig) { _ = os.Remove(rig.path("plain")) }, []string{"plain"}},
		"a link is turned":   {func(t *testing.T, rig *watchRig) { rig.link(t, "two", "..data") }, []string{"secret"}},
		"behind a link":      {func(t *testing.T, rig *watchRig) { rig.replace(t, "one/secret", "3") }, []string{"secret"}},
		"a key store more":   {func(t *testing.T, rig *watchRig) { rig.replace(t, "key_stores.d/b.yaml", "b") }, []string{"key_stores.d/b.yaml"}},
		"a key store less":   {func(t *testing.T, rig *watchRig) { _ = os.Remove(rig.path("key_stores.d/a.yaml")) }, []string{"key_stores.d/a.yaml"}},
		"a key store anew":   {func(t *testing.T, rig *watchRig) { rig.replace(t, "key_stores.d/a.yaml", "b") }, []string{"key_stores.d/a.yaml"}},
		"something else":     {func(t *testing.T, rig *watchRig) { rig.replace(t, "key_stores.d/notes~", "b") }, nil},
		"what was not there": {func(t *testing.T, rig *watchRig) { rig.replace(t, "not-there", "b") }, []string{"not-there"}},
		"no directory":       {func(t *testing.T, rig *watchRig) { _ = os.RemoveAll(rig.path("key_stores.d")) }, []string{"key_stores.d", "key_stores.d/a.yaml"}},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newWatchRig(t)
			before := lookAt(rig.files)
			c.do(t, rig)
			var got []string
			for _, path := range changedFiles(before, lookAt(rig.files)) {
				got = append(got, strings.TrimPrefix(path, rig.dir+"/"))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// A change is told when it has stood for an interval, once, and again when there is another; one
// that is undone is not told.
func TestWatch(t *testing.T) {
	rig := newWatchRig(t)
	synctest.Test(t, func(t *testing.T) {
		const interval = 2 * time.Second
		w := new(Watcher)
		w.Settle(rig.files, time.Now()) // the files' times are far ahead of the time in here
		var every atomic.Int64
		every.Store(int64(interval))
		told := make(chan string, 100)
		go w.Watch(
			t.Context(),
			func() time.Duration { return time.Duration(every.Load()) },
			func(what string) {
				told <- filepath.Base(what)
				w.Settle(rig.files, time.Now())
			},
		)
		pass := func(want ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for len(told) > 0 {
				got = append(got, <-told)
			}
			if !slices.Equal(got, want) {
				t.Errorf("told %q, want %q", got, want)
			}
		}
		time.Sleep(10*interval + time.Second)
		pass()
		rig.replace(t, "plain", "22")
		time.Sleep(interval)
		pass() // it may be half of it
		time.Sleep(interval)
		pass("plain")
		time.Sleep(10 * interval)
		pass()

		for n := range 5 { // somebody goes on writing
			writeText(t, rig.path("plain"), strings.Repeat("3", n+3))
			time.Sleep(interval)
		}
		pass()
		time.Sleep(interval)
		pass("plain")

		rig.replace(t, "not-there", "x")
		time.Sleep(interval)
		_ = os.Remove(rig.path("not-there"))
		time.Sleep(5 * interval)
		pass()

		every.Store(0)
		time.Sleep(2 * interval)
		rig.replace(t, "plain", "off")
		time.Sleep(10 * interval)
		pass()
		every.Store(int64(interval))
		time.Sleep(3 * interval)
		pass("plain")

		w.Forget()
		time.Sleep(3 * interval)
		synctest.Wait()
		if len(told) != 1 {
			t.Errorf("told %d times of files that count as not read", len(told))
		}
	})
}

// A file that is changed while it is read is read again.
func TestSettleWhileFilesChange(t *testing.T) {
	rig := newWatchRig(t)
	time.Sleep(2 * clockTick)
	began := time.Now()
	rig.replace(t, "plain", "later")
	w := new(Watcher)
	w.Settle(rig.files, began)
	_, differ := w.news()
	if !slices.Equal(differ, []string{rig.path("plain")}) {
		t.Errorf("%q are read again", differ)
	}
	time.Sleep(2 * clockTick)
	w.Settle(rig.files, time.Now())
	if _, differ := w.news(); len(differ) > 0 {
		t.Errorf("%q are read again and again", differ)
	}
}

// What a look costs with a thousand key stores, each a file with two secrets of its own.
func BenchmarkLook(b *testing.B) {
	dir := b.TempDir()
	stores := filepath.Join(dir, "key_stores.d")
	err := os.Mkdir(stores, 0o700)
	if err != nil {
		b.Fatal(err)
	}
	files := []string{stores}
	for i := range 1000 {
		for _, name := range []string{fmt.Sprintf("key_stores.d/%d.yaml", i), fmt.Sprintf("secret-%d-a", i), fmt.Sprintf("secret-%d-b", i)} {
			path := filepath.Join(dir, name)
			err := os.WriteFile(path, []byte("x"), 0o600)
			if err != nil {
				b.Fatal(err)
			}
			if filepath.Dir(path) == dir {
				files = append(files, path)
			}
		}
	}
	w := new(Watcher)
	w.Settle(files, time.Now())
	for b.Loop() {
		w.news()
	}
}

// Package filewatch notices changed files, also behind symbolic links and in directories.
package filewatch

// It polls the files every few seconds. inotify (fsnotify) would need no polling, but it watches an
// inode. So it misses a symbolic link further up that is changed to another directory, as
// Kubernetes does with mounted secrets, and changes that other machines make on a network file
// system. A poll costs one system call for each file, see BenchmarkLook.

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// fileStamp changes when a file changes. For a symbolic link it is that of the target. No file has
// the zero stamp.
type fileStamp struct {
	device, inode uint64
	size          int64
	modified      time.Time
	mode          fs.FileMode
	owner, group  uint32
	problem       string // why the file cannot be read; "" if it can
}

// look has the stamps of files, by path.
type look map[string]fileStamp

// lookAt takes the stamps of files. A directory stands for the files in it as well, but not for
// further directories.
func lookAt(files []string) look {
	l := make(look, len(files))
	for _, path := range files {
		stamp := stampOf(path)
		l[path] = stamp
		if !stamp.mode.IsDir() {
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			l[path] = fileStamp{problem: err.Error()}
			continue
		}
		// Other changes of the directory do not count, such as temporary files beside those of
		// the configuration.
		l[path] = fileStamp{mode: stamp.mode, owner: stamp.owner, group: stamp.group}
		for _, entry := range entries {
			if configFile(entry.Name()) {
				inside := filepath.Join(path, entry.Name())
				l[inside] = stampOf(inside)
			}
		}
	}
	return l
}

// configFile reports whether a file in a directory of key stores or of policies is read.
func configFile(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".cedar":
		return true
	}
	return false
}

func stampOf(path string) fileStamp {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{problem: err.Error()}
	}
	stamp := fileStamp{size: info.Size(), modified: info.ModTime(), mode: info.Mode()}
	if s, ok := info.Sys().(*syscall.Stat_t); ok { // it always is, on Linux
		stamp.device, stamp.inode, stamp.owner, stamp.group = uint64(s.Dev), s.Ino, s.Uid, s.Gid
	}
	return stamp
}

// changedFiles returns the paths that differ, sorted.
func changedFiles(before, now look) []string {
	differ := map[string]bool{}
	for path, stamp := range now {
		if before[path] != stamp {
			differ[path] = true
		}
	}
	for path := range before {
		if _, ok := now[path]; !ok {
			differ[path] = true
		}
	}
	return slices.Sorted(maps.Keys(differ))
}

// Watcher remembers the files as they were when they were last read, successfully or not.
type Watcher struct {
	mu    sync.Mutex
	files []string
	read  look
}

// clockTick is how far the clock of a file system may be behind.
const clockTick = 10 * time.Millisecond

// Settle notes that the files were read, beginning at the time began. A file that changed since
// then may have been read before or after its change. It counts as not read, so it is read again.
func (w *Watcher) Settle(files []string, began time.Time) {
	now := lookAt(files)
	limit := time.Now()
	for path := range now {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		if !ok || info.IsDir() {
			continue
		}
		changed := time.Unix(s.Ctim.Sec, s.Ctim.Nsec)
		// A time in the future comes from the clock of another machine.
		if changed.After(began.Add(-clockTick)) && !changed.After(limit) {
			now[path] = fileStamp{problem: "changed while it was read"}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files, w.read = files, now
}

// Forget makes all files count as not read.
func (w *Watcher) Forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read = nil
}

// news returns the files as they are now, and the paths that differ from what was read.
func (w *Watcher) news() (look, []string) {
	w.mu.Lock()
	files, read := w.files, w.read
	w.mu.Unlock()
	now := lookAt(files)
	return now, changedFiles(read, now)
}

// watchIdle is how often Watch asks for the interval while that is 0.
const watchIdle = time.Second

// Watch calls changed, with the names of the changed files, when files differ from what was read
// and did not change again for one interval. It returns when ctx ends. changed reads the files and
// calls Settle. The interval may change at any time; while it is 0, Watch does nothing.
func (w *Watcher) Watch(
	ctx context.Context,
	interval func() time.Duration,
	changed func(what string),
) {
	var pending look // the files at the last poll, if they differed from what was read
	for {
		every := interval()
		wait := every
		if every == 0 {
			wait = watchIdle
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if every == 0 {
			pending = nil
			continue
		}
		now, differ := w.news()
		switch {
		case len(differ) == 0:
			pending = nil
		case pending == nil || !maps.Equal(pending, now):
			pending = now // it may still be being written
		default:
			pending = nil
			changed(describeFiles(differ))
		}
	}
}

// describeFiles is "a.yaml and 3 more".
func describeFiles(paths []string) string {
	if len(paths) == 1 {
		return paths[0]
	}
	return fmt.Sprintf("%s and %d more", paths[0], len(paths)-1)
}

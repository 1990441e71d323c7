// Package filewatch notices changed files, also behind symbolic links and in directories.
package filewatch

// Whether the files of the configuration have changed: a look at them every few seconds.
//
// inotify (fsnotify) would save the looks, and miss what matters here: it watches an inode, so that
// it says nothing when a symbolic link further up is turned to another directory, as Kubernetes
// does with mounted secrets, and nothing of what other machines do on a
// network file system. A look costs a system call a file, see BenchmarkLook.

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

// fileStamp is what tells a file from a changed one: the target's, where it is a symbolic link. The
// zero stamp is no file's.
type fileStamp struct {
	device, inode uint64
	size          int64
	modified      time.Time
	mode          fs.FileMode
	owner, group  uint32
	problem       string // why there is no more than this
}

// look is the stamps of files, by path.
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
		// Whatever else happens in the directory is nobody's concern, such as temporary files
		// beside those of the configuration.
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
	if s, ok := info.Sys().(*syscall.Stat_t); ok { // it is one on Linux
		stamp.device, stamp.inode, stamp.owner, stamp.group = uint64(s.Dev), s.Ino, s.Uid, s.Gid
	}
	return stamp
}

// changedFiles names, sorted, what differs.
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

// Watcher knows how the files were when they were last read, well or in vain.
type Watcher struct {
	mu    sync.Mutex
	files []string
	read  look
}

// clockTick: a file system stamps with a clock that is behind by so much.
const clockTick = 10 * time.Millisecond

// Settle says that the files were read, beginning at a time. One that was changed since then may
// have been read before or after
// its change: it counts as not read, and is read again.
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
		if changed.After(began.Add(-clockTick)) &&
			!changed.After(limit) { // a time to come is another machine's clock
			now[path] = fileStamp{problem: "changed while it was read"}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files, w.read = files, now
}

// Forget has the files count as not read.
func (w *Watcher) Forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read = nil
}

// news is how the files are now and which differ from what was read.
func (w *Watcher) news() (look, []string) {
	w.mu.Lock()
	files, read := w.files, w.read
	w.mu.Unlock()
	now := lookAt(files)
	return now, changedFiles(read, now)
}

// watchIdle is how often a watch that is off looks whether it is on.
const watchIdle = time.Second

// Watch calls changed, with what has, whenever the files differ from what was read and have stood
// so for one interval, until
// ctx ends. changed reads them and settles. interval 0 is off, and may change at any time.
func (w *Watcher) Watch(
	ctx context.Context,
	interval func() time.Duration,
	changed func(what string),
) {
	var pending look // as the files were at the last look, if that was not as they were read
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
			pending = now // it may be half of what is being written
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

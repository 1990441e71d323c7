package confine

// From what is protected to what is allowed. Landlock can only allow, and it allows a directory
// with everything below it. So a directory with something protected below it is not allowed itself.
// Its entries are allowed one by one, except those that lead to the protected paths.

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// tree is the file system.
type tree interface {
	// ReadDir is os.ReadDir.
	ReadDir(path string) ([]fs.DirEntry, error)

	// Stat is os.Stat.
	Stat(path string) (fs.FileInfo, error)
}

// systemTree is the file system of this machine.
type systemTree struct{}

func (systemTree) ReadDir(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }
func (systemTree) Stat(path string) (fs.FileInfo, error)      { return os.Stat(path) }

// grant is one path to allow.
type grant struct {
	path      string
	directory bool // with everything below
	readOnly  bool
}

// kernelPaths are where the kernel accepts commands, for instance to end all processes of a cgroup.
// No library needs them.
var kernelPaths = []string{"/proc", "/sys"}

// walker collects grants.
type walker struct {
	tree    tree
	protect []string
	grants  []grant
}

// grants returns what a resolved plan allows. It leaves out directories that cannot be read and
// files that do not exist: what is not allowed is not reachable.
func (p Plan) grants(t tree) []grant {
	w := &walker{tree: t, protect: p.outermost()}
	if p.Strict {
		for _, path := range resolve(SystemPaths) { // sorted: /usr comes before /usr/bin
			if !w.isProtected(path) && !w.isGranted(path) {
				w.allowNamed(path, true)
			}
		}
		for _, path := range resolve(devicePaths) {
			w.allowNamed(path, false)
		}
	} else if !slices.Contains(w.protect, "/") {
		w.allow("/", true)
	}
	for _, path := range p.Allow {
		if p.Strict || w.isProtected(path) {
			w.allowNamed(path, false)
		}
	}
	return w.grants
}

// outermost returns the protected paths without those that Allow names too, and without those
// within another one: thousands of secrets in one directory are one path. A path within a path of
// Allow remains.
func (p Plan) outermost() []string {
	var found []string
	for _, path := range p.Protect { // sorted: what contains a path comes before it
		kept := slices.ContainsFunc(p.Allow, func(k string) bool { return within(path, k) })
		contained := slices.ContainsFunc(found, func(f string) bool { return within(path, f) })
		if !slices.Contains(p.Allow, path) && (kept || !contained) {
			found = append(found, path)
		}
	}
	return found
}

// isProtected reports whether a path is below a protected one.
func (w *walker) isProtected(path string) bool {
	return slices.ContainsFunc(w.protect, func(p string) bool { return within(path, p) })
}

// isGranted reports whether a path is within one that is allowed already.
func (w *walker) isGranted(path string) bool {
	return slices.ContainsFunc(w.grants, func(g grant) bool { return within(path, g.path) })
}

// leadsTo reports whether something protected is at a path or below it.
func (w *walker) leadsTo(path string) bool {
	return slices.ContainsFunc(w.protect, func(p string) bool { return within(p, path) })
}

// allowNamed allows a path that may be a file or a directory, within a protected one too.
func (w *walker) allowNamed(path string, readOnly bool) {
	info, err := w.tree.Stat(path)
	if err != nil {
		return
	}
	before := len(w.grants)
	w.allow(path, info.IsDir())
	for i := range w.grants[before:] {
		w.grants[before+i].readOnly = w.grants[before+i].readOnly || readOnly
	}
}

// allow allows a path that is not protected itself, without what is protected below it.
func (w *walker) allow(path string, directory bool) {
	if !w.leadsTo(path) {
		w.grants = append(w.grants,
			grant{path: path, directory: directory, readOnly: slices.Contains(kernelPaths, path)})
		return
	}
	entries, err := w.tree.ReadDir(path)
	if err != nil {
		return
	}
	for _, entry := range entries {
		below := filepath.Join(path, entry.Name())
		switch {
		case entry.Type()&fs.ModeSymlink != 0: // its target is looked at
		case slices.Contains(w.protect, below):
		default:
			w.allow(below, entry.IsDir())
		}
	}
}

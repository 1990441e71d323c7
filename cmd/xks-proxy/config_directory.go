package main

// The key store directory: each *.yaml file in it is one key store, so that the next tenant is
// one more file. Who can write there decides who uses the keys; it is guarded like policies.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"xks-proxy/internal/guarded"
)

// maxStoreFiles bounds the key store directory.
const maxStoreFiles = 10_000

const directoryKey = "key_store_directory"

// readStores adds the key stores of the directory to those of the main file.
func (l *loaded) readStores(open openDirectory) {
	r := l.report
	stores, _ := l.settings[keyStoresKey].([]any)
	r.ownStores = len(stores)
	r.directory, _ = l.settings[directoryKey].(string)
	if r.directory == "" || r.failed[directoryKey] || open == nil {
		return
	}
	directory := open(r.directory)
	names, err := listStores(r, directory)
	if err != nil {
		r.errorf(directoryKey, "%v", err)
		return
	}
	shown := r.shownDirectory()
	for _, name := range names {
		r.stores = append(r.stores, storeFile{name: filepath.Join(shown, name), dir: r.directory})
		stores = append(stores, readStore(r, directory, name, storeKey(r.ownStores+len(r.stores)-1, "")))
	}
	l.settings[keyStoresKey] = stores
}

// readDefaultStores looks at the default directory for a main file that is not YAML, so that the
// mistakes in its files are reported as well. Not if the main file may name another one.
func (l *loaded) readDefaultStores(open openDirectory, main []byte) {
	f, known := schema.field(directoryKey)
	if !known || bytes.Contains(main, []byte(directoryKey)) {
		return
	}
	l.settings = map[string]any{directoryKey: guarded.ResolvePath(l.report.dir, f.Default)}
	l.readStores(open)
}

// shownDirectory names the directory as somebody would who has named the main file as it was.
func (s *source) shownDirectory() string {
	below, err := filepath.Rel(s.dir, s.directory)
	if err != nil || strings.HasPrefix(below, "..") {
		return s.directory
	}
	return filepath.Join(filepath.Dir(s.file), below)
}

// listStores are the names of the files, sorted. A default directory need not exist.
func listStores(r *report, directory fs.FS) ([]string, error) {
	info, err := fs.Stat(directory, ".")
	_, given := r.origins[directoryKey]
	if errors.Is(err, fs.ErrNotExist) && !given {
		return nil, nil
	}
	if errors.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("%s is not a directory", r.directory)
	}
	if err != nil {
		return nil, guarded.Problem(r.directory, err)
	}
	r.found = true
	if info.Mode().Perm()&guarded.WritableByOthers != 0 && !guarded.IsReadOnly(r.directory) {
		r.errorf(directoryKey, "%s can be changed by others (mode %04o), who could add a key store; run: chmod go-w %s", r.directory, info.Mode().Perm(), r.directory)
	}
	entries, err := fs.ReadDir(directory, ".")
	if err != nil {
		return nil, guarded.Problem(r.directory, err)
	}
	var names []string
	for _, entry := range entries {
		name := entry.Name()
		extension := filepath.Ext(name)
		if strings.HasPrefix(name, ".") || extension != ".yaml" && extension != ".yml" {
			continue // editors, package managers and Kubernetes (..data) leave such files
		}
		info, err := fs.Stat(directory, name)
		if err == nil && info.IsDir() {
			continue
		}
		names = append(names, name) // readStore says what is wrong with it
	}
	if len(names) > maxStoreFiles {
		return nil, fmt.Errorf("%s holds %d files; %d are read at most", r.directory, len(names), maxStoreFiles)
	}
	return names, nil
}

// readStore reads one file as the key store at the path at. Its settings are empty if it cannot be read.
func readStore(r *report, directory fs.FS, name, at string) map[string]any {
	r.origins[at] = origin{Line: 1, Column: 1}
	file, _ := r.locate(at)
	data, unsafe, err := readStoreFile(directory, name, file, r.directory)
	if unsafe != nil {
		r.errorAt(origin{}, at, "%v", unsafe) // what else is wrong with it is reported with this
	}
	if err != nil {
		r.errorAt(origin{}, at, "%v", err)
		r.broken[at] = true
		return map[string]any{}
	}
	root, ok := parseYAML(r, at, data)
	if !ok {
		r.broken[at] = true
		return map[string]any{}
	}
	named := nameAfterFile(root, name)
	reading := &reader{schema: schema, report: r, variables: readVariables(nil), shorts: map[string]string{}, root: at}
	settings := reading.section(storeSchema, root, at)
	if named {
		delete(r.origins, joinPath(at, "name")) // it is a default
	}
	return settings
}

// nameAfterFile gives a key store without a name that of its file.
func nameAfterFile(root *yaml.Node, file string) bool {
	for i := 0; i < len(root.Content); i += 2 {
		if root.Content[i].Value == "name" {
			return false
		}
	}
	name := strings.TrimSuffix(file, filepath.Ext(file))
	root.Content = append(root.Content,
		&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "name"}, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name})
	return true
}

// readStoreFile reads one byte more than a file may have, at most. The first error is that somebody
// else could change the file. Not blocking, because a FIFO would be: only regular files are opened.
func readStoreFile(directory fs.FS, name, shown, path string) ([]byte, error, error) {
	info, err := fs.Stat(directory, name)
	if err != nil {
		return nil, nil, guarded.Problem("the file", withoutPath(err))
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errors.New("this is not a regular file")
	}
	unsafe := checkStoreOwner(directory, info, name, shown, path)
	f, err := directory.Open(name)
	if err != nil {
		return nil, unsafe, guarded.Problem("the file", withoutPath(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigSize+1))
	return data, unsafe, err
}

// checkStoreOwner refuses a file that somebody else could change.
func checkStoreOwner(directory fs.FS, info fs.FileInfo, name, shown, path string) error {
	if owner, stranger := strangeOwner(directory, info); stranger {
		return fmt.Errorf("the file belongs to user id %d, who could change it, and not to the owner of the directory; run: chown root %s", owner, shown)
	}
	if info.Mode().Perm()&guarded.WritableByOthers != 0 && !guarded.IsReadOnly(filepath.Join(path, name)) {
		return fmt.Errorf("the file can be changed by others (mode %04o); run: chmod go-w %s", info.Mode().Perm(), shown)
	}
	return nil
}

// strangeOwner reports whether a file belongs to somebody other than root, this process's user and the owner of its directory, who could
// replace it anyway. Such a user could have programs run as the proxy, by a secret's command, and give himself others' paths.
func strangeOwner(directory fs.FS, file fs.FileInfo) (uint32, bool) {
	own, known := file.Sys().(*syscall.Stat_t)
	if !known || own.Uid == 0 || own.Uid == uint32(os.Geteuid()) {
		return 0, false
	}
	info, err := fs.Stat(directory, ".")
	if err != nil {
		return own.Uid, true
	}
	above, known := info.Sys().(*syscall.Stat_t)
	return own.Uid, !known || above.Uid != own.Uid
}

// withoutPath leaves of an error what happened.
func withoutPath(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

package config

// The key store directory: each *.yaml file in it is one key store, so that the next tenant is one
// more file. Anyone who can write there decides who uses the keys, so it is protected like
// policies.

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

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/guarded"
)

// maxStoreFiles bounds the key store directory.
const maxStoreFiles = 10_000

// DirectoryKey is the key of the key store directory.
const DirectoryKey = "key_store_directory"

// readStores adds the key stores of the directory to those of the main file.
func (l *Loaded) readStores(open openDirectory) {
	r := l.Report
	stores, _ := l.Settings[schema.KeyStoresKey].([]any)
	r.OwnStores = len(stores)
	r.Directory, _ = l.Settings[DirectoryKey].(string)
	if r.Directory == "" || r.Failed[DirectoryKey] || open == nil {
		return
	}
	directory := open(r.Directory)
	names, err := listStores(r, directory)
	if err != nil {
		r.Errorf(DirectoryKey, "%v", err)
		return
	}
	shown := r.ShownDirectory()
	for _, name := range names {
		r.Stores = append(
			r.Stores, schema.StoreFile{Name: filepath.Join(shown, name), Dir: r.Directory},
		)
		stores = append(
			stores,
			readStore(r, directory, name, schema.StoreKey(r.OwnStores+len(r.Stores)-1, "")),
		)
	}
	l.Settings[schema.KeyStoresKey] = stores
}

// readDefaultStores reads the default directory if the main file is not YAML, so that mistakes in
// key store files are reported as well. It reads nothing if the main file may name another
// directory.
func (l *Loaded) readDefaultStores(open openDirectory, main []byte) {
	f, known := Schema.Field(DirectoryKey)
	if !known || bytes.Contains(main, []byte(DirectoryKey)) {
		return
	}
	l.Settings = map[string]any{DirectoryKey: guarded.ResolvePath(l.Report.Dir, f.Default)}
	l.readStores(open)
}

// listStores returns the names of the files, sorted. The default directory need not exist.
func listStores(r *schema.Report, directory fs.FS) ([]string, error) {
	info, err := fs.Stat(directory, ".")
	_, given := r.Origins[DirectoryKey]
	if errors.Is(err, fs.ErrNotExist) && !given {
		return nil, nil
	}
	if errors.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("%s is not a directory", r.Directory)
	}
	if err != nil {
		return nil, guarded.Problem(r.Directory, err)
	}
	r.Found = true
	if info.Mode().Perm()&guarded.WritableByOthers != 0 && !guarded.IsReadOnly(r.Directory) {
		r.Errorf(DirectoryKey, "%s can be changed by others (mode %04o), who could add a key "+
			"store; run: chmod go-w %s", r.Directory, info.Mode().Perm(), r.Directory)
	}
	entries, err := fs.ReadDir(directory, ".")
	if err != nil {
		return nil, guarded.Problem(r.Directory, err)
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
		return nil, fmt.Errorf(
			"%s holds %d files; %d are read at most", r.Directory, len(names), maxStoreFiles,
		)
	}
	return names, nil
}

// readStore reads one file as the key store at the path at. Its settings are empty if it cannot be
// read.
func readStore(r *schema.Report, directory fs.FS, name, at string) map[string]any {
	r.Origins[at] = schema.Origin{Line: 1, Column: 1}
	file, _ := r.Locate(at)
	data, unsafe, err := readStoreFile(directory, name, file, r.Directory)
	if unsafe != nil {
		r.ErrorAt(schema.Origin{}, at, "%v", unsafe) // what else is wrong is reported, too
	}
	if err != nil {
		r.ErrorAt(schema.Origin{}, at, "%v", err)
		r.Broken[at] = true
		return map[string]any{}
	}
	root, ok := schema.ParseYAML(r, at, data)
	if !ok {
		r.Broken[at] = true
		return map[string]any{}
	}
	named := nameAfterFile(root, name)
	reading := &schema.Reader{
		Schema: Schema, Report: r, Variables: schema.ReadVariables(nil),
		Shorts: map[string]string{}, Root: at,
	}
	settings := reading.Section(storeSchema, root, at)
	if named {
		delete(r.Origins, schema.JoinPath(at, "name")) // it is a default
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
		&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "name"},
		&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name},
	)
	return true
}

// readStoreFile reads a key store file, up to one byte more than it may have. The first error says
// that somebody else could change the file. Only regular files are opened: a FIFO would block.
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
	data, err := io.ReadAll(io.LimitReader(f, schema.MaxConfigSize+1))
	return data, unsafe, err
}

// checkStoreOwner refuses a file that somebody else could change.
func checkStoreOwner(directory fs.FS, info fs.FileInfo, name, shown, path string) error {
	if owner, stranger := strangeOwner(directory, info); stranger {
		return fmt.Errorf("the file belongs to user id %d, who could change it, and not to the "+
			"owner of the directory; run: chown root %s", owner, shown)
	}
	if info.Mode().Perm()&guarded.WritableByOthers != 0 &&
		!guarded.IsReadOnly(filepath.Join(path, name)) {
		return fmt.Errorf(
			"the file can be changed by others (mode %04o); run: chmod go-w %s", info.Mode().Perm(),
			shown,
		)
	}
	return nil
}

// strangeOwner reports whether a file belongs to a user other than root, the user of this process
// and the owner of the directory, who could replace it anyway. Such a user could run programs as
// the proxy, with the command of a secret, and take the paths of other key stores.
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

// withoutPath returns an error of package fs without its path.
func withoutPath(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

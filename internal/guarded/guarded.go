// Package guarded reads and checks files that only some may read or change.
package guarded

// Files that only some may read or change, and bounded reading. The errors name the file and say
// what to do.

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// IsReadOnly reports whether a file or directory is on a read-only file system, where nobody can
// change it whatever its mode is. Kubernetes mounts a ConfigMap like this.
func IsReadOnly(path string) bool {
	var system unix.Statfs_t
	err := unix.Statfs(path, &system)
	return err == nil && system.Flags&unix.ST_RDONLY != 0
}

// CheckReadable returns an error if a file cannot be opened, or is a directory.
func CheckReadable(path string) error {
	f, err := openRegular(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// openRegular opens a file for reading. It does not wait for a FIFO that nobody writes to, as
// os.Open does: no signal would end that.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, Problem(path, err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = fmt.Errorf("%s is a directory", path)
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is not a regular file", path)
	default:
		return f, nil
	}
	_ = f.Close() // nothing was written
	return nil, err
}

// ReadLimited reads a regular file, up to one byte more than limit, so that the caller can see that
// the file is too long.
func ReadLimited(path string, limit int64) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit+1))
}

// WritableByOthers are the bits of a mode that let group and others change a file.
const WritableByOthers = 0o022

// CheckUnwritable returns an error unless a file is a regular file that can be read and that only
// its owner can change.
func CheckUnwritable(path string, info os.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if info.Mode().Perm()&WritableByOthers != 0 {
		return fmt.Errorf(
			"%s can be changed by others (mode %04o); run: chmod go-w %s",
			path,
			info.Mode().Perm(),
			path,
		)
	}
	return CheckReadable(path)
}

// ResolvePath makes a path absolute, starting from dir; "" stays "".
func ResolvePath(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// OpenPrivate opens a regular file that only its owner can change, and only its owner and group can
// read. It returns an error for any other file, and does not wait for a FIFO.
func OpenPrivate(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, Problem(path, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err == nil && info.Mode().Perm()&0o027 != 0 {
		err = fmt.Errorf(
			"%s is open to others (mode %04o); run: chmod 600 %s",
			path,
			info.Mode().Perm(),
			path,
		)
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// Problem returns an error that says in plain words why a file cannot be opened.
func Problem(path string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s does not exist", path)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s cannot be read by user id %d", path, os.Geteuid())
	default:
		return err
	}
}

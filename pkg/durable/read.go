package durable

// Reading the state directory. Somebody who can replace a file by a link, a FIFO or a device must
// neither redirect the program nor make it wait.

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// writableByOthers are the write permissions of group and others.
const writableByOthers fs.FileMode = 0o022

// ReadFile reads a file that ReplaceFile wrote, of at most limit bytes. It opens only a regular
// file that belongs to the user of this process or to root and that nobody else can change. It does
// not follow a symbolic link in place of the file, and never waits for a FIFO or a device. The
// error is fs.ErrNotExist if nothing is at path; a dangling link is something.
func ReadFile(path string, limit int64) ([]byte, error) {
	file, err := OpenFile(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, nil
}

// OpenFile is os.OpenFile for a file of the state directory, under the conditions of ReadFile. A
// file that os.O_CREATE makes has mode 0600.
func OpenFile(path string, flag int) (*os.File, error) {
	err := checkEntry(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return nil, errLink(path)
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat() // of what was opened: it may have changed since the first look
	if err == nil {
		err = checkFile(path, info)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// checkEntry checks before anything is opened: opening a device can have effects.
func checkEntry(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	return checkFile(path, info)
}

func checkFile(path string, info fs.FileInfo) error {
	switch {
	case info.Mode().Type() == fs.ModeSymlink:
		return errLink(path)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file (%s): remove it", path, info.Mode().Type())
	case info.Mode().Perm()&writableByOthers != 0:
		return fmt.Errorf(
			"others can change %s (mode %04o): check its content, then run: chmod 600 %s",
			path,
			info.Mode().Perm(),
			path,
		)
	}
	return checkOwner(path, info)
}

// CheckDirectory returns the mode of a directory, and an error if another user could remove or
// replace files in it: everybody may write to it, sticky or not, or it belongs to neither root nor
// the user of this process. It follows a link to a directory. The caller judges by the mode what
// the group may do.
func CheckDirectory(path string) (fs.FileMode, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if !info.IsDir() {
		return 0, fmt.Errorf("%s is not a directory", path)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return 0, fmt.Errorf(
			"everybody can remove and replace files in %s (mode %04o); run: chmod go-w %s",
			path,
			info.Mode().Perm(),
			path,
		)
	}
	return info.Mode(), checkOwner(path, info)
}

func checkOwner(path string, info fs.FileInfo) error {
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("the owner of %s is unknown", path)
	}
	user := os.Geteuid()
	if int(owner.Uid) != user && owner.Uid != 0 {
		return fmt.Errorf(
			"%s belongs to user %d, and the proxy runs as user %d; check its content, then run: "+
				"chown %d %s",
			path,
			owner.Uid,
			user,
			user,
			path,
		)
	}
	return nil
}

func errLink(path string) error {
	return fmt.Errorf("%s is a symbolic link, which is not followed: remove it", path)
}

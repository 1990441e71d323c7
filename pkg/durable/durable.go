// Package durable writes and reads the small files of the state directory. After a crash or a power
// cut, a file has the old content or the new one, never a part of it. It uses the standard library
// only.
package durable

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// ReplaceFile replaces the content of the file at path with data, mode 0600. It returns when the
// file and its name in the directory are on stable storage. It makes a missing directory (0700).
// After an error, the file has the old content, or possibly the new one if only the directory could
// not be synchronised. Concurrent calls for one path are safe; the last one wins.
func ReplaceFile(path string, data []byte) error {
	directory := filepath.Dir(path)
	err := os.MkdirAll(directory, 0o700)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(directory, Unfinished(path)+"*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // gone already if all went well
	_, err = file.Write(data)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	err = os.Rename(file.Name(), path)
	if err != nil {
		return err
	}
	return syncDirectory(directory)
}

// Unfinished returns the prefix of the names of files that ReplaceFile for path has not finished.
func Unfinished(path string) string { return "." + filepath.Base(path) + "-" }

// RemoveUnfinished deletes the files that an earlier run of the program did not finish for path. No
// ReplaceFile for path may be running. A missing directory is not an error.
func RemoveUnfinished(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), Unfinished(path)) {
			errs = append(errs, os.Remove(filepath.Join(filepath.Dir(path), entry.Name())))
		}
	}
	return errors.Join(errs...)
}

func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

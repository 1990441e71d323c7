// Package durable writes small files of the state directory so that they survive a crash and a
// power cut whole: the old content or the new, never half of it. Standard library only; imports
// nothing of ours.
package durable

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// ReplaceFile puts data in the place of the file at path, mode 0600, and returns when it is on
// stable storage, its name in the directory included. A missing directory is made (0700). On an
// error the file holds the old content, or, where only the directory could not be synchronised,
// possibly the new one. Two at once for one path are safe; the last one wins.
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

// Unfinished is what the names of files begin with that ReplaceFile for path has not finished.
func Unfinished(path string) string { return "." + filepath.Base(path) + "-" }

// RemoveUnfinished deletes what an earlier run of the program began to write for path and did not
// finish. No ReplaceFile for path may be under way. A missing directory is not an error.
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

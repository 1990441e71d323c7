package main

// One proxy for each state directory. Two would overwrite each other's blocks.json, and a block that is lost is a key that
// can be used again after a restart.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// stateLockName is an empty file, locked for as long as the process lives; nobody needs to remove it.
const stateLockName = "lock"

// lockState takes a state directory for this process until the func that it returns is called, or the process ends
// however it may. "" needs no lock. An error means that another process has it. A file system that cannot lock is
// told in the log and used all the same.
func lockState(directory string, log *zap.Logger) (func(), error) {
	if directory == "" {
		return func() {}, nil
	}
	file, err := os.OpenFile(filepath.Join(directory, stateLockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state_directory: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		_ = file.Close() // nothing was written
		return nil, fmt.Errorf("state_directory: another xks-proxy keeps its state in %s; stop it, or give this one a directory of its own", directory)
	}
	if err != nil {
		log.Warn("the state directory cannot be locked; see to it that no second proxy uses it", zap.String("directory", directory), zap.Error(err))
	}
	return func() { _ = file.Close() }, nil // closing unlocks
}

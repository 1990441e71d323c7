package server

// The state directory belongs to one proxy. Two would overwrite each other's blocks.json, and a
// block that is lost is a key that can be used again after a restart.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"xks-proxy/pkg/durable"
)

// stateLockName is an empty file, locked for as long as the process lives; nobody needs to remove
// it.
const stateLockName = "lock"

// lockState takes a state directory for this process until the func that it returns is called, or
// the process ends however it may. "" needs no lock. An error means that another process has it.
//
// The directory itself is locked as well as the file in it, so that a second proxy cannot start
// when somebody deletes the file. The file is for file systems that lock no directories (NFS). A
// file system that can lock neither is logged and used anyway.
func lockState(directory string, log *zap.Logger) (func(), error) {
	if directory == "" {
		return func() {}, nil
	}
	dir, err := os.Open(directory)
	if err != nil {
		return nil, fmt.Errorf("state_directory: %w", err)
	}
	file, err := durable.OpenFile(filepath.Join(directory, stateLockName), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("state_directory: %w", err), dir.Close())
	}
	unlock := func() { _ = errors.Join(file.Close(), dir.Close()) } // closing unlocks
	dirErr := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	fileErr := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(dirErr, unix.EWOULDBLOCK) || errors.Is(fileErr, unix.EWOULDBLOCK) {
		unlock()
		return nil, fmt.Errorf(
			"state_directory: another xks-proxy keeps its state in %s; stop it, or give this one "+
				"a directory of its own",
			directory,
		)
	}
	if dirErr != nil && fileErr != nil {
		log.Warn("the state directory cannot be locked; make sure that no second proxy uses it",
			zap.String("directory", directory), zap.Error(fileErr))
	}
	return unlock, nil
}

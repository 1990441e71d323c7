package server

// What a state directory must be like before anything in it is read or written.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"go.uber.org/zap"

	"xks-proxy/pkg/durable"
)

// checkStateDirectory makes the directory if it is missing, and refuses one that cannot be written:
// without the memory in it, a restart while one HSM is away could encrypt under a version that the
// HSM never had. It refuses as well one in which another user could remove blocks.json, and with it
// what is blocked. For "" there is nothing to check.
func checkStateDirectory(directory string, log *zap.Logger) error {
	if directory == "" {
		return nil
	}
	err := os.MkdirAll(directory, 0o700)
	if err != nil {
		return stateNotWritable(err)
	}
	mode, err := durable.CheckDirectory(directory)
	if err != nil {
		return fmt.Errorf("state_directory: others could change what is blocked: %w", err)
	}
	if groupMayWrite(mode) {
		log.Warn(
			"the group of the state directory can change it, and with it what is blocked after a restart; run: chmod g-w "+directory,
			zap.Stringer("mode", mode),
		)
	}
	probe, err := os.CreateTemp(directory, ".writable-*")
	if err == nil {
		err = errors.Join(probe.Close(), os.Remove(probe.Name()))
	}
	if err != nil {
		return stateNotWritable(err)
	}
	return nil
}

func groupMayWrite(mode fs.FileMode) bool { return mode.Perm()&0o020 != 0 }

func stateNotWritable(err error) error {
	return fmt.Errorf(
		`state_directory cannot be written; give the proxy's user that directory, or set it to "" to do without: %w`,
		err,
	)
}

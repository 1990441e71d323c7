package killswitch

// Writes the list of blocks to the file. Each change of the list has a number. One goroutine at a
// time writes the newest list, until none is newer. An order waits until the list of its number, or
// of a later one, is written. A failed write is tried again in the background.

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

const (
	// saveLimit is how long an order waits for the disk. It is below the timeouts of the admin
	// service.
	saveLimit    = 3 * time.Second
	saveInterval = 5 * time.Second // between tries while the disk fails
)

// fileState is the state of the file. mu of the Switch guards it.
type fileState struct {
	wanted  uint64        // the number of the last change
	saved   uint64        // the number of the last list that was written
	failed  uint64        // the number of the last list that could not be written
	unsaved error         // why the file is not as wanted; nil if it is, or soon will be
	settled chan struct{} // closed, and made anew, when a write has ended
	writing bool          // there is a goroutine that writes
	retry   *time.Timer
	closed  bool
}

// errSlowDisk says that a write did not end within saveLimit.
var errSlowDisk = errors.New("the disk does not answer")

// changed requires mu. It starts writing the list, and returns the number of the change.
func (k *Switch) changed() uint64 {
	k.file.wanted++
	k.startSaving()
	return k.file.wanted
}

// startSaving requires mu.
func (k *Switch) startSaving() {
	if k.path == "" {
		k.file.saved = k.file.wanted
		return
	}
	if k.file.writing {
		return
	}
	k.file.writing = true
	go func() {
		for k.saveOnce() {
		}
	}()
}

// saveOnce writes the newest list, and reports whether there is a newer one by now.
func (k *Switch) saveOnce() bool {
	k.mu.Lock()
	version := k.file.wanted
	var content []Block
	for _, b := range k.blocks {
		if k.leaving[b.BlockTarget] == nil {
			content = append(content, b)
		}
	}
	k.mu.Unlock()
	err := k.writeFile(content)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.noteSave(version, err)
	newer := k.file.wanted != version
	k.file.writing = newer
	if err != nil && !newer {
		k.retryLater()
	}
	return newer
}

// noteSave requires mu.
func (k *Switch) noteSave(version uint64, err error) {
	switch {
	case err == nil:
		if k.file.unsaved != nil {
			k.log.Warn("the blocks in effect survive a restart again", zap.String("file", k.path))
		}
		k.file.saved, k.file.unsaved = version, nil
	default:
		if k.file.unsaved == nil {
			k.log.Error(
				"the blocks in effect will not survive a restart: their file cannot be written; "+
					"it is tried again",
				zap.String("file", k.path),
				zap.Error(err),
			)
		}
		k.file.failed, k.file.unsaved = version, err
	}
	close(k.file.settled)
	k.file.settled = make(chan struct{})
}

// retryLater requires mu.
func (k *Switch) retryLater() {
	if k.file.closed {
		return
	}
	if k.file.retry != nil {
		k.file.retry.Stop()
	}
	k.file.retry = time.AfterFunc(saveInterval, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.file.unsaved != nil {
			k.startSaving()
		}
	})
}

// await waits until the list of a number, or a later one, is written. The error says why it is not
// written by the deadline.
func (k *Switch) await(version uint64, deadline time.Time) error {
	limit := time.NewTimer(time.Until(deadline))
	defer limit.Stop()
	for {
		k.mu.Lock()
		f := k.file
		k.mu.Unlock()
		switch {
		case f.saved >= version:
			return nil
		case f.failed >= version:
			return f.unsaved
		}
		select {
		case <-f.settled:
		case <-limit.C:
			return k.tooSlow(version)
		}
	}
}

// tooSlow is the result of await at its deadline.
func (k *Switch) tooSlow(version uint64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.file.saved >= version {
		return nil
	}
	if k.file.unsaved == nil {
		k.file.unsaved = fmt.Errorf(
			"%w: %s has not been written within %s",
			errSlowDisk,
			k.path,
			saveLimit,
		)
	}
	return k.file.unsaved
}

// Close stops writing in the background. It waits for a write that is under way, for 3 seconds at
// most.
func (k *Switch) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.file.closed = true
	if k.file.retry != nil {
		k.file.retry.Stop()
	}
	deadline := time.After(saveLimit)
	for k.file.writing {
		settled := k.file.settled
		k.mu.Unlock()
		late := false
		select {
		case <-settled:
		case <-deadline:
			late = true
		}
		k.mu.Lock()
		if late {
			return
		}
	}
}

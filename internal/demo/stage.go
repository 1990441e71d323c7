package demo

// Making a token with many keys in memory first. SoftHSM rewrites the file of a key
// some 35 times while it makes it, which takes 0.1 s on an ordinary disk (ext4
// flushes a file that was truncated) and 2 ms on tmpfs.

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

const (
	demoStageDirectory = "/dev/shm" // tmpfs on every Linux
	demoStageKeys      = 50         // fewer are made where they stay
)

// makeStagedToken is makeToken for a new token. A token is a directory of files, which may be
// moved; their contents are encrypted under the PIN.
func makeStagedToken(ctx context.Context, h demoHSM, order tokenOrder) error {
	if len(order.Keys) < demoStageKeys {
		return makeToken(ctx, h, order)
	}
	stage, err := os.MkdirTemp(demoStageDirectory, "xks-proxy-demo-")
	if err != nil {
		return makeToken(ctx, h, order) // slower, and right
	}
	defer os.RemoveAll(stage)
	staged := demoHSM{name: h.name, dir: filepath.Join(stage, h.name)}
	err = staged.makeDirectory()
	if err != nil {
		return err
	}
	err = makeToken(ctx, staged, order)
	if err != nil {
		return err
	}
	err = os.CopyFS(h.tokens(), os.DirFS(staged.tokens()))
	if err != nil {
		return fmt.Errorf("%s: its token cannot be copied: %w", h.name, err)
	}
	return nil
}

// makeDirectory makes the directories and SoftHSM's configuration of a token.
func (h demoHSM) makeDirectory() error {
	err := os.MkdirAll(h.tokens(), 0o700)
	if err != nil {
		return fmt.Errorf("%s: its directory cannot be made: %w", h.name, err)
	}
	return writePrivate(h.conf(), softHSMConf(h))
}

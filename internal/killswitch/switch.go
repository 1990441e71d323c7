package killswitch

// How blocks are added and removed. There is one list. Every block in it is in effect. The file has
// those that are not marked as leaving.
//
//   - A block enters the list before the file is written, because a disk that fails must not keep a
//     key usable.
//   - An unblock first marks its blocks as leaving and waits until the file is written without
//     them. Then it removes those that still have its mark. If the file cannot be written, it
//     removes its marks, and the blocks stay.
//   - A new block on a target that is leaving removes the marks. So the unblock leaves it in place.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/peer"
	"xks-proxy/pkg/xks"
)

// blocker is what enforces blocks: an *xks.Handler.
type blocker interface{ SetBlocks(xks.Blocks) }

// Switch holds the blocks. It exists before the first request and across reloads. Its methods are
// safe for concurrent use.
type Switch struct {
	path  string                            // of their file; "": they do not survive a restart
	Write func(path string, b []byte) error // durable.ReplaceFile; another in tests
	log   *zap.Logger

	mu       sync.Mutex
	blocks   []Block               // in effect, the oldest first; never changed in place
	leaving  map[BlockTarget]marks // of these: the unblocks under way
	paths    map[string]string     // of the key stores in use: name to XksProxyUriPath
	enforcer blocker               // nil before Attach, when there are no requests yet
	file     fileState
}

// marks are the unblocks under way that remove a block, at least one.
type marks map[*unblocking]bool

// unblocking is an unblock that is under way. It is never empty: two have different addresses.
type unblocking struct{ target BlockTarget }

// New returns a Switch without blocks. They are written to the file at path with write. With path
// "" they do not survive a restart.
func New(path string, write func(string, []byte) error, log *zap.Logger) *Switch {
	return &Switch{
		path: path, Write: write, log: log, leaving: map[BlockTarget]marks{},
		paths: map[string]string{}, file: fileState{settled: make(chan struct{})},
	}
}

// The kinds of errors of orders.
var (
	// ErrTooManyBlocks is an order that would need more than 10,000 blocks.
	ErrTooManyBlocks = errors.New("there are too many blocks")
	// ErrUnsaved is a block that is in effect and would be gone after a restart.
	ErrUnsaved = errors.New("the block will not survive a restart")
	// ErrBlockedAgain is an unblock that ended while another block of its target was in effect.
	ErrBlockedAgain = errors.New("it was blocked again meanwhile")
)

// RenamedError is an unblock by a name that a key store no longer has.
type RenamedError struct {
	old string
	Now string // its name
}

// Error has both names.
func (e *RenamedError) Error() string {
	return fmt.Sprintf("the key store %s is called %s now", e.old, e.Now)
}

// Attach applies all blocks to a handler, and later every change. Call it before the first request.
func (k *Switch) Attach(enforcer blocker) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.enforcer = enforcer
	k.enforce()
}

// enforce requires mu. A key store is blocked by its name and by its path, so that one that a
// reload renames is blocked at every moment of the reload.
func (k *Switch) enforce() {
	if k.enforcer == nil {
		return
	}
	b := xks.Blocks{KeyStores: map[string]bool{}, Keys: map[xks.BlockedKey]bool{}}
	for _, one := range k.blocks {
		names := []string{one.KeyStore}
		if one.KeyStore != "" && one.URIPath != "" {
			names = append(names, one.URIPath)
		}
		for _, name := range names {
			if one.Key == "" {
				b.KeyStores[name] = true
			} else {
				b.Keys[xks.BlockedKey{KeyStore: name, Key: one.Key}] = true
			}
		}
	}
	k.enforcer.SetBlocks(b)
}

// List returns the blocks in effect, the oldest first. The error says why the file differs.
func (k *Switch) List() ([]Block, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.blocks, k.file.unsaved
}

// Survives reports whether blocks survive restarts.
func (k *Switch) Survives() bool { return k.path != "" }

// Blocking returns the first block that applies to a target, if there is one.
func (k *Switch) Blocking(t BlockTarget) (Block, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.blocks, func(b Block) bool { return b.covers(t, k.paths[t.KeyStore]) })
	if i < 0 {
		return Block{}, false
	}
	return k.blocks[i], true
}

// Add blocks a target. It returns the block in effect, and whether it was there before.
//
// When the error is nil or ErrUnsaved, the block is in effect, and only an unblock that begins
// later removes it. With ErrUnsaved the file could not be written yet. After ErrTooManyBlocks or
// peer.ErrGone nothing was changed.
func (k *Switch) Add(ctx context.Context, b Block) (Block, bool, error) {
	stands, before, version, err := k.put(ctx, b)
	if err != nil {
		return Block{}, false, err
	}
	err = k.await(version, time.Now().Add(saveLimit))
	if err != nil {
		return stands, before, fmt.Errorf("%w: %w", ErrUnsaved, err)
	}
	return stands, before, nil
}

// put applies the block, and returns the version of the list to wait for.
func (k *Switch) put(ctx context.Context, b Block) (Block, bool, uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := peer.Gone(ctx)
	if err != nil {
		return Block{}, false, 0, err
	}
	old, found := findBlock(k.blocks, b.BlockTarget)
	if path, served := k.paths[b.KeyStore]; served {
		b.URIPath = path
	} else if found {
		b.URIPath = old.URIPath // its last path: it may come back under another name
	}
	if found && k.leaving[b.BlockTarget] == nil {
		return old, true, k.changed(), nil // written again: somebody may have deleted the file
	}
	delete(k.leaving, b.BlockTarget)
	others := withoutBlock(k.blocks, b.BlockTarget)
	if len(others) >= maxBlocks {
		return Block{}, false, 0, fmt.Errorf(
			"%w: %d are in effect; block the key store as a whole, or remove blocks of single keys",
			ErrTooManyBlocks,
			maxBlocks,
		)
	}
	k.blocks = append(others, b)
	k.enforce()
	return b, false, k.changed(), nil
}

// Remove removes every block that applies to a target: those by its name, and those by the path of
// its key store. It returns the blocks that it removed.
//
// When the error is nil, the target is not blocked. With ErrBlockedAgain a new block came
// meanwhile. After other errors nothing was removed: *RenamedError, peer.ErrGone, or that of the
// disk.
func (k *Switch) Remove(ctx context.Context, t BlockTarget) ([]Block, error) {
	deadline := time.Now().Add(saveLimit)
	u := &unblocking{t}
	version, err := k.mark(ctx, u)
	if err != nil || version == 0 {
		return nil, err
	}
	err = k.await(version, deadline)
	if err != nil {
		return nil, k.unmark(u, err, deadline)
	}
	err = peer.Gone(ctx)
	if err != nil {
		return nil, k.unmark(u, err, deadline)
	}
	return k.takeOut(u)
}

// mark marks the blocks of the target as leaving, and returns the version of the list to wait for;
// 0 if there are none.
func (k *Switch) mark(ctx context.Context, u *unblocking) (uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := peer.Gone(ctx)
	if err != nil {
		return 0, err
	}
	path, err := k.pathOf(u.target)
	if err != nil {
		return 0, err
	}
	found := false
	for _, b := range k.blocks {
		if !b.covers(u.target, path) {
			continue
		}
		found = true
		if k.leaving[b.BlockTarget] == nil {
			k.leaving[b.BlockTarget] = marks{}
		}
		k.leaving[b.BlockTarget][u] = true
	}
	if !found {
		return 0, nil
	}
	return k.changed(), nil
}

// pathOf requires mu. It returns the path of the target's key store, or its last path if it is
// gone. The error is a *RenamedError if another key store has that path now: an unblock by the old
// name would leave it blocked, or unblock a key store that the operator did not name.
func (k *Switch) pathOf(t BlockTarget) (string, error) {
	path, served := k.paths[t.KeyStore]
	old, found := findBlock(k.blocks, t)
	if served || !found || t.KeyStore == "" || old.URIPath == "" {
		return path, nil
	}
	for name, other := range k.paths {
		if other == old.URIPath {
			return "", &RenamedError{t.KeyStore, name}
		}
	}
	return old.URIPath, nil
}

// takeOut completes an unblock: it removes the blocks that still have its mark.
func (k *Switch) takeOut(u *unblocking) ([]Block, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var removed, kept []Block
	for _, b := range k.blocks {
		if k.leaving[b.BlockTarget][u] {
			removed = append(removed, b)
			delete(k.leaving, b.BlockTarget)
		} else {
			kept = append(kept, b)
		}
	}
	k.blocks = kept
	k.enforce()
	if slices.ContainsFunc(
		kept,
		func(b Block) bool { return b.covers(u.target, k.paths[u.target.KeyStore]) },
	) {
		return removed, ErrBlockedAgain
	}
	return removed, nil
}

// unmark ends an unblock that failed with err. The file may already be without the blocks, if only
// the directory could not be synchronised or the disk was slow. So it is written again, and unmark
// waits for that until the deadline.
func (k *Switch) unmark(u *unblocking, err error, deadline time.Time) error {
	k.mu.Lock()
	for target, by := range k.leaving {
		delete(by, u)
		if len(by) == 0 {
			delete(k.leaving, target)
		}
	}
	version := k.changed()
	k.mu.Unlock()
	again := k.await(version, deadline)
	if again != nil {
		return fmt.Errorf(
			"%w; what a restart would block is not certain until the file can be written",
			err,
		)
	}
	return err
}

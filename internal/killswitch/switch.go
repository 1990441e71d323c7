package killswitch

// How blocks come and go. There is one list. What is in it is in effect; what is in it and not
// marked as leaving is what the file has to say. So
//
//   - a block is in the list before anything is written: a disk that fails must not keep a key
//     usable;
//   - an unblock marks its blocks as leaving when it begins, waits until the file says so, and
//     takes out of the list those that still have its mark. If the file cannot be written, the mark
//     goes and the blocks stay;
//   - a block that comes while the same one is leaving takes the marks away. Then the unblock finds
//     none, and leaves it.

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

// Switch holds the blocks. It is there before the first request can be, and outlives every
// configuration. Any goroutine may call its methods.
type Switch struct {
	path  string                            // of their file; "": they do not survive a restart
	Write func(path string, b []byte) error // durable.ReplaceFile
	log   *zap.Logger

	mu       sync.Mutex
	blocks   []Block               // in effect, the oldest first; never changed in place
	leaving  map[BlockTarget]marks // of these: what unblocks that are under way take back
	paths    map[string]string     // of the key stores in use: name to XksProxyUriPath
	enforcer blocker               // nil: there is no handler yet, hence no request
	file     fileState
}

// marks are the unblocks under way that take a block back, at least one.
type marks map[*unblocking]bool

// unblocking is an unblock that is under way. It is never empty: two have different addresses.
type unblocking struct{ target BlockTarget }

func New(path string, write func(string, []byte) error, log *zap.Logger) *Switch {
	return &Switch{
		path: path, Write: write, log: log, leaving: map[BlockTarget]marks{},
		paths: map[string]string{}, file: fileState{settled: make(chan struct{})},
	}
}

// The kinds of errors of orders.
var (
	ErrTooManyBlocks = errors.New("there cannot be more blocks")
	// ErrUnsaved is a block that is in effect and would be gone after a restart.
	ErrUnsaved = errors.New("the block will not survive a restart")
	// ErrBlockedAgain is an unblock that ended while another block of its target was in effect.
	ErrBlockedAgain = errors.New("it was blocked again meanwhile")
)

// RenamedError is an unblock by a name that a key store no longer has.
type RenamedError struct{ old, Now string }

func (e *RenamedError) Error() string {
	return fmt.Sprintf("the key store %s is called %s now", e.old, e.Now)
}

// Attach applies all blocks to a handler before it gets its first request, and whatever comes
// later.
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

// List is the blocks now, the oldest first, and why the file does not say the same, if so.
func (k *Switch) List() ([]Block, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.blocks, k.file.unsaved
}

// Survives reports whether blocks are remembered across restarts at all.
func (k *Switch) Survives() bool { return k.path != "" }

// Blocking is the first block that is about a target, if there is one.
func (k *Switch) Blocking(t BlockTarget) (Block, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.blocks, func(b Block) bool { return b.covers(t, k.paths[t.KeyStore]) })
	if i < 0 {
		return Block{}, false
	}
	return k.blocks[i], true
}

// Add blocks a target. When it returns nil or errUnsaved, the block is in effect, and only an
// unblock that begins later lifts it. It returns the entry that stands, and whether it stood
// before. With errUnsaved the file could not be written; it is tried again in the background.
// errCallerGone: nothing was changed.
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
		b.URIPath = old.URIPath // its last: it may come back under another name
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

// Remove takes back every block that is about a target when it is called: those by its name, and
// those by the path that its key store has. It returns the blocks that it took out; none if there
// was none. With nil the target has no block any more. With errBlockedAgain it has one that came
// meanwhile. After other errors nothing was removed: *renamedError, errCallerGone, or that of
// the disk.
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

// pathOf requires mu. It is the path of a target's key store; of one that is gone, that which it
// had. *renamedError if that is another key store's now: an unblock by the old name would leave it
// blocked, or unblock what its author does not name.
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

// takeOut is where an unblock takes effect: what still has its mark is no longer in effect.
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

// unmark ends an unblock that failed because of err. The file may say already that the blocks are
// gone: where only the directory could not be synchronised, or the disk was slow. So it is written
// again, and waited for as long as there is time.
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

package main

// The kill switch (issue 5, item 7): what operators have blocked while the proxy runs. A block is in force for the next request,
// whatever the configuration says, and stays through reloads and restarts until it is taken back.

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"xks-proxy/pkg/xks"
)

const (
	maxBlocks    = 10_000 // at once; beyond, a key store as a whole can still be blocked
	maxReason    = 500    // bytes
	maxKeyLabel  = 255    // bytes; of a CKA_LABEL that is blocked
	maxBlockedBy = 256    // bytes; a user's name
	blocksFormat = 1
	blocksName   = "blocks.json"
	saveLimit    = 3 * time.Second // below adminPatience
)

// externalKeyID is requirement U3.
var externalKeyID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// blockTarget is what a block is about: a key store; a key of it, by its external key id; or, without a key store, every
// key with a CKA_LABEL.
type blockTarget struct {
	KeyStore string `json:"keyStore,omitempty"`
	Key      string `json:"key,omitempty"`
}

// block is one entry: what, why, by whom and since when.
type block struct {
	blockTarget
	URIPath string    `json:"uriPath,omitempty"` // of the key store, when it was last seen (blocks_follow.go)
	Reason  string    `json:"reason,omitempty"`  // at most maxReason bytes, no control characters
	By      string    `json:"by"`                // the user, as the kernel told
	UID     int       `json:"uid"`
	Since   time.Time `json:"since"` // UTC
}

// String names the target in a sentence.
func (t blockTarget) String() string {
	switch {
	case t.Key == "":
		return "key store " + t.KeyStore
	case t.KeyStore == "":
		return fmt.Sprintf("key with the label %q", t.Key)
	default:
		return fmt.Sprintf("key %s of key store %s", t.Key, t.KeyStore)
	}
}

// check says what is wrong with a target, for its author.
func (t blockTarget) check() error {
	switch {
	case t.KeyStore == "" && t.Key == "":
		return errors.New("it names neither a key store nor a key")
	case t.KeyStore != "" && !namePattern.MatchString(t.KeyStore):
		return fmt.Errorf("%q is no name of a key store: 1 to 63 letters, digits, dots, dashes and underscores", t.KeyStore)
	case t.KeyStore != "" && t.Key != "" && !externalKeyID.MatchString(t.Key):
		return fmt.Errorf("%q is no external key id: 1 to 128 letters, digits, dots, dashes and underscores. Without --key-store it would be a CKA_LABEL", t.Key)
	case len(t.Key) > maxKeyLabel || !isPlainText(t.Key):
		return fmt.Errorf("a CKA_LABEL to block has at most %d bytes of UTF-8 and no control characters", maxKeyLabel)
	}
	return nil
}

func checkReason(reason string) error {
	if len(reason) > maxReason {
		return fmt.Errorf("a reason has at most %d bytes, not %d", maxReason, len(reason))
	}
	if !isPlainText(reason) {
		return errors.New("a reason is one line of UTF-8 without control characters")
	}
	return nil
}

// isPlainText: nothing in it moves a cursor, ends a line or turns the direction of what follows.
func isPlainText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) })
}

// blocker is what enforces blocks: an *xks.Handler.
type blocker interface{ SetBlocks(xks.Blocks) }

// killSwitch holds the blocks. It is there before the first request can be, and outlives every configuration.
type killSwitch struct {
	path  string                            // of the file that remembers them; "": they do not survive a restart
	write func(path string, b []byte) error // durable.ReplaceFile

	saving sync.Mutex // held while the file is written; taken before mu. A slow disk must not delay a block

	mu       sync.Mutex
	blocks   []block // the oldest first; never changed in place
	enforcer blocker // nil: there is no handler yet, hence no request
	unsaved  error   // why the file does not say what is in force
}

// errTooManyBlocks is a block beyond maxBlocks.
var errTooManyBlocks = errors.New("there cannot be more blocks")

// errUnsaved is a block that is in force and would be gone after a restart.
var errUnsaved = errors.New("the block will not survive a restart")

// attach puts all blocks in force on a handler before it gets its first request, and whatever comes later.
func (k *killSwitch) attach(enforcer blocker) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.enforcer = enforcer
	k.enforce()
}

// enforce is for whoever holds mu.
func (k *killSwitch) enforce() {
	if k.enforcer == nil {
		return
	}
	b := xks.Blocks{KeyStores: map[string]bool{}, Keys: map[xks.BlockedKey]bool{}}
	for _, one := range k.blocks {
		if one.Key == "" {
			b.KeyStores[one.KeyStore] = true
		} else {
			b.Keys[xks.BlockedKey{KeyStore: one.KeyStore, Key: one.Key}] = true
		}
	}
	k.enforcer.SetBlocks(b)
}

// list is the blocks now, the oldest first, and why the file does not say the same, if so.
func (k *killSwitch) list() ([]block, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.blocks, k.unsaved
}

// survives reports whether blocks are remembered across restarts at all.
func (k *killSwitch) survives() bool { return k.path != "" }

// findBlock is the block of exactly this target.
func findBlock(blocks []block, t blockTarget) (block, bool) {
	i := slices.IndexFunc(blocks, func(b block) bool { return b.blockTarget == t })
	if i < 0 {
		return block{}, false
	}
	return blocks[i], true
}

// add blocks a target: in force first, then remembered, because a disk that fails must not keep a key usable. It returns the entry that
// stands and whether it stood before. The error is errUnsaved where the file could not be written; the block is in force then.
func (k *killSwitch) add(b block) (block, bool, error) {
	stands, before, err := k.put(b)
	if err != nil {
		return block{}, false, err
	}
	saved := make(chan error, 1)
	go func() { saved <- k.save() }()
	err = k.awaitSave(saved)
	if err != nil {
		return stands, before, fmt.Errorf("%w: %w", errUnsaved, err)
	}
	return stands, before, nil
}

// awaitSave waits for a disk that does not hang: whoever blocks must hear that it is blocked.
func (k *killSwitch) awaitSave(saved <-chan error) error {
	select {
	case err := <-saved:
		return err
	case <-time.After(saveLimit):
		return fmt.Errorf("%s has not been written within %s", k.path, saveLimit)
	}
}

func (k *killSwitch) put(b block) (block, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if old, found := findBlock(k.blocks, b.blockTarget); found {
		return old, true, nil
	}
	if len(k.blocks) >= maxBlocks {
		return block{}, false, fmt.Errorf("%w: %d are in force; block the key store as a whole, or take back blocks of single keys", errTooManyBlocks, maxBlocks)
	}
	k.blocks = append(slices.Clone(k.blocks), b)
	k.enforce()
	return b, false, nil
}

// remove takes a block back: remembered first, so that no restart brings back what an operator believes gone. If
// that fails it stays in force. It returns the entry that was there, if there was one.
func (k *killSwitch) remove(t blockTarget) (block, bool, error) {
	k.saving.Lock()
	defer k.saving.Unlock()
	blocks, _ := k.list()
	old, found := findBlock(blocks, t)
	if !found {
		return block{}, false, nil
	}
	err := k.writeFile(withoutBlock(blocks, t))
	if err != nil {
		// Only the directory may be what failed, with the new file in place. What is in force is written again, as well as it goes.
		again := k.writeFile(blocks)
		k.note(again)
		return old, true, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.blocks = withoutBlock(k.blocks, t) // others may have come meanwhile; they write themselves
	k.unsaved = nil
	k.enforce()
	return old, true, nil
}

func withoutBlock(blocks []block, t blockTarget) []block {
	return slices.DeleteFunc(slices.Clone(blocks), func(b block) bool { return b.blockTarget == t })
}

// save writes what is in force.
func (k *killSwitch) save() error {
	k.saving.Lock()
	defer k.saving.Unlock()
	blocks, _ := k.list()
	err := k.writeFile(blocks)
	k.note(err)
	return err
}

func (k *killSwitch) note(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.unsaved = err
}

package killswitch

// The kill switch: what operators have blocked. A block takes effect with the next request,
// whatever the configuration says, and stays through reloads and restarts until an operator removes
// it. This file says what a block is. switch.go adds and removes blocks, save.go writes them,
// file.go defines their file, and follow.go makes them follow a key store that is renamed.

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"xks-proxy/internal/text"
	"xks-proxy/pkg/xks"
)

const (
	maxBlocks    = 10_000 // at once; beyond, a key store as a whole can still be blocked
	maxReason    = 500    // bytes
	maxKeyLabel  = 255    // bytes; of a CKA_LABEL that is blocked
	blocksFormat = 1

	// MaxBlockedBy is the longest name of a user in a block, in bytes.
	MaxBlockedBy = 256
	// FileName is the name of the file in the state directory.
	FileName = "blocks.json"
)

// BlockTarget is what a block applies to: a key store, one key of it, or every key with a
// CKA_LABEL.
type BlockTarget struct {
	KeyStore string `json:"keyStore,omitempty"` // its name; "": every key with the label Key
	Key      string `json:"key,omitempty"`      // an external key id; a CKA_LABEL without KeyStore
}

// Block is one entry: what, why, by whom and since when.
type Block struct {
	BlockTarget
	URIPath string    `json:"uriPath,omitempty"` // of the key store, as last seen
	Reason  string    `json:"reason,omitempty"`  // at most maxReason bytes, no control characters
	By      string    `json:"by"`                // the user, from the kernel
	UID     int       `json:"uid"`               // of that user
	Since   time.Time `json:"since"`             // UTC
}

// String names the target in a sentence.
func (t BlockTarget) String() string {
	switch {
	case t.Key == "":
		return "key store " + t.KeyStore
	case t.KeyStore == "":
		return fmt.Sprintf("key with the label %q", t.Key)
	default:
		return fmt.Sprintf("key %s of key store %s", t.Key, t.KeyStore)
	}
}

// Check returns an error if a target is not valid.
func (t BlockTarget) Check() error {
	switch {
	case t.KeyStore == "" && t.Key == "":
		return errors.New("it names neither a key store nor a key")
	case t.KeyStore != "" && !text.IsName(t.KeyStore):
		return fmt.Errorf("%q is not a key store name: %s", t.KeyStore, text.NameForm)
	case t.KeyStore != "" && t.Key != "" && !xks.IsKeyID(t.Key):
		return fmt.Errorf("%q is not an external key id: %s. Without --key-store it would be a "+
			"CKA_LABEL", t.Key, xks.KeyIDForm)
	case len(t.Key) > maxKeyLabel || !isPlainText(t.Key):
		return fmt.Errorf(
			"a CKA_LABEL to block has at most %d bytes of UTF-8 and no control characters",
			maxKeyLabel,
		)
	}
	return nil
}

// CheckReason returns an error if the reason of a block is not valid.
func CheckReason(reason string) error {
	if len(reason) > maxReason {
		return fmt.Errorf("a reason has at most %d bytes, not %d", maxReason, len(reason))
	}
	if !isPlainText(reason) {
		return errors.New("a reason is one line of UTF-8 without control characters")
	}
	return nil
}

// isPlainText reports whether a text cannot change how a terminal or a log shows what follows: it
// has no control characters, line ends or direction marks.
func isPlainText(s string) bool {
	return utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) })
}

// covers reports whether a block applies to a target. path is the XksProxyUriPath of the target's
// key store; "" if there is no such key store.
func (b Block) covers(t BlockTarget, path string) bool {
	if b.Key != t.Key {
		return false
	}
	samePath := b.KeyStore != "" && t.KeyStore != "" && path != "" && b.URIPath == path
	return b.KeyStore == t.KeyStore || samePath
}

// findBlock returns the block of exactly this target.
func findBlock(blocks []Block, t BlockTarget) (Block, bool) {
	i := slices.IndexFunc(blocks, func(b Block) bool { return b.BlockTarget == t })
	if i < 0 {
		return Block{}, false
	}
	return blocks[i], true
}

func withoutBlock(blocks []Block, t BlockTarget) []Block {
	return slices.DeleteFunc(slices.Clone(blocks), func(b Block) bool { return b.BlockTarget == t })
}

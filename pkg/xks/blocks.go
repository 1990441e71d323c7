package xks

// The kill switch: what an operator has blocked, in effect for the next request, whatever the
// configuration says and across its reloads. A request that an HSM is at work for when the block
// comes is answered as a blocked one, too: nothing that was decrypted leaves after the block.

import (
	"errors"
)

// Blocks is what is blocked. It does not change once it is given to SetBlocks.
type Blocks struct {
	// KeyStores are named or given by their URIPath: every API answers InvalidStateException (X5).
	KeyStores map[string]bool
	// Keys: Encrypt and Decrypt answer InvalidStateException, GetKeyMetadata DISABLED (K2, X5).
	Keys map[BlockedKey]bool
}

// BlockedKey is a key of one key store, by its external key id, or of all of them, by its
// CKA_LABEL.
type BlockedKey struct {
	KeyStore string // its name or URIPath; "": Key is a CKA_LABEL
	Key      string
}

// blocks reports whether a key store is blocked as a whole, by its name or its path: a path begins
// with a slash, and no name does.
func (b *Blocks) blocks(s *keyStore) bool { return b.KeyStores[s.name] || b.KeyStores[s.uriPath] }

func (b *Blocks) blocksKey(s *keyStore, keyID, label string) bool {
	return b.Keys[BlockedKey{s.name, keyID}] || b.Keys[BlockedKey{s.uriPath, keyID}] ||
		b.Keys[BlockedKey{"", label}]
}

// SetBlocks applies blocks: to requests that come, and for those whose answer is not yet
// being written.
func (h *Handler) SetBlocks(b Blocks) {
	if len(b.KeyStores) == 0 && len(b.Keys) == 0 {
		h.blocks.Store(nil)
		return
	}
	h.blocks.Store(&b)
}

// storeBlocked says whether the key store is blocked, and by what.
func (x *exchange) storeBlocked() error {
	if x.store.blocked {
		return errStoreOff
	}
	b := x.handler.blocks.Load()
	if b != nil && b.blocks(x.store) {
		return errStoreKilled
	}
	return nil
}

// keyBlocked says whether the key that was found is disabled, or by now its key store blocked, and
// by what.
func (x *exchange) keyBlocked() error {
	if x.store.disabled[x.keyID] {
		return errKeyOff
	}
	b := x.handler.blocks.Load()
	if b == nil {
		return nil
	}
	if b.blocks(x.store) {
		return errStoreKilled
	}
	if b.blocksKey(x.store, x.keyID, x.key.Label) {
		return errKeyKilled
	}
	return nil
}

// blockedMeanwhile is asked when there is an answer: whether it may still leave.
func (x *exchange) blockedMeanwhile() error {
	if x.handler.blocks.Load() == nil {
		return nil
	}
	if x.hsmCalls.attempts > 0 {
		return x.keyBlocked()
	}
	return x.storeBlocked()
}

// What the log says of who blocked; the caller hears one text.
var (
	errStoreOff = failure(
		invalidState,
		"The external key store is blocked.",
		errors.New("by the configuration"),
	)
	errStoreKilled = failure(invalidState, errStoreOff.message, errors.New("by the kill switch"))
	errKeyOff      = failure(
		invalidState,
		"The external key is disabled.",
		errors.New("by the configuration"),
	)
	errKeyKilled = failure(invalidState, errKeyOff.message, errors.New("by the kill switch"))
)

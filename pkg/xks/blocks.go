package xks

// The kill switch: what an operator has blocked. It takes effect with the next request, whatever
// the configuration says, and outlives reloads. If the block comes while an HSM works on a request,
// the answer is that of a blocked one: no plaintext leaves after the block.

import (
	"errors"
)

// Blocks is what is blocked. Do not change it after a call of SetBlocks.
type Blocks struct {
	// KeyStores holds names or URIPaths. Every API of these answers InvalidStateException (X5).
	KeyStores map[string]bool
	// Keys holds single keys. Encrypt and Decrypt answer InvalidStateException, GetKeyMetadata
	// answers DISABLED (K2, X5).
	Keys map[BlockedKey]bool
}

// BlockedKey is a key of one key store, by its external key id, or a key of all key stores, by its
// CKA_LABEL.
type BlockedKey struct {
	KeyStore string // its name or URIPath; "": Key is a CKA_LABEL
	Key      string
}

// blocks reports whether a key store is blocked as a whole, by its name or its path. A path begins
// with a slash, and a name does not.
func (b *Blocks) blocks(s *keyStore) bool { return b.KeyStores[s.name] || b.KeyStores[s.uriPath] }

func (b *Blocks) blocksKey(s *keyStore, keyID, label string) bool {
	return b.Keys[BlockedKey{s.name, keyID}] || b.Keys[BlockedKey{s.uriPath, keyID}] ||
		b.Keys[BlockedKey{"", label}]
}

// SetBlocks replaces the blocks. They apply to every request whose answer is not yet being written.
func (h *Handler) SetBlocks(b Blocks) {
	if len(b.KeyStores) == 0 && len(b.Keys) == 0 {
		h.blocks.Store(nil)
		return
	}
	h.blocks.Store(&b)
}

// storeBlocked returns an error if the key store is blocked, with what blocks it as the cause.
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

// keyBlocked returns an error if the key that was found is disabled or blocked, or its key store is
// blocked, with what blocks it as the cause.
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

// blockedMeanwhile returns an error if a block since the start of the request forbids its answer.
func (x *exchange) blockedMeanwhile() error {
	if x.handler.blocks.Load() == nil {
		return nil
	}
	if x.hsmCalls.attempts > 0 {
		return x.keyBlocked()
	}
	return x.storeBlocked()
}

// The causes tell the log what blocks; the caller sees one text.
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

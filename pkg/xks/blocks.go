package xks

// The kill switch: what an operator has blocked, in force for the next request, whatever the configuration says and
// across its reloads.

// Blocks is what is blocked. It does not change once it is given to SetBlocks.
type Blocks struct {
	KeyStores map[string]bool     // by name: every API answers InvalidStateException (X5)
	Keys      map[BlockedKey]bool // Encrypt and Decrypt answer InvalidStateException, GetKeyMetadata DISABLED (K2, X5)
}

// BlockedKey is a key of one key store, by its external key id, or of all of them, by its CKA_LABEL.
type BlockedKey struct {
	KeyStore string // "": Key is a CKA_LABEL
	Key      string
}

// SetBlocks puts blocks in force for every request whose work has not begun.
func (h *Handler) SetBlocks(b Blocks) {}

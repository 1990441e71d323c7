// Package hsm is the contract between the proxy and its HSMs. A Token is one HSM; this package
// defines its calls, errors, key objects and key references. Package group serves from several
// tokens.
package hsm

import (
	"context"
)

// Sizes of AES-GCM fixed by the XKS Proxy API (requirements E2, D1).
const (
	TagSize     = 16 // bytes; the only tag length the API allows
	IVSize      = 12 // bytes; what the proxy makes itself
	LongIVSize  = 16 // bytes; what some HSMs make, accepted on decrypt
	KeySize     = 32 // bytes; AES-256, the only key the API encrypts with
	MaxDataSize = 1 << 16
	MaxAADSize  = 1<<16 - 1 + AADFraming
	AADFraming  = 2 + 1 + 20 // bytes that the proxy adds to the AAD of a request, at most

	// What AWS KMS sends at most, bytes (XKS Proxy API, Encrypt): 4096 bytes of plaintext with what
	// KMS wraps around them, and the AAD without the proxy's framing.
	KMSDataSize = 4096 + 204
	KMSAADSize  = 8192
)

// KeyRef names the key of one operation: its CKA_LABEL and its version (see Object.Version).
// PKCS#11 handles do not leave a Token: they differ between HSMs and change when an HSM restarts.
type KeyRef struct {
	Label   string
	Version uint32
}

// Sealed is the result of AES-GCM encryption. len(Ciphertext) equals the length of the plaintext,
// which may be 0; len(Tag) is TagSize; len(IV) is IVSize or LongIVSize. The slices may share one
// backing array.
type Sealed struct {
	IV         []byte
	Ciphertext []byte
	Tag        []byte
}

// Info is what a token reported at login (CK_TOKEN_INFO and CK_INFO, PKCS#11 2.40 sections 3.2 and
// 3.1). Strings are trimmed of their padding.
type Info struct {
	Label           string `json:"label"`
	Serial          string `json:"serial"`
	Manufacturer    string `json:"manufacturer"`
	Model           string `json:"model"`
	HardwareVersion string `json:"hardwareVersion"`
	FirmwareVersion string `json:"firmwareVersion"`
	Library         string `json:"library"` // description and version of the module
	Sessions        int    `json:"sessions"`
}

// Token is one HSM, logged in. It encrypts and decrypts with keys that never leave it. It is safe
// for concurrent use.
//
// Every error is, or wraps, an *Error whose Kind is a sentinel of this package.
// ErrInvalidCiphertext, ErrRefusedCiphertext, ErrUnprovenCiphertext, ErrKeyUsage, ErrKeyNotFound,
// ErrDuplicateKey, ErrTooLarge and ErrKeyFault concern the request or the keys and never count
// against this HSM. Every other error is a fault of the HSM (see IsFault). An error blames the
// smallest part that explains the failure (R7).
//
// A call returns when it is done or when ctx ends. PKCS#11 calls cannot be cancelled: the HSM may
// complete the work after ctx has ended, and its result is dropped. Encrypt and Decrypt may be
// repeated freely.
//
// Implementations neither keep nor change the slices that they receive. The returned slices belong
// to the caller.
type Token interface {
	// Encrypt encrypts with AES-256-GCM under a fresh IV that the caller cannot choose. len(aad) is
	// at most MaxAADSize and len(plaintext) at most MaxDataSize.
	Encrypt(ctx context.Context, key KeyRef, aad, plaintext []byte) (Sealed, error)

	// Decrypt decrypts what Encrypt returned on this or another HSM with the same key. If tag, IV,
	// AAD and ciphertext do not belong together it returns no plaintext and, depending on the
	// certainty, ErrInvalidCiphertext, ErrRefusedCiphertext or ErrUnprovenCiphertext.
	Decrypt(ctx context.Context, key KeyRef, aad []byte, sealed Sealed) ([]byte, error)

	// Keys lists all key objects on the token, in any order. The cost grows with their number, so
	// it is for background work. An empty list means that the token is present, logged in and
	// empty. A token that is away returns a fault.
	Keys(ctx context.Context) ([]Object, error)

	// Find lists the key objects with one CKA_LABEL, asking the token now. An empty list means the
	// same as in Keys.
	Find(ctx context.Context, label string) ([]Object, error)

	// Info returns what the token reported at its last login, or the zero Info before the first.
	Info() Info

	// Close logs out, frees the resources of the token and waits for that until ctx ends. Later
	// calls of any method return ErrUnavailable.
	Close(ctx context.Context) error
}

// Supervised is implemented by tokens whose module runs in a process of its own. A Group uses it if
// it is present.
type Supervised interface {
	// Changed returns a channel that receives a value when the token may have come or gone, so that
	// the caller probes it at once. Each call returns a channel of its own with capacity 1, which
	// is used until ctx ends: several groups may share a token.
	Changed(ctx context.Context) <-chan struct{}

	// Suspect reports that a call had no answer for longer than usual. The token checks its process
	// in the background and kills one that hangs.
	Suspect()

	// Renew asks for a new process for the module, because every operation fails although the
	// process lives. The first request is carried out at once, later ones after a backoff. It has
	// no effect while no process is ready.
	Renew(reason string)

	// Incarnation returns the number of processes that have opened the token; 0 means none yet. It
	// changes before the first call reaches a new process, and Info then describes the new token.
	// It is called twice for each request and must be cheap.
	Incarnation() uint64
}

// Queued is implemented by tokens that count their unanswered calls. Abandoned calls count as well,
// because they still occupy sessions. A Group calls it on every request: it must be cheap.
type Queued interface {
	Waiting() int
}

// ModelText returns the model with the versions of hardware and firmware.
func (i Info) ModelText() string {
	model := i.Model
	if i.HardwareVersion != "" {
		model += ", hardware " + i.HardwareVersion
	}
	if i.FirmwareVersion != "" {
		model += ", firmware " + i.FirmwareVersion
	}
	return model
}

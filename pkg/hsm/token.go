// Package hsm is the contract between the proxy and its HSMs: a Token is one HSM, with the errors,
// key
// objects and key references that its calls are about. Package group serves from several of them.
package hsm

import (
	"context"
)

// Sizes of AES-GCM as the XKS Proxy API fixes them (requirements E2, D1).
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

// KeyRef names the key material one operation uses: the CKA_LABEL of the key and
// its version (see Object.Version). Handles are a token's own business: they
// differ between HSMs and change when an HSM restarts.
type KeyRef struct {
	Label   string
	Version uint32
}

// Sealed is what AES-GCM encryption makes. len(Ciphertext) equals the length of
// the plaintext (0 is legal), len(Tag) is TagSize, len(IV) is IVSize or
// LongIVSize. The slices may share one backing array.
type Sealed struct {
	IV         []byte
	Ciphertext []byte
	Tag        []byte
}

// Info describes a token as it described itself when it was logged in
// (CK_TOKEN_INFO and CK_INFO, PKCS#11 2.40 sections 3.2 and 3.1). Strings are
// trimmed of their padding.
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

// Token is one HSM, logged in, that encrypts and decrypts with keys which never
// leave it. Methods may be called from many goroutines at once.
//
// Every error is, or wraps, an *Error, whose Kind is one of this package's
// sentinels. The sentinels say who is to blame: ErrInvalidCiphertext, ErrRefusedCiphertext,
// ErrUnprovenCiphertext, ErrKeyUsage, ErrKeyNotFound, ErrDuplicateKey, ErrTooLarge and ErrKeyFault
// are faults of the request or of the keys and never count against this HSM; any other is a fault
// of the HSM (see IsFault). Blame goes to the smallest thing that explains the failure (R7).
//
// A call returns when it is done or when ctx is, whichever is first. PKCS#11
// calls cannot be cancelled: after ctx ends the HSM may still do the work; its
// result is dropped. Encrypt and Decrypt may therefore be repeated freely.
//
// Implementations neither keep nor change the slices given, and hand over the
// slices they return.
type Token interface {
	// Encrypt seals plaintext with AES-256-GCM under a fresh IV that no caller
	// chooses. len(aad) is at most MaxAADSize, len(plaintext) at most MaxDataSize.
	Encrypt(ctx context.Context, key KeyRef, aad, plaintext []byte) (Sealed, error)

	// Decrypt opens what Encrypt sealed, on this or any HSM with the same key. It
	// returns ErrInvalidCiphertext, ErrRefusedCiphertext or ErrUnprovenCiphertext, by how sure
	// it is, when tag, IV, AAD and ciphertext do not belong together; nothing of the plaintext
	// is returned then.
	Decrypt(ctx context.Context, key KeyRef, aad []byte, sealed Sealed) ([]byte, error)

	// Keys lists all key objects on the token, in no order. It costs the HSM work
	// that grows with their number and is for the background only. An empty list
	// means that the token is present, logged in and really empty: a token that
	// is away answers with a fault.
	Keys(ctx context.Context) ([]Object, error)

	// Find looks at the token, now, for all key objects with one CKA_LABEL. An
	// empty list has the meaning it has in Keys.
	Find(ctx context.Context, label string) ([]Object, error)

	// Info returns what the token said of itself when it was last logged in; the
	// zero Info if it never was.
	Info() Info

	// Close logs out, ends what the token holds and waits for that at most as
	// long as ctx allows. Later calls of any method return ErrUnavailable.
	Close(ctx context.Context) error
}

// Supervised is a Token that knows more of itself than its calls tell. A Group uses
// it where a token has it.
type Supervised interface {
	// Changed gets a value when the token may have come or gone, so that it is probed at
	// once. Each caller has a channel of its own, of capacity 1, until ctx ends: a token serves in
	// several groups,
	// and for a moment in the old and the new one of a name.
	Changed(ctx context.Context) <-chan struct{}

	// Suspect tells the token that a call has gone without an answer for longer than is
	// usual. The token looks into it in the background and does what it can: a
	// process that stands still is killed.
	Suspect()

	// Renew asks for a new process for the module, because every operation fails while the
	// process lives. The first request is carried out at once, later ones after the usual
	// back-off; one that comes while no process is ready changes nothing.
	Renew(reason string)

	// Incarnation counts the processes that have opened the token; 0: none has yet. It changes
	// before the first call reaches a new process, and Info then describes what that one opened.
	// It is asked twice for each request and must cost next to nothing.
	Incarnation() uint64
}

// Queued is a Token that knows how many of its calls have no answer yet, those that nobody waits
// for any more included: they take up sessions anyway. A Group uses it where a token has it, on
// every request: it must cost next to nothing.
type Queued interface {
	Waiting() int
}

// ModelText is the model with the versions of the hardware and the firmware.
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

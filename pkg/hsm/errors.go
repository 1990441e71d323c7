package hsm

// Errors of an HSM, by what the layers above can do about them.

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Errors of the request or of the keys. They never count against the HSM.
var (
	// ErrInvalidCiphertext: the tag does not authenticate (requirement D2). From a Token it means
	// that the module answered with an unambiguous code; from a Group that it is proven.
	ErrInvalidCiphertext = errors.New("the ciphertext does not authenticate")
	// ErrRefusedCiphertext: the module refused to decrypt with a code that some modules also use
	// when they are busy or broken. It refused again when the call was repeated, while operations
	// known to be good succeeded, and none of them got such a code for a minute. It is this HSM's
	// verdict, weaker than ErrInvalidCiphertext.
	ErrRefusedCiphertext = errors.New("the HSM refuses the ciphertext in ambiguous terms")
	// ErrUnprovenCiphertext: as ErrRefusedCiphertext, but good operations recently got such a code
	// too, or there was no time to check. It is not a verdict.
	ErrUnprovenCiphertext = errors.New(
		"the HSM refused the ciphertext with a code that proves nothing",
	)
	// ErrKeyFault: the HSM works, for example with its test key, but not with this key (R7).
	ErrKeyFault = errors.New("the HSM works, but not with this key")
	// ErrKeyUsage: the key exists but does not allow this, or is not an AES-256 key.
	ErrKeyUsage = errors.New("the key does not allow this operation")
	// ErrKeyNotFound: the token answered, is present and logged in, and has no such key or version
	// (requirement X7).
	ErrKeyNotFound = errors.New("no such key on the token")
	// ErrDuplicateKey: two objects have the same label and version, so a ciphertext cannot be
	// assigned to one of them.
	ErrDuplicateKey = errors.New("two key objects have the same label and version")
	// ErrTooLarge: AAD or data are longer than the HSM accepts.
	ErrTooLarge = errors.New("the input is larger than the HSM accepts")
)

// Errors of the HSM. Another HSM may serve the request.
var (
	// ErrUnavailable: the HSM is away, broken, restarting or closed, or answered with an error that
	// is not a verdict on the request.
	ErrUnavailable = errors.New("the HSM is not available")
	// ErrCrashed is an ErrUnavailable: the HSM's process ended during the call, perhaps because of
	// it.
	ErrCrashed = fmt.Errorf("%w: its process ended during the call", ErrUnavailable)
	// ErrTimeout: the HSM did not answer in the given time. It wraps context.DeadlineExceeded or
	// context.Canceled.
	ErrTimeout = errors.New("the HSM did not answer in time")
	// ErrBusy: all sessions are taken and the queue is full.
	ErrBusy = errors.New("the HSM has no free session")
)

// Errors of the configuration. A retry does not help, and must not be made with a PIN: HSMs lock a
// PIN after a few failures.
var (
	ErrPINIncorrect  = errors.New("the HSM refused the PIN")
	ErrPINLocked     = errors.New("the PIN is locked")
	ErrTokenNotFound = errors.New("no such token")
	ErrModule        = errors.New("the PKCS#11 module cannot be used")
)

var requestKinds = []error{
	ErrInvalidCiphertext, ErrRefusedCiphertext, ErrUnprovenCiphertext, ErrKeyFault,
	ErrKeyUsage, ErrKeyNotFound, ErrDuplicateKey, ErrTooLarge,
}

var configKinds = []error{ErrPINIncorrect, ErrPINLocked, ErrTokenNotFound, ErrModule}

// IsFault reports whether err is a failure of the HSM itself, so that another HSM should be tried
// and this one watched.
func IsFault(err error) bool {
	return err != nil && !isAny(err, requestKinds)
}

// IsConfig reports whether err needs an operator, so that a retry does not help.
func IsConfig(err error) bool {
	return isAny(err, configKinds)
}

func isAny(err error, kinds []error) bool {
	for _, kind := range kinds {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// Error is one failed call to an HSM. It is for the operator's log. Nothing of it may reach the
// caller (requirement X6).
type Error struct {
	HSM      string // name from the configuration; filled in by the Group
	Op       string // what was to be done: "encrypt", "login", …
	Function string // the PKCS#11 function that answered, "" if none was reached
	Code     CKR    // its return value, CKROK if none was reached
	Kind     error  // one of this package's sentinels, never nil
	Detail   string // what else helps the operator
}

// Error names the HSM, the operation, what happened and the CKR code.
func (e *Error) Error() string {
	var b strings.Builder
	if e.HSM != "" {
		b.WriteString(e.HSM)
		b.WriteString(": ")
	}
	if e.Op != "" {
		b.WriteString(e.Op)
		b.WriteString(": ")
	}
	b.WriteString(e.Kind.Error())
	if e.Function != "" {
		b.WriteString(" (")
		b.WriteString(e.Function)
		b.WriteString(": ")
		b.WriteString(e.Code.String())
		b.WriteString(")")
	}
	if e.Detail != "" {
		b.WriteString(": ")
		b.WriteString(e.Detail)
	}
	return b.String()
}

// Unwrap returns the sentinel, for errors.Is.
func (e *Error) Unwrap() error { return e.Kind }

// Timeout returns the Kind of a call that ended with its context: ErrTimeout and cause, the error
// of the context.
func Timeout(cause error) error { return &timeoutKind{cause} }

type timeoutKind struct{ cause error }

func (t *timeoutKind) Error() string { return ErrTimeout.Error() }

func (t *timeoutKind) Unwrap() []error { return []error{ErrTimeout, t.cause} }

// CauseSuffix returns ": " and the errors on one line, or "" if there are none.
func CauseSuffix(errs []error) string {
	var b strings.Builder
	separator := ": "
	for _, err := range errs {
		b.WriteString(separator)
		b.WriteString(err.Error())
		separator = "; "
	}
	return b.String()
}

// AllOf reports whether all errors are of one kind.
func AllOf(faults []error, kind error) bool {
	return !slices.ContainsFunc(faults, func(err error) bool { return !errors.Is(err, kind) })
}

// Causes returns the errors on one line, without wrapping them.
func Causes(errs []error) string {
	return strings.TrimPrefix(CauseSuffix(errs), ": ")
}

// WithHSM returns err with the name of the HSM. It changes a copy, because the token may have
// returned the same error to several calls.
func WithHSM(err error, by string) error {
	e, ok := err.(*Error)
	if !ok || e.HSM != "" {
		return err
	}
	copied := *e
	copied.HSM = by
	return &copied
}

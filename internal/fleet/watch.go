package fleet

// When the process of an HSM gives up its token. Many modules do not find a token again after it
// was gone, unless they are loaded anew. The proxy starts a new process, which waits for the token.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"xks-proxy/pkg/hsm"
)

const (
	watchInterval = 2 * time.Second
	watchTimeout  = 1500 * time.Millisecond // for one answer
	watchPatience = 3                       // failures in a row

	// A token whose operations fail is looked at out of turn.
	faultsToLook = 3                      // in a row, whatever the code; see isGone
	looksToEnd   = 2                      // that fail in a row
	lookPause    = 10 * time.Millisecond  // between two
	lookEvery    = 100 * time.Millisecond // at most
	lastWords    = 20 * time.Millisecond  // for the answers to calls that have failed already
)

// The codes after which a process has to go, or its token has to be looked at.
const (
	ckrDeviceError     hsm.CKR = 0x30
	ckrDeviceRemoved   hsm.CKR = 0x32
	ckrSessionClosed   hsm.CKR = 0xB0
	ckrSessionInvalid  hsm.CKR = 0xB3
	ckrTokenNotPresent hsm.CKR = 0xE0
	ckrTokenUnknown    hsm.CKR = 0xE1
	ckrNotInitialized  hsm.CKR = 0x190
)

// isGone is true of codes with which a module says that the device or the session is gone. Vendors
// use them for other things now and then, so they are a reason to look and no proof.
func isGone(code hsm.CKR) bool {
	return slices.Contains([]hsm.CKR{
		ckrDeviceError, ckrDeviceRemoved, ckrSessionClosed, ckrSessionInvalid,
		ckrTokenNotPresent, ckrTokenUnknown, ckrNotInitialized,
	}, code)
}

// codeOf is the code in an error of a token, CKROK without one.
func codeOf(err error) hsm.CKR {
	var e *hsm.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return hsm.CKROK
}

// hsmToken is a token whose state can be checked.
type hsmToken interface {
	hsm.Token
	Alive(context.Context) error
}

// WatchedToken sees the results of all calls.
type WatchedToken struct {
	hsmToken
	faults atomic.Int32  // in a row
	look   chan struct{} // capacity 1: the token should be looked at now
	lost   chan error    // capacity 1: no call of this process can succeed any more
}

// NewWatchedToken watches the calls of t.
func NewWatchedToken(t hsmToken) *WatchedToken {
	return &WatchedToken{hsmToken: t, look: make(chan struct{}, 1), lost: make(chan error, 1)}
}

// Encrypt implements hsm.Token.
func (t *WatchedToken) Encrypt(
	ctx context.Context, key hsm.KeyRef, aad, plaintext []byte,
) (hsm.Sealed, error) {
	sealed, err := t.hsmToken.Encrypt(ctx, key, aad, plaintext)
	t.note(err)
	return sealed, err
}

// Decrypt implements hsm.Token.
func (t *WatchedToken) Decrypt(
	ctx context.Context, key hsm.KeyRef, aad []byte, sealed hsm.Sealed,
) ([]byte, error) {
	plaintext, err := t.hsmToken.Decrypt(ctx, key, aad, sealed)
	t.note(err)
	return plaintext, err
}

// Keys implements hsm.Token.
func (t *WatchedToken) Keys(ctx context.Context) ([]hsm.Object, error) {
	objects, err := t.hsmToken.Keys(ctx)
	t.note(err)
	return objects, err
}

// Find implements hsm.Token.
func (t *WatchedToken) Find(ctx context.Context, label string) ([]hsm.Object, error) {
	objects, err := t.hsmToken.Find(ctx, label)
	t.note(err)
	return objects, err
}

// Alive asks the token how it is.
func (t *WatchedToken) Alive(ctx context.Context) error {
	err := t.hsmToken.Alive(ctx)
	t.noteLost(err)
	return err
}

// note takes the result of a call.
func (t *WatchedToken) note(err error) {
	switch {
	case !hsm.IsFault(err):
		if t.faults.Load() != 0 { // a store for each call would cost more
			t.faults.Store(0)
		}
		return
	case errors.Is(err, hsm.ErrBusy), isPINRefusal(err):
		return
	}
	t.noteLost(err)
	if t.faults.Add(1) >= faultsToLook || isGone(codeOf(err)) {
		select {
		case t.look <- struct{}{}:
		default:
		}
	}
}

// noteLost finds the code that only C_Initialize cures.
func (t *WatchedToken) noteLost(err error) {
	if codeOf(err) != ckrNotInitialized {
		return
	}
	select {
	case t.lost <- err:
	default:
	}
}

func isPINRefusal(err error) bool {
	return errors.Is(err, hsm.ErrPINIncorrect) || errors.Is(err, hsm.ErrPINLocked)
}

// WatchToken ends the process when the token cannot be reached for too long.
func WatchToken(t *WatchedToken) {
	say := func(err error) { fmt.Fprintf(os.Stderr, "the token does not answer: %v\n", err) }
	away := WaitUntilAway(t.Alive, t.look, t.lost, say)
	fmt.Fprintln(os.Stderr, away+"; this process ends so that a new one can look for the token")
	time.Sleep(lastWords)
	os.Exit(1)
}

// WaitUntilAway returns when the token is to be given up, and says why: its module answered that it
// is not initialized; the token failed watchPatience checks in a row; or it failed looksToEnd
// checks that were made at once because calls failed. A call into the module can hang forever:
// that is a failure for every interval that it lasts. A refused PIN is none, for a new process
// would try the same one.
func WaitUntilAway(
	alive func(context.Context) error, look <-chan struct{}, lost <-chan error, report func(error),
) string {
	ticks := time.NewTicker(watchInterval)
	defer ticks.Stop()
	answers := make(chan error, 1)
	looked := make(chan error, 1)
	asking := false
	urgent := look // nil while a look is under way
	for failures := 0; failures < watchPatience; {
		var err error
		select {
		case err := <-lost:
			report(err)
			return "the PKCS#11 module is not initialized any more"
		case <-urgent:
			urgent = nil
			go func() { looked <- lookClosely(alive) }()
			continue
		case err := <-looked:
			if err != nil {
				report(err)
				return "every call fails, and the token is away"
			}
			urgent = look
			continue
		case <-ticks.C:
			if !asking {
				asking = true
				go func() { answers <- ask(alive) }()
				continue
			}
			err = errors.New("a call into the PKCS#11 module does not return")
		case err = <-answers:
			asking = false
		}
		if err == nil || isPINRefusal(err) {
			failures = 0
			continue
		}
		failures++
		report(err)
	}
	return "the token stays away"
}

// lookClosely returns an error if the token says several times that it is gone. Any other answer,
// and codes that also mean "busy", leave it to the checks that take their time.
func lookClosely(alive func(context.Context) error) error {
	for try := 1; ; try++ {
		err := ask(alive)
		switch {
		case !isGone(codeOf(err)) || isPINRefusal(err):
			time.Sleep(lookEvery)
			return nil
		case try == looksToEnd:
			return err
		}
		time.Sleep(lookPause)
	}
}

func ask(alive func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), watchTimeout)
	defer cancel()
	return alive(ctx)
}

package pkcs11

// What a login that failed means, and when the next one may be tried: HSMs lock after a few
// wrong PINs, and some refuse every login for a while after one.

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"xks-proxy/pkg/hsm"
)

// loginError reads the answer of C_Login.
func (u UserType) loginError(rv hsm.CKR) *hsm.Error {
	e := &hsm.Error{Op: "log in", Function: "C_Login", Code: rv, Kind: hsm.ErrUnavailable}
	switch rv {
	case ckrPINIncorrect, ckrPINInvalid, ckrPINLenRange:
		e.Kind = hsm.ErrPINIncorrect
		e.Detail = "it was tried once and is not tried again"
	case ckrPINExpired:
		e.Kind = hsm.ErrPINIncorrect
		e.Detail = expiredAdvice
	case ckrPINNotInitialized:
		e.Kind = hsm.ErrPINIncorrect
		e.Detail = "the token has no user PIN yet: the security officer must set one"
	case ckrPINLocked:
		e.Kind = hsm.ErrPINLocked
		e.Detail = "the security officer must reset it; then give this HSM a new process " +
			"(xks-proxy hsm restart)"
	case ckrUserTypeInvalid:
		e.Kind = hsm.ErrModule
		e.Detail = fmt.Sprintf(
			"the HSM does not know the user type 0x%X: set user_type as the vendor documents it",
			u.number(),
		)
	case ckrAnotherLoggedIn, ckrTooManyUserTypes:
		e.Detail = "another user, such as the security officer, is logged in to the token: " +
			"end that session on the HSM"
	default:
		if isUnclearRefusal(rv) {
			e.Detail = "this code does not say why; some HSMs refuse every login for a while after " +
				"a wrong PIN: " +
				"the login is tried again, each time after a longer pause"
		}
	}
	return e
}

const expiredAdvice = "the PIN has expired: set a new one with the HSM's own tool, put it where pin " +
	"says, " +
	"and give this HSM a new process (xks-proxy hsm restart)"

// refusesPIN says that this very PIN must not be tried again.
func refusesPIN(err error) bool {
	return errors.Is(err, hsm.ErrPINIncorrect) || errors.Is(err, hsm.ErrPINLocked)
}

// isUnclearRefusal says that C_Login answered with a code that may mean a login throttle. A device
// that is away or a lost session is something else, and its end is not waited for.
func isUnclearRefusal(rv hsm.CKR) bool {
	switch rv {
	case ckrGeneralError,
		ckrFunctionFailed,
		ckrArgumentsBad,
		ckrAnotherLoggedIn,
		ckrTooManyUserTypes:
		return true
	}
	return rv >= ckrVendorDefined
}

// Pauses between logins that fail for a reason that is not clear.
const (
	firstLoginPause = 250 * time.Millisecond
	maxLoginPause   = time.Minute
)

// loginPause keeps logins apart. Its owner has the login's turn.
type loginPause struct {
	length time.Duration
	until  time.Time
	last   *hsm.Error
}

func (p *loginPause) failed(now time.Time, failure *hsm.Error) {
	p.length = min(max(2*p.length, firstLoginPause), maxLoginPause)
	p.until = now.Add(p.length)
	p.last = failure
}

// check refuses a login before the pause is over, in the words of the one that failed.
func (p *loginPause) check(now time.Time) error {
	if !now.Before(p.until) {
		return nil
	}
	e := *p.last
	e.Detail = fmt.Sprintf(
		"the last login failed, and the next one is not tried for another %v: %s",
		p.until.Sub(now).Round(100*time.Millisecond),
		e.Detail,
	)
	return &e
}

// attemptID names a PIN on a token without holding the PIN.
func (l *login) attemptID() [sha256.Size]byte {
	h := sha256.New()
	token := identity{serial: l.token.serial}
	if !token.hasSerial() {
		token = l.token
	}
	_, _ = fmt.Fprintf(h, "%q %q %d ", l.module.path, token, l.user.number())
	_, _ = h.Write([]byte(l.pin))
	return [sha256.Size]byte(h.Sum(nil))
}

// refusedPINs outlives every Token: an HSM locks after a few wrong PINs, so that
// within one process none is ever tried twice.
var refusedPINs = attempts{seen: map[[sha256.Size]byte]*hsm.Error{}}

type attempts struct {
	mu   sync.Mutex
	seen map[[sha256.Size]byte]*hsm.Error
}

// get gives what the HSM said of this PIN when it refused it; nil: it did not.
func (a *attempts) get(id [sha256.Size]byte) *hsm.Error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen[id]
}

func (a *attempts) add(id [sha256.Size]byte, refusal *hsm.Error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen[id] = refusal
}

// notAgain is the error of a login that was not tried, because the HSM refused the PIN before.
// Its code is kept: it tells a wrong PIN from one that expired.
func notAgain(earlier *hsm.Error) error {
	e := &hsm.Error{Op: "log in", Kind: earlier.Kind, Code: earlier.Code,
		Detail: fmt.Sprintf(
			"the HSM refused this PIN before (%s), and it is not tried again: ",
			earlier.Code,
		)}
	switch earlier.Code {
	case ckrPINIncorrect, ckrPINInvalid, ckrPINLenRange:
		e.Detail += "correct the PIN, then restart"
	default:
		e.Detail += earlier.Detail
	}
	return e
}

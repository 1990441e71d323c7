package pkcs11

// The login of one token: done once, watched, and done again if the HSM forgot
// it; never with a PIN that was refused.

import (
	"context"
	"crypto/sha256"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

// login keeps one session open for as long as the token is: the login belongs to
// the process and ends with its last session (PKCS#11 2.40 section 5.6).
type login struct {
	module  *module
	profile *Profile
	slot    uint
	token   identity // that was opened
	user    UserType
	pin     Secret

	// count goes up before and after every C_Login, so that it changes for whoever was at
	// work while one took effect. Who searched meanwhile may have searched without a login, in which there
	// are no keys to find; who used a handle from before may have used another key.
	count atomic.Uint64

	turn   chan struct{} // holds one item: whoever took it may use the fields below
	anchor p11.SessionHandle
	isOpen bool
	closed bool
	pause  loginPause
}

func newLogin(m *module, p *Profile, slot tokenSlot, c Config) *login {
	l := &login{
		module: m, profile: p, slot: slot.id, token: identityOf(slot.info),
		user: c.UserType, pin: c.PIN, turn: make(chan struct{}, 1),
	}
	l.turn <- struct{}{}
	return l
}

// take waits for the login's turn; give it back with give.
func (l *login) take(ctx context.Context) error {
	select {
	case <-l.turn:
	default:
		select {
		case <-l.turn:
		case <-ctx.Done():
			return timeout("log in", ctx)
		}
	}
	if l.closed {
		l.give()
		return closedError()
	}
	return nil
}

func (l *login) give() { l.turn <- struct{}{} }

// ensure asks the token whether it is there and the one that was opened, and logs
// in if the login is lost. A nil error means: what the token says now is to be
// believed (requirement X7), and what it said before too, if count has not changed
// since.
func (l *login) ensure(ctx context.Context) error {
	err := l.take(ctx)
	if err != nil {
		return err
	}
	defer l.give()
	flags, err := l.tokenFlags()
	if err != nil || !l.user.logsIn() {
		return err
	}
	if l.isOpen {
		session, err := l.module.ctx.GetSessionInfo(l.anchor)
		switch {
		case err == nil && l.user.loggedIn(session.State):
			return nil
		case err == nil:
		case sessionIsGone(code(err)):
			l.closeAnchor()
		default:
			return unavailable("look at the login", "C_GetSessionInfo", err)
		}
	}
	return l.logIn(flags)
}

// renew logs in although the session says that we are: for modules that notice a
// lost login only when a key is used.
func (l *login) renew(ctx context.Context) error {
	err := l.take(ctx)
	if err != nil {
		return err
	}
	defer l.give()
	flags, err := l.tokenFlags()
	if err != nil {
		return err
	}
	if !l.user.logsIn() {
		return &hsm.Error{Op: "log in", Kind: hsm.ErrUnavailable,
			Detail: "the HSM wants a login, but user_type is none: set user_type and pin"}
	}
	return l.logIn(flags)
}

// holds reports whether the token is there and the session of the login is open on it. It never
// logs in.
func (l *login) holds(ctx context.Context) bool {
	err := l.take(ctx)
	if err != nil {
		return false
	}
	defer l.give()
	_, err = l.tokenFlags()
	if err != nil || !l.isOpen {
		return false
	}
	_, err = l.module.ctx.GetSessionInfo(l.anchor)
	return err == nil
}

// tokenFlags asks for the token's flags, and makes sure that it is the one that
// was opened: no other gets our PIN.
func (l *login) tokenFlags() (uint, error) {
	info, err := l.module.ctx.GetTokenInfo(l.slot)
	if err != nil {
		return 0, unavailable("look at the token", "C_GetTokenInfo", err)
	}
	difference := l.token.differs(identityOf(info))
	if difference != "" {
		return 0, &hsm.Error{Op: "look at the token", Kind: hsm.ErrUnavailable, Detail: difference}
	}
	return info.Flags, nil
}

// logIn calls C_Login at most once. The caller has the turn.
func (l *login) logIn(flags uint) error {
	attempt := l.attemptID()
	earlier := refusedPINs.get(attempt)
	if earlier != nil {
		return notAgain(earlier)
	}
	err := flagsAllowLogin(flags)
	if err != nil {
		return err
	}
	err = l.pause.check(time.Now())
	if err != nil {
		return err
	}
	if !l.isOpen {
		session, err := l.openAnchor()
		if err != nil {
			return err
		}
		l.anchor, l.isOpen = session, true
	}
	// Before: the login is there some time before C_Login returns, and handles from before it are
	// already other keys'. After: what a search began in between has not seen may be there now.
	// And whatever C_Login answers: an error, too, may have taken effect.
	l.count.Add(1)
	err = l.module.ctx.Login(l.anchor, l.user.number(), string(l.pin))
	l.count.Add(1)
	if err == nil || code(err) == ckrAlreadyLoggedIn {
		l.pause = loginPause{}
		return l.checkUsable(attempt)
	}
	if sessionIsGone(code(err)) {
		l.closeAnchor()
	}
	failure := l.user.loginError(code(err))
	switch {
	case refusesPIN(failure):
		failure.Detail += l.triesLeft()
		refusedPINs.add(attempt, failure)
	case isUnclearRefusal(failure.Code):
		l.pause.failed(time.Now(), failure)
	}
	return failure
}

// pinToBeChanged is CKF_USER_PIN_TO_BE_CHANGED (PKCS#11 2.40 section 3.2).
const pinToBeChanged = 0x00080000

// checkUsable finds a PIN that has expired and logs in anyway: the token then refuses
// everything but a new PIN. Not every token that sets the flag does, so that it is tried.
func (l *login) checkUsable(attempt [sha256.Size]byte) error {
	flags, err := l.tokenFlags()
	if err != nil || flags&pinToBeChanged == 0 {
		return err
	}
	none := []*p11.Attribute{p11.NewAttribute(p11.CKA_LABEL, "xks-proxy: no key has this label")}
	err = l.module.ctx.FindObjectsInit(l.anchor, none)
	if code(err) == ckrPINExpired {
		refusal := unavailable("log in", "C_FindObjectsInit", err)
		refusedPINs.add(attempt, refusal)
		return refusal
	}
	if err == nil {
		_ = l.module.ctx.FindObjectsFinal(l.anchor) // the search was not what this is about
	}
	return nil
}

func (l *login) openAnchor() (p11.SessionHandle, error) {
	flags := uint(p11.CKF_SERIAL_SESSION)
	if !l.profile.ReadOnlySessions {
		flags |= p11.CKF_RW_SESSION
	}
	session, err := l.module.ctx.OpenSession(l.slot, flags)
	if err != nil {
		return 0, unavailable("log in", "C_OpenSession", err)
	}
	return session, nil
}

func (l *login) closeAnchor() {
	if l.isOpen {
		_ = l.module.ctx.CloseSession(l.anchor)
	}
	l.isOpen = false
}

// close ends the login: closing the last session logs out. It reports whether it
// had its turn before ctx ended; if not, somebody hangs in the module.
func (l *login) close(ctx context.Context) bool {
	err := l.take(ctx)
	if err != nil {
		return false
	}
	defer l.give()
	l.closeAnchor()
	l.closed = true
	return true
}

// triesLeft is what the token says after it refused a PIN.
func (l *login) triesLeft() string {
	info, err := l.module.ctx.GetTokenInfo(l.slot)
	if err != nil {
		return ""
	}
	switch {
	case info.Flags&p11.CKF_USER_PIN_LOCKED != 0:
		return "; the PIN is now locked"
	case info.Flags&p11.CKF_USER_PIN_FINAL_TRY != 0:
		return "; WARNING: one more wrong PIN locks the token"
	case info.Flags&p11.CKF_USER_PIN_COUNT_LOW != 0:
		return "; WARNING: the token counts wrong PINs and locks after a few"
	}
	return ""
}

// flagsAllowLogin refuses to spend the last try of a PIN, or one on a locked PIN.
func flagsAllowLogin(flags uint) error {
	refused := func(detail string) error {
		return &hsm.Error{Op: "log in", Kind: hsm.ErrPINLocked, Detail: detail}
	}
	switch {
	case flags&p11.CKF_USER_PIN_LOCKED != 0:
		return refused("the token says that its user PIN is locked: the security officer must reset it")
	case flags&p11.CKF_USER_PIN_FINAL_TRY != 0:
		return refused("the token allows only one more try of its user PIN, which the proxy does not take: log in by hand with the right PIN, or have the security officer reset it")
	}
	return nil
}

func sessionIsGone(rv hsm.CKR) bool {
	return rv == ckrSessionClosed || rv == ckrSessionInvalid
}

package pkcs11

// How many sessions a token gives. An HSM that has no more says so in its own words
// (CKR_SESSION_COUNT, CKR_DEVICE_MEMORY, CKR_DEVICE_ERROR, CKR_ARGUMENTS_BAD, …), so the words do
// not count: while a session is open and the token answers, one that it refuses is one too many.

import (
	"context"
	"errors"
	"time"

	"xks-proxy/pkg/hsm"
)

// proofTimeout bounds the wait for another user of the login.
const proofTimeout = time.Second

// openWork opens a session that encrypts and decrypts. The error is hsm.ErrBusy if the token has no
// more sessions, and otherwise a fault.
func (t *Token) openWork() (*session, error) {
	s, err := openSession(t.module, &t.profile, t.slot)
	if err == nil {
		return s, nil
	}
	if errors.Is(err, hsm.ErrBusy) || code(err) == ckrNotInitialized {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), proofTimeout)
	defer cancel()
	if !t.login.holds(ctx) {
		return nil, err
	}
	limit := *unavailable("open session", "C_OpenSession", err)
	limit.Kind = hsm.ErrBusy
	limit.Detail = "the HSM refuses one more session while others are open: " +
		"lower `sessions`, or raise the HSM's limit"
	return nil, &limit
}

// openReserved opens a session for listings or for the canary. They come first: where the token has
// no more, one that encrypts and decrypts is closed for them.
func (t *Token) openReserved() (*session, error) {
	s, err := t.openWork()
	if errors.Is(err, hsm.ErrBusy) && t.work.shed() {
		return t.openWork()
	}
	return s, err
}

// reserve opens the first session of each pool, so that a tight limit does not leave one with none.
// An error shows again when the session is needed.
func (t *Token) reserve(ctx context.Context) {
	for _, p := range []*pool{t.work, t.admin} {
		s, err := p.get(ctx)
		if err == nil {
			p.put(s)
		}
	}
}

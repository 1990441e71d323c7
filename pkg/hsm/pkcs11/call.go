package pkcs11

// One call of the module with everything that is repeated on the spot: cures of what was lost,
// each of them once, and repeats of what a busy HSM did not take.

import (
	"context"

	"xks-proxy/pkg/hsm"
)

// busyRepeats is how often a call is repeated that a busy HSM may not have taken. With every
// second call refused, 1 operation in 32 fails.
const busyRepeats = 4

// seat is a session taken from a pool. It may be replaced while it is taken.
type seat struct {
	from *pool
	s    *session // nil: given back
}

// renew replaces the session by a new one. After an error there is none.
func (x *seat) renew(ctx context.Context) error {
	fresh, err := x.from.renew(ctx, x.s)
	x.s = fresh
	return err
}

// leave gives the session back to the pool, or closes it.
func (x *seat) leave(keep bool) {
	switch {
	case x.s == nil:
		return
	case keep:
		x.from.put(x.s)
	default:
		x.from.drop(x.s)
	}
	x.s = nil
}

// answer is what a call came to after its cures. All zero: it succeeded.
type answer struct {
	failed  *callError
	verdict verdict
	err     error // a cure failed, so there is no answer
}

// insist makes the call again while the HSM answers as a busy one does. The answers to a canary
// are known not to be about the ciphertext, so each ambiguous one means busy.
func (t *Token) insist(ctx context.Context, op *operation, at *seat) answer {
	for again := 0; ; again++ {
		a := t.attempt(ctx, op, at)
		isBusy := a.failed != nil && (a.verdict == busy || op.knownGood() && a.verdict == vague)
		if !isBusy || again == busyRepeats || ctx.Err() != nil {
			return a
		}
		op.tried[lostSession] = false // the answer may have left the operation active
	}
}

// attempt makes the call, and again after each cure.
func (t *Token) attempt(ctx context.Context, op *operation, at *seat) answer {
	for {
		failed, v := t.try(op, at.s)
		t.suspect(op, failed, v)
		if failed == nil {
			return answer{}
		}
		if !v.cures() || op.tried[v] || ctx.Err() != nil {
			return answer{failed: failed, verdict: v.uncured(&t.profile, failed)}
		}
		op.tried[v] = true
		before := op.entry
		err := t.cure(ctx, op, v)
		if err == nil && !(v == staleHandle && failed.stage == stageInit) {
			err = at.renew(ctx)
		}
		if err != nil {
			return answer{err: named(op.name, err)}
		}
		if op.entry.isStill(before) {
			t.suspect(op, failed, v.uncured(&t.profile, failed)) // there was nothing to cure
		}
	}
}

// suspect keeps account of ambiguous answers. Any of them to a canary, or to a call that
// succeeds later, shows that the token gives them to good operations too.
func (t *Token) suspect(op *operation, failed *callError, v verdict) {
	reachedData := failed == nil || failed.stage == stageData
	if failed == nil && op.doubt > 0 || reachedData && op.initDoubt > 0 {
		t.doubt.wrong()
	}
	if failed == nil || v != vague && v != busy {
		return
	}
	op.doubt++
	if v == busy && failed.stage == stageInit {
		op.initDoubt++
	}
	if op.knownGood() {
		t.doubt.wrong()
	}
}

// try makes the call. Its result does not count if somebody logged in meanwhile: handles end
// with the login they were found under (PKCS#11 2.40, C_Logout), and a module may give the same
// number to another key afterwards. What was encrypted under that would be lost.
func (t *Token) try(op *operation, s *session) (*callError, verdict) {
	failed := op.run(s)
	v := fault
	if failed != nil {
		v = classify(s.profile, failed)
	}
	if v == badParameter && op.decrypt && len(op.iv) != t.profile.IVSize {
		v = vague // the IV came with the ciphertext
	}
	if t.login.count.Load() != op.entry.logins && !v.cures() {
		return &callError{
			stage: stageOutput, decrypt: op.decrypt,
			detail: "the login was lost during the call, so that the key may have been another",
		}, loginChanged
	}
	return failed, v
}

// cure repairs what the verdict names and looks up the key again.
func (t *Token) cure(ctx context.Context, op *operation, v verdict) error {
	var err error
	switch v {
	case lostLogin:
		err = t.login.renew(ctx)
	case lostSession:
		err = t.login.ensure(ctx) // what ended the session may have ended the login
	case staleHandle:
		t.keys.forget(op.key, op.entry.handle)
	}
	if err != nil {
		return err
	}
	op.entry, err = t.keyOf(ctx, op)
	return err
}

// perform runs an operation of the proxy's own with the test key, on a session that is taken.
func (t *Token) perform(ctx context.Context, op *operation, at *seat) error {
	if at.s == nil {
		return &hsm.Error{Op: op.name, Kind: hsm.ErrUnavailable,
			Detail: "its session could not be replaced"}
	}
	var err error
	op.entry, err = t.keyOf(ctx, op)
	if err != nil {
		return named(op.name, err)
	}
	began := t.evidence.now()
	a := t.insist(ctx, op, at)
	switch {
	case a.err != nil:
		return a.err
	case a.failed != nil:
		return a.failed.as(op.name, hsm.ErrUnavailable)
	}
	t.succeeded(op, began)
	return nil
}

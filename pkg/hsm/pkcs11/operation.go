package pkcs11

// The life of one encrypt or decrypt: find the handle, take a session, call, read
// the answer, and cure what can be cured, each ailment once.

import (
	"context"
	"fmt"
	"time"

	"xks-proxy/pkg/hsm"
)

// refusalAge is how old what the table knows may be when it refuses a request
// without another look at the token.
const refusalAge = time.Second

// findTimeout bounds a search that several requests may wait for. It is not the
// request's own time: the first one to give up must not fail the others.
const findTimeout = 5 * time.Second

// operation is one encrypt or decrypt and its result.
type operation struct {
	name     string
	decrypt  bool
	isCanary bool
	key      hsm.KeyRef
	aad      []byte
	data     []byte // plaintext, or ciphertext without its tag
	iv, tag  []byte // decrypt only

	sealed    hsm.Sealed
	plaintext []byte
}

func (op *operation) need() hsm.Usage {
	if op.decrypt {
		return hsm.CanDecrypt
	}
	return hsm.CanEncrypt
}

func (op *operation) run(s *session, handle uint) *callError {
	clear(op.plaintext) // of a try that did not count
	var failed *callError
	if op.decrypt {
		op.plaintext, failed = s.open(handle, op.aad, hsm.Sealed{IV: op.iv, Ciphertext: op.data, Tag: op.tag})
	} else {
		op.sealed, failed = s.seal(handle, op.aad, op.data)
	}
	return failed
}

// do runs the operation on a session of the pool.
func (t *Token) do(ctx context.Context, op *operation, from *pool) error {
	if ctx.Err() != nil {
		return timeout(op.name, ctx)
	}
	key, err := t.handle(ctx, op.key, op.need())
	if err != nil {
		return named(op.name, err)
	}
	s, err := from.get(ctx)
	if err != nil {
		return named(op.name, err)
	}
	var tried [verdictCount]bool
	repeats := 0
	for {
		failed, v := t.try(op, s, key)
		if failed == nil {
			t.doubt.repeated(repeats)
			from.put(s)
			return nil
		}
		if v.isVague() && !op.isCanary && repeats < t.doubt.repeats() && ctx.Err() == nil {
			repeats++
			tried[lostSession] = false // the answer may have left the operation active
			continue
		}
		if !v.cures() || tried[v] || ctx.Err() != nil {
			return t.conclude(ctx, op, from, s, failed, v)
		}
		tried[v] = true
		key, err = t.cure(ctx, op, v, key)
		if err != nil {
			from.drop(s)
			return named(op.name, err)
		}
		s, err = from.renew(ctx, s)
		if err != nil {
			return named(op.name, err)
		}
	}
}

// try makes the call. Its result does not count if somebody logged in meanwhile:
// handles end with the login they were found under (PKCS#11 2.40, C_Logout), and a module may give
// the same number to another key afterwards. What was encrypted under that would be lost.
func (t *Token) try(op *operation, s *session, key *entry) (*callError, verdict) {
	failed := op.run(s, key.handle)
	v := fault
	if failed != nil {
		v = classify(s.profile, failed)
	}
	if t.login.count.Load() != key.logins && !v.cures() {
		return &callError{stage: stageOutput, decrypt: op.decrypt, detail: "the login was lost during the call, so that the key may have been another"}, loginChanged
	}
	return failed, v
}

// cure mends what the verdict says and gives the key to try with.
func (t *Token) cure(ctx context.Context, op *operation, v verdict, key *entry) (*entry, error) {
	var err error
	switch v {
	case lostLogin:
		err = t.login.renew(ctx)
	case lostSession:
		err = t.login.ensure(ctx) // what ended the session may have ended the login
	case staleHandle:
		t.keys.forget(op.key, key.handle)
	}
	if err != nil {
		return nil, err
	}
	return t.handle(ctx, op.key, op.need())
}

// conclude turns the last answer into the caller's error and gives back the session.
func (t *Token) conclude(ctx context.Context, op *operation, from *pool, s *session, failed *callError, v verdict) error {
	kind, keep := hsm.ErrUnavailable, v.keepsSession(failed.stage)
	switch v {
	case badCiphertext:
		kind = hsm.ErrInvalidCiphertext
	case badUsage:
		kind = hsm.ErrKeyUsage
	case tooLarge:
		kind = hsm.ErrTooLarge
	case vague, vagueParameter:
		kind, keep = t.askCanary(ctx, op, failed, v)
	}
	if keep {
		from.put(s)
	} else {
		from.drop(s)
	}
	return failed.as(op.name, kind)
}

// askCanary decides what a vague answer means: its kind, and whether the session may
// serve on. The canary's own vague answers are faults. The session stays taken meanwhile: it may
// have an operation left active, and there are no more callers than sessions (package worker) whom it could serve.
func (t *Token) askCanary(ctx context.Context, op *operation, failed *callError, v verdict) (error, bool) {
	if op.isCanary {
		return hsm.ErrUnavailable, false
	}
	err := t.canary.shared.do(ctx)
	if err != nil {
		failed.detail = fmt.Sprintf("could mean a bad request, but the HSM fails a known good one too: %v", err)
		return hsm.ErrUnavailable, false
	}
	switch {
	case v == vague:
		return hsm.ErrInvalidCiphertext, true
	case op.decrypt && len(op.iv) != t.profile.IVSize:
		return hsm.ErrInvalidCiphertext, false
	case len(op.aad) > len(canaryAAD):
		return hsm.ErrTooLarge, false
	default:
		return hsm.ErrUnavailable, false
	}
}

// handle gives the key for a use, with its handle. What the table does not know, knows
// from before the last login, or knows to refuse for longer than refusalAge, is looked up on the
// token, once for all requests that wait for the same label.
func (t *Token) handle(ctx context.Context, key hsm.KeyRef, need hsm.Usage) (*entry, error) {
	e, ok := t.keys.get(key)
	if ok && e.logins == t.login.count.Load() {
		refusal := e.refuses(need)
		if refusal == nil {
			return e, nil
		}
		if time.Since(e.checked) < refusalAge {
			return nil, refusal
		}
	}
	found, err := t.findOnce(ctx, key.Label)
	if err != nil {
		return nil, err
	}
	// What was found, not the table again: another request may just have forgotten it.
	e, ok = found.versions[key.Version]
	if unreadable := firstUnreadable(found.all); !ok && unreadable != nil {
		return nil, hsm.UnreadableError("", *unreadable)
	}
	if !ok {
		return nil, &hsm.Error{Kind: hsm.ErrKeyNotFound, Detail: fmt.Sprintf("label %q, version %d", key.Label, key.Version)}
	}
	return e, e.refuses(need)
}

// findings are what a live look for one label gave. They are shared, never changed.
type findings struct {
	all      []listed
	versions map[uint32]*entry
}

// findOnce looks for a label on the token. Callers that come while a search for the
// same label runs share its result.
func (t *Token) findOnce(ctx context.Context, label string) (findings, error) {
	if ctx.Err() != nil {
		return findings{}, timeout("look for the key", ctx)
	}
	shared := t.finding.DoChan(label, func() (any, error) {
		// Not the first caller's ctx: its end must not fail the others.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), findTimeout)
		defer cancel()
		return t.find(ctx, label)
	})
	select {
	case result := <-shared:
		if result.Err != nil {
			return findings{}, result.Err
		}
		return result.Val.(findings), nil
	case <-ctx.Done():
		return findings{}, timeout("look for the key", ctx)
	}
}

// find looks for a label on the token, now, and brings the table up to date.
func (t *Token) find(ctx context.Context, label string) (findings, error) {
	all, err := t.list(ctx, search{label: label})
	if err != nil {
		return findings{}, err
	}
	found := findings{all: all, versions: index(all)[label]}
	t.keys.replaceLabel(label, found.versions)
	return found, nil
}

package pkcs11

// The life of one encrypt or decrypt: find the handle, take a session, call and read the answer.
// call.go makes the call and its cures, proof.go decides about a ciphertext that is refused in
// ambiguous terms, and blame.go about every other failure.

import (
	"context"
	"errors"
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
	isCanary bool // see knownGood
	key      hsm.KeyRef
	one      *reader // of several objects, the one meant
	aad      []byte
	data     []byte // plaintext, or ciphertext without its tag
	iv, tag  []byte // decrypt only

	entry *entry             // of the key, with its handle
	made  *entry             // of a canary's key, when it was made
	tried [verdictCount]bool // the cures that are used up
	doubt int                // ambiguous answers so far that no cure explains
	// initDoubt are those of doubt that came from an Init call, which does not see the ciphertext.
	initDoubt int

	sealed    hsm.Sealed
	plaintext []byte
}

func (op *operation) need() hsm.Usage {
	if op.decrypt {
		return hsm.CanDecrypt
	}
	return hsm.CanEncrypt
}

func (op *operation) run(s *session) *callError {
	clear(op.plaintext) // of a try that did not count
	var failed *callError
	if op.decrypt {
		sealed := hsm.Sealed{IV: op.iv, Ciphertext: op.data, Tag: op.tag}
		op.plaintext, failed = s.open(op.entry.handle, op.aad, sealed)
	} else {
		op.sealed, failed = s.seal(op.entry.handle, op.aad, op.data)
	}
	return failed
}

// do runs the operation on a session of the pool.
func (t *Token) do(ctx context.Context, op *operation, from *pool) error {
	if ctx.Err() != nil {
		return timeout(op.name, ctx)
	}
	err := t.remembered(op)
	if err != nil {
		return err
	}
	op.entry, err = t.keyOf(ctx, op)
	if err != nil {
		return named(op.name, err)
	}
	s, err := from.get(ctx)
	if err != nil {
		return named(op.name, err)
	}
	at := &seat{from: from, s: s}
	keep, err := t.serve(ctx, op, at)
	at.leave(keep)
	return err
}

// serve makes the call, and makes it again as long as that can tell what an error means. It
// reports whether the session can be used again.
func (t *Token) serve(ctx context.Context, op *operation, at *seat) (bool, error) {
	var p *proof
	repeats := 0
	for {
		began, start := t.evidence.now(), time.Now()
		a := t.insist(ctx, op, at)
		switch {
		case a.err != nil:
			return false, a.err
		case a.failed == nil:
			t.succeeded(op, began)
			return true, nil
		case a.verdict == badCiphertext:
			return true, a.failed.as(op.name, hsm.ErrInvalidCiphertext)
		case a.verdict == vague:
			if p == nil {
				p = t.startProof()
				defer t.evidence.leave(p)
			}
			p.timed(start)
			again, err := t.weigh(ctx, op, at, p, a.failed)
			if again {
				continue
			}
			return !hsm.IsFault(err) && !errors.Is(err, hsm.ErrKeyFault), err
		case a.verdict == notThisKey || repeats == faultRepeats:
			return t.explain(ctx, op, at, a)
		}
		err := t.compare(ctx, op, at, a)
		if err != nil {
			return false, err
		}
		repeats++
		op.tried = [verdictCount]bool{}
	}
}

// succeeded notes what a success says about the token and the key.
func (t *Token) succeeded(op *operation, began uint64) {
	t.blames.forget(op)
	if op.decrypt && op.doubt == 0 {
		t.evidence.good(began)
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
	found := findings{all: all, versions: t.keys.index(all)[label]}
	t.keys.replaceLabel(label, found.versions)
	return found, nil
}

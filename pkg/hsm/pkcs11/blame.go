package pkcs11

// Blame: whose fault it is that an operation failed. It goes to the smallest thing that explains
// the failure. If the test key cannot do the same, it is the HSM. If it can, but not with an input
// of the same size, it is the size. Otherwise it is the key.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"xks-proxy/pkg/hsm"
)

// faultRepeats is how often a call that failed with a fault is made again, each time after the test
// key succeeded. An HSM that fails half of all calls by chance blames a key for 1 in 64 of them,
// until the test key fails too: then no key is blamed for doubtTime.
const faultRepeats = 2

// blameTime is how long a key that failed is refused without a call.
const blameTime = time.Second

// maxBlames bounds the memory of keys that failed.
const maxBlames = 1000

// remembered refuses what was found out not to work a short time ago.
func (t *Token) remembered(op *operation) error {
	err := t.blames.get(op)
	if err != nil {
		return err
	}
	return t.limits(op).refuse(op)
}

// compare has the test key do what the key just could not. After nil the token is well and the
// session can be used, so that the operation deserves another try.
func (t *Token) compare(ctx context.Context, op *operation, at *seat, a answer) error {
	if op.key.Label == t.config.TestKey {
		t.flaky.wrong()
		return a.failed.as(op.name, hsm.ErrUnavailable)
	}
	if !a.keepsSession() {
		err := at.renew(ctx)
		if err != nil {
			a.failed.detail = fmt.Sprintf("and no new session: %v", err)
			return a.failed.as(op.name, hsm.ErrUnavailable)
		}
	}
	err := t.vouch(ctx, at, op.decrypt)
	if errors.Is(err, errNoTestKey) {
		return a.failed.as(op.name, withoutTestKey(op, a.failed))
	}
	if err != nil {
		t.flaky.wrong()
		return a.failed.doubted(op.name, err)
	}
	return nil
}

// withoutTestKey is whose fault it is as far as the code alone can tell.
func withoutTestKey(op *operation, failed *callError) error {
	switch {
	case slices.Contains(plainKeyRefusals, failed.code):
		return hsm.ErrKeyUsage
	case failed.code == ckrDataLenRange && op.isLong():
		return hsm.ErrTooLarge
	default:
		return hsm.ErrUnavailable
	}
}

// doubted is the error for a failure of an HSM that also fails with its test key.
func (e *callError) doubted(op string, cause error) error {
	e.detail = fmt.Sprintf("and the HSM fails with its test key too: %v", cause)
	return e.as(op, hsm.ErrUnavailable)
}

// explain gives the caller's error for a failure that is final. It reports whether the session
// can be used again.
func (t *Token) explain(ctx context.Context, op *operation, at *seat, a answer) (bool, error) {
	err := t.compare(ctx, op, at, a)
	if err != nil {
		return a.keepsSession() && errors.Is(err, hsm.ErrKeyUsage), err
	}
	kind := hsm.ErrKeyFault
	switch {
	case t.login.count.Load() != op.entry.logins:
		a.failed.detail = "and the login was lost at the same time"
		return false, a.failed.as(op.name, hsm.ErrUnavailable)
	case a.verdict == notThisKey, a.failed.code == ckrNotLoggedIn:
		kind = hsm.ErrKeyUsage // a key can need a login of its own, too
	case a.verdict == busy && !t.doubt.isClean():
		a.failed.detail = "the HSM answers like this to good operations now and then: it is busy"
		return true, a.failed.as(op.name, hsm.ErrBusy)
	case op.isLong():
		limit, err := t.measure(ctx, op, at)
		if err != nil {
			return false, a.failed.doubted(op.name, err)
		}
		if limit != "" {
			a.failed.detail = limit
			return true, a.failed.as(op.name, hsm.ErrTooLarge)
		}
	}
	if a.verdict != notThisKey && !t.flaky.isClean() {
		a.failed.detail = "and the HSM lately failed with its test key too"
		return false, a.failed.as(op.name, hsm.ErrUnavailable)
	}
	verdict := a.failed.as(op.name, kind)
	t.blames.put(op, verdict)
	return true, verdict
}

// blames are the keys that failed alone, each for blameTime.
type blames struct {
	count atomic.Int64 // of byUse; without any, a call costs one load
	mu    sync.Mutex
	byUse map[keyUse]blame
}

// keyUse is a key and what was to be done with it.
type keyUse struct {
	key     hsm.KeyRef
	one     readerName // of several objects
	decrypt bool
}

type blame struct {
	verdict *hsm.Error
	until   time.Time
}

func (op *operation) use() keyUse { return keyUse{op.key, op.one.named(), op.decrypt} }

func (b *blames) get(op *operation) error {
	if b.count.Load() == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	one, ok := b.byUse[op.use()]
	if !ok || time.Now().After(one.until) {
		return nil
	}
	verdict := *one.verdict
	return &verdict
}

func (b *blames) put(op *operation, verdict *hsm.Error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byUse == nil || len(b.byUse) >= maxBlames {
		b.byUse = map[keyUse]blame{}
	}
	b.byUse[op.use()] = blame{verdict, time.Now().Add(blameTime)}
	b.count.Store(int64(len(b.byUse)))
}

// forget is for a key that works.
func (b *blames) forget(op *operation) {
	if b.count.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.byUse, op.use())
	b.count.Store(int64(len(b.byUse)))
}

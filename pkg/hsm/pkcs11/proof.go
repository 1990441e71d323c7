package pkcs11

// Proof: what it takes to believe that an ambiguous refusal to decrypt is about the ciphertext.
//
// A busy HSM that refuses each call with probability p, independently, and began to do so a moment
// ago, gets a good ciphertext refused wrongly only if proofRepeats repeats are refused as well
// and proofGoods decrypts of known good ciphertexts succeed: p^4 × (1-p)^15 for each refused call.
// The first known good operation that is refused ends the danger for doubtTime, and each refused
// call is followed by either that or a wrong verdict, so the same number bounds the wrong
// verdicts of the whole change from well to busy:
//
//	p = 10 %: 2.1e-5    21 % (the maximum): 5.7e-5    30 %: 3.8e-5    50 %: 1.9e-6
//
// Successes and refusals alternate: after each refusal there has to be one more success before the
// call is repeated. A short burst of refusals, however dense, is therefore no proof either: it would
// have to come back for every repeat and spare every canary in between.

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"xks-proxy/pkg/hsm"
)

const (
	proofRepeats = 4
	proofGoods   = 15

	// maxHelpers bounds the idle sessions that decrypt canaries for the proofs of a token.
	maxHelpers = 3
)

// A proof may take as long as proofCalls calls like the slowest so far, within these bounds. The
// caller shall hear that nothing is proven, not take the HSM for hung: a group suspects one that has
// not answered for 60 ms. A slow HSM, or one on a busy machine, gets more, because without a proof
// no tampered ciphertext is ever found on it. Variables: tests run on machines that stand still.
var (
	leastProofTime = 50 * time.Millisecond
	mostProofTime  = 200 * time.Millisecond
)

const proofCalls = 10

// proof is the state of one refused decrypt.
type proof struct {
	joined   uint64 // evidence.clock
	began    time.Time
	slowest  time.Duration // of the calls so far
	refusals int           // ambiguous answers to this ciphertext
	goods    atomic.Int64  // successes of good decrypts that began after the first of them
	blind    bool          // there is no test key to try
	ownTried bool          // the ciphertext's own key decrypts a sample
}

// proofStep is what to do next about a refused ciphertext.
type proofStep uint8

const (
	repeatCall proofStep = iota + 1
	askOwnKey
	askCanary
	callRefused  // the verdict ErrRefusedCiphertext
	callUnproven // the verdict ErrUnprovenCiphertext
)

// next is the step that the state calls for.
func (p *proof) next(isClean, inTime bool) proofStep {
	repeats := p.refusals <= proofRepeats
	switch {
	case !inTime:
		return callUnproven
	case !isClean || p.blind:
		// There will be no verdict, but a good ciphertext should succeed.
		if repeats {
			return repeatCall
		}
		return callUnproven
	case !p.ownTried:
		return askOwnKey
	case p.goods.Load() < int64(p.refusals):
		return askCanary
	case repeats:
		return repeatCall
	case p.goods.Load() < proofGoods:
		return askCanary
	default:
		return callRefused
	}
}

func (t *Token) startProof() *proof {
	p := &proof{began: time.Now()}
	t.evidence.join(p)
	return p
}

// timed notes how long a call took that began then.
func (p *proof) timed(start time.Time) { p.slowest = max(p.slowest, time.Since(start)) }

func (p *proof) inTime() bool {
	limit := min(max(proofCalls*p.slowest, leastProofTime), mostProofTime)
	return time.Since(p.began) < limit
}

// weigh takes one more ambiguous answer to a decrypt. It reports whether to repeat the call;
// otherwise the error is the verdict.
func (t *Token) weigh(
	ctx context.Context, op *operation, at *seat, p *proof, failed *callError,
) (bool, error) {
	p.refusals++
	for {
		inTime := ctx.Err() == nil && p.inTime()
		switch p.next(t.doubt.isClean(), inTime) {
		case repeatCall:
			op.tried[lostSession] = false // the answer may have left the operation active
			return true, nil
		case askOwnKey:
			p.ownTried = true
			err := t.tryOwnKey(ctx, op, at, failed)
			if err != nil {
				return false, err
			}
		case callRefused:
			return false, failed.as(op.name, hsm.ErrRefusedCiphertext)
		case callUnproven:
			return false, t.unproven(ctx, op, at, failed, inTime)
		case askCanary:
			t.summonHelpers(ctx, at.from)
			start := time.Now()
			err := t.vouch(ctx, at, true)
			p.timed(start)
			if errors.Is(err, errNoTestKey) {
				p.blind = true
			} else if err != nil {
				return false, failed.doubted(op.name, err)
			}
		}
	}
}

// unproven is the error for a refusal that proves nothing. A token that does not decrypt a
// canary either is not busy but broken.
func (t *Token) unproven(
	ctx context.Context, op *operation, at *seat, failed *callError, inTime bool,
) error {
	if !inTime {
		failed.detail = "there was no time to find out whether the HSM is busy"
		return failed.as(op.name, hsm.ErrUnprovenCiphertext)
	}
	err := t.vouch(ctx, at, true)
	if errors.Is(err, errNoTestKey) {
		failed.detail = "there is no test key on the token to find out whether the HSM is busy"
		err = t.login.ensure(ctx)
	}
	if err != nil {
		return failed.doubted(op.name, err)
	}
	return failed.as(op.name, hsm.ErrUnprovenCiphertext)
}

// summonHelpers has idle sessions of the pool decrypt canaries, so that a single proof takes
// the time of about 7 calls instead of 20. No session is opened for that, and none is kept from
// a request for longer than one canary.
func (t *Token) summonHelpers(ctx context.Context, from *pool) {
	for t.helpers.Add(1) <= maxHelpers {
		s := from.idle()
		if s == nil {
			break
		}
		go t.help(context.WithoutCancel(ctx), &seat{from: from, s: s})
	}
	t.helpers.Add(-1)
}

// help decrypts canaries for as long as there are proofs and the session is not wanted.
func (t *Token) help(ctx context.Context, at *seat) {
	defer t.helpers.Add(-1)
	for {
		err := t.vouch(ctx, at, true)
		at.leave(err == nil)
		if err != nil || t.evidence.count.Load() == 0 {
			return
		}
		at.s = at.from.idle()
		if at.s == nil {
			return
		}
	}
}

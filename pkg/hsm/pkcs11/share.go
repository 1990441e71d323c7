package pkcs11

// Evidence that the token decrypts good ciphertexts, shared by all proofs that go on at the same
// time: a success counts for each proof that was there when the call began. A flood of tampered
// ciphertexts thus costs a few canaries for each of them instead of a whole series.

import (
	"sync"
	"sync/atomic"
)

// evidence may be used by many goroutines at once. Without a proof it costs a call two loads.
type evidence struct {
	clock  atomic.Uint64 // goes up with every proof that joins
	count  atomic.Int64  // of proofs
	mu     sync.Mutex
	proofs map[*proof]struct{}
}

// now gives the time at which a call begins, for good.
func (e *evidence) now() uint64 { return e.clock.Load() }

// join has p told of every success of a call that begins from now on.
func (e *evidence) join(p *proof) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.proofs == nil {
		e.proofs = map[*proof]struct{}{}
	}
	e.proofs[p] = struct{}{}
	e.count.Add(1)
	p.joined = e.clock.Add(1)
}

func (e *evidence) leave(p *proof) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.proofs, p)
	e.count.Add(-1)
}

// good notes that a good ciphertext was decrypted by a call that began at that time.
func (e *evidence) good(began uint64) {
	if e.count.Load() == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for p := range e.proofs {
		if began >= p.joined {
			p.goods.Add(1)
		}
	}
}

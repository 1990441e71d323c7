package hsm

// Failover inside one request: which HSM is asked, for how long, and which next.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Trace says how a request was served, for its log line.
type Trace struct {
	HSM      string  // that gave the answer; "" if none did
	Attempts int     // HSMs asked
	Faults   []error // of the HSMs asked in vain, in order
}

// Encrypt is Token.Encrypt on whichever HSM can. The version is one that
// Key.EncryptVersion gave. Errors are those of Token; ErrUnavailable
// and ErrTimeout say that no HSM that holds the key could serve it. ctx needs a
// deadline: the last HSM that is left to ask gets all that remains.
//
// An HSM named in apart is passed over for one of the same priority, if that is in service.
func (g *Group) Encrypt(ctx context.Context, ref KeyRef, aad, plaintext []byte, apart ...string) (Sealed, Trace, error) {
	var sealed Sealed
	trace, err := g.serve(ctx, ref, apart, func(ctx context.Context, t Token) error {
		answer, err := t.Encrypt(ctx, ref, aad, plaintext)
		if err != nil {
			return err
		}
		sealed = answer
		return checkSealed(answer, len(plaintext))
	})
	if err != nil {
		return Sealed{}, trace, err
	}
	return sealed, trace, nil
}

// Decrypt is Token.Decrypt on whichever HSM can; apart is as for Encrypt.
func (g *Group) Decrypt(ctx context.Context, ref KeyRef, aad []byte, sealed Sealed, apart ...string) ([]byte, Trace, error) {
	var plaintext []byte
	trace, err := g.serve(ctx, ref, apart, func(ctx context.Context, t Token) error {
		answer, err := t.Decrypt(ctx, ref, aad, sealed)
		if err != nil {
			return err
		}
		if len(answer) != len(sealed.Ciphertext) {
			return &Error{Op: "decrypt", Kind: ErrUnavailable, Detail: fmt.Sprintf("the HSM answered %d bytes for %d", len(answer), len(sealed.Ciphertext))}
		}
		plaintext = answer
		return nil
	})
	if err != nil {
		return nil, trace, err
	}
	return plaintext, trace, nil
}

// checkSealed refuses what KMS could not use (requirement E2): better another
// HSM's answer than a ciphertext that cannot be decrypted.
func checkSealed(s Sealed, plaintext int) error {
	if len(s.Ciphertext) == plaintext && len(s.Tag) == TagSize && (len(s.IV) == IVSize || len(s.IV) == LongIVSize) {
		return nil
	}
	return &Error{Op: "encrypt", Kind: ErrUnavailable,
		Detail: fmt.Sprintf("the HSM answered %d bytes of ciphertext for %d, a tag of %d, an IV of %d", len(s.Ciphertext), plaintext, len(s.Tag), len(s.IV))}
}

// serve asks one HSM after the other until one gives an answer.
func (g *Group) serve(ctx context.Context, ref KeyRef, apart []string, call func(context.Context, Token) error) (Trace, error) {
	var trace Trace
	left := g.holders(ref)
	absent := false
	for left != 0 && ctx.Err() == nil {
		m := g.pick(g.without(left, apart))
		left &^= m.bit
		trace.Attempts++
		err := g.attempt(ctx, m, left, call)
		switch {
		case errors.Is(err, ErrKeyNotFound):
			absent = true
			nudge(m.refresh)
		case IsFault(err):
			trace.Faults = append(trace.Faults, named(err, m.Name))
		default:
			trace.HSM = m.Name
			return trace, named(err, m.Name)
		}
	}
	return trace, g.giveUp(ctx, ref, trace, absent)
}

// attempt makes one call on one HSM. It gets all the time there is only if no
// other HSM is left to ask that is at least as likely to answer.
func (g *Group) attempt(ctx context.Context, m *member, left memberSet, call func(context.Context, Token) error) error {
	tryCtx := ctx
	if g.inService(left) != 0 || left != 0 && m.standing.out.Load() {
		limited, cancel := context.WithTimeout(ctx, g.config.AttemptTimeout)
		defer cancel()
		tryCtx = limited
	}
	start := time.Now()
	m.inFlight.Add(1)
	err := call(tryCtx, m.Token)
	m.inFlight.Add(-1)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return err // the caller hung up: that says nothing about the HSM
	case errors.Is(err, ErrTimeout) && time.Since(start) < g.config.AttemptTimeout:
		return err // a request that came with too little time left says nothing either
	}
	if m.standing.note(err) {
		g.takeOut(m, err)
	}
	return err
}

// giveUp is the error of a request that no HSM answered.
func (g *Group) giveUp(ctx context.Context, ref KeyRef, trace Trace, absent bool) error {
	switch {
	case ctx.Err() != nil:
		return &Error{Op: "serve", Kind: Timeout(ctx.Err()), Detail: fmt.Sprintf("key %q, HSMs asked in vain: %d%s", ref.Label, trace.Attempts, listed(trace.Faults))}
	case len(trace.Faults) > 0 && allBusy(trace.Faults):
		return &Error{Op: "serve", Kind: ErrBusy, Detail: fmt.Sprintf("key %q%s", ref.Label, listed(trace.Faults))}
	case absent && len(trace.Faults) == 0:
		// The HSMs that should hold it say that it is gone. Believe it after asking all.
		key, err := g.look(ctx, ref.Label, holds(ref.Version), versionNotFound(ref))
		if err == nil {
			err = &Error{Op: "serve", Kind: ErrUnavailable, Detail: fmt.Sprintf("key %q was not found and then found again", key.Label)}
		}
		return err
	case len(trace.Faults) == 0:
		return &Error{Op: "serve", Kind: ErrUnavailable, Detail: fmt.Sprintf("no HSM is known to hold version %d of key %q", ref.Version, ref.Label)}
	}
	return &Error{Op: "serve", Kind: ErrUnavailable, Detail: fmt.Sprintf("no HSM that holds key %q could serve it%s", ref.Label, listed(trace.Faults))}
}

// listed appends errors to a sentence, on one line.
func listed(errs []error) string {
	var b strings.Builder
	separator := ": "
	for _, err := range errs {
		b.WriteString(separator)
		b.WriteString(err.Error())
		separator = "; "
	}
	return b.String()
}

func allBusy(faults []error) bool {
	return !slices.ContainsFunc(faults, func(err error) bool { return !errors.Is(err, ErrBusy) })
}

// holders are the members to ask: those seen with this version, and those never seen at all.
func (g *Group) holders(ref KeyRef) memberSet {
	c := g.catalogue.Load()
	holders := c.unknown
	if key := c.keys[ref.Label]; key != nil {
		if v := key.version(ref.Version); v != nil {
			holders |= v.holders
		}
	}
	return holders
}

// pick chooses from a set that is not empty: a member in service before one
// that is not, then by priority, then the one with the fewest requests in flight; equals in turn.
func (g *Group) pick(set memberSet) *member {
	if up := g.inService(set); up != 0 {
		set = up
	}
	if set.size() == 1 {
		return g.members[set.first()]
	}
	var equals memberSet
	var priority int
	var fewest int32
	for _, m := range g.members {
		if set&m.bit == 0 {
			continue
		}
		inFlight := m.inFlight.Load()
		switch {
		case equals == 0 || m.Priority < priority || m.Priority == priority && inFlight < fewest:
			equals, priority, fewest = m.bit, m.Priority, inFlight
		case m.Priority == priority && inFlight == fewest:
			equals |= m.bit
		}
	}
	for skip := g.turn.Add(1) % uint32(equals.size()); skip > 0; skip-- {
		equals &= equals - 1 // without its first
	}
	return g.members[equals.first()]
}

// without leaves out the members named, unless that would mean to ask one of a
// worse priority or one that is out of service.
func (g *Group) without(set memberSet, names []string) memberSet {
	if len(names) == 0 {
		return set
	}
	var best *member
	var others memberSet
	for _, m := range g.members {
		if g.inService(set&m.bit) == 0 {
			continue
		}
		if best == nil || m.Priority < best.Priority {
			best, others = m, 0
		}
		if m.Priority == best.Priority && !slices.Contains(names, m.Name) {
			others |= m.bit
		}
	}
	if others == 0 {
		return set
	}
	return others
}

func (g *Group) inService(set memberSet) memberSet {
	var up memberSet
	for _, m := range g.members {
		if set&m.bit != 0 && !m.standing.out.Load() {
			up |= m.bit
		}
	}
	return up
}

// named fills in which HSM an error came from. It does so in a copy: the error
// is the token's, which may have answered several calls with the same one.
func named(err error, hsm string) error {
	e, ok := err.(*Error)
	if !ok || e.HSM != "" {
		return err
	}
	copied := *e
	copied.HSM = hsm
	return &copied
}

// standing is whether an HSM gets requests: a few faults in a row take it out,
// and only a probe brings it back.
type standing struct {
	faults atomic.Int32 // in a row
	out    atomic.Bool
}

const faultsToGoOut = 3

// note counts the result of a call. It reports whether this one took the HSM out.
func (s *standing) note(err error) bool {
	switch {
	case !IsFault(err):
		if s.faults.Load() != 0 {
			s.faults.Store(0)
		}
		return false
	case errors.Is(err, ErrBusy):
		return false // busy is not broken
	}
	return s.faults.Add(1) >= faultsToGoOut && s.out.CompareAndSwap(false, true)
}

// comeBack puts the HSM in service. It reports whether it was out.
func (s *standing) comeBack() bool {
	s.faults.Store(0)
	return s.out.CompareAndSwap(true, false)
}

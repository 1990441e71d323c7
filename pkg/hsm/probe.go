package hsm

// Health: every HSM really encrypts and decrypts with the proxy's own test key,
// in the background. GetHealthStatus answers from the last result (requirement H2).

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// probed is the result of a probe with what only the next probe needs to know.
type probed struct {
	Health
	late  bool  // it took longer than a request has
	vague bool  // it was refused in a way that proves nothing
	err   error // why it failed, if the HSM failed

	incarnation uint64 // that was probed
}

const (
	// renewAfter: after so many failed probes in a row the HSM's process is replaced, although it
	// lives; after the first where no other HSM is left.
	renewAfter = 3

	// staleAfter: no answer of GetHealthStatus is older (requirement H2).
	staleAfter = time.Minute
	// outProbeInterval: an HSM that is out is probed this often, to be back soon.
	outProbeInterval = 200 * time.Millisecond
)

var probePlaintext = []byte("xks-proxy health")

// Health returns the last result for each HSM, in the order of the configuration. It never waits.
func (g *Group) Health() []Health {
	list := make([]Health, len(g.members))
	for i, m := range g.members {
		list[i] = m.health.Load().Health
		if m.standing.drained.Load() {
			list[i].Status, list[i].Reason = Unavailable, "drained by an operator"
			continue
		}
		if list[i].Status != Unavailable && time.Since(list[i].Checked) > staleAfter {
			list[i].Status, list[i].Reason = Unavailable, "no probe has come back for a minute"
		}
	}
	return list
}

// CanServe reports whether at least one HSM can serve (requirement H5).
func (g *Group) CanServe() bool {
	for _, health := range g.Health() {
		if health.Status != Unavailable {
			return true
		}
	}
	return false
}

func (g *Group) keepProbing(ctx context.Context, m *member) {
	var changed <-chan struct{} // nil, so never, of a token that cannot tell
	if m.watched != nil {
		changed = m.watched.Changed(ctx)
	}
	for first := true; ; first = false {
		health := g.probeOnce(ctx, m)
		if ctx.Err() == nil {
			g.record(m, health)
		}
		if first {
			g.probedOnce.Done()
		}
		wait := g.config.ProbeInterval
		if m.standing.out.Load() || m.standing.suspect.Load() {
			wait = min(wait, outProbeInterval)
		}
		select {
		case <-ctx.Done():
			return
		case <-m.probe:
		case <-changed:
		case <-time.After(wait):
		}
	}
}

// record publishes a probe's result and acts on it: only here does an HSM come back.
func (g *Group) record(m *member, health probed) {
	before := m.health.Swap(&health)
	if before.Status != health.Status {
		level := zap.WarnLevel
		if health.Status == Active {
			level = zap.InfoLevel
		}
		g.log.Log(level, "HSM health changed", zap.String("hsm", m.Name), zap.String("from", string(before.Status)),
			zap.String("to", string(health.Status)), zap.String("reason", health.Reason))
	}
	if health.Status == Active {
		m.standing.silent.Store(false)
	}
	g.considerRenewal(m, health)
	switch {
	case health.Status != Unavailable:
		g.putBack(m)
	case before.Checked.IsZero(), m.standing.drained.Load(): // what an operator does to a drained HSM is not held against it
		m.standing.absent(health.Reason, health.Checked)
	default:
		m.standing.trip(health.Reason, health.Checked)
	}
}

// considerRenewal has an HSM's process replaced when its probes fail although it lives: some
// modules never find back to a token that was away. A call that hangs is for the process itself.
func (g *Group) considerRenewal(m *member, health probed) {
	broken := IsFault(health.err) && !errors.Is(health.err, ErrTimeout) && !errors.Is(health.err, ErrBusy)
	if m.watched == nil || health.Status != Unavailable || !broken || health.incarnation != m.incarnation() {
		m.failures = 0
		return
	}
	m.failures++
	alone := g.inService(g.parity.everyone()&^m.bit) == 0
	if m.failures >= renewAfter || alone {
		m.failures = 0
		m.watched.Renew("its probes fail although it runs: " + health.Reason)
	}
}

// probeOnce encrypts and decrypts with the test key.
func (g *Group) probeOnce(ctx context.Context, m *member) probed {
	ctx, cancel := context.WithTimeout(ctx, g.config.ProbeTimeout)
	defer cancel()
	incarnation := m.incarnation()
	if incarnation != m.admitted.Load() {
		g.admit(m)
	}
	probe := g.exercise(ctx, m)
	if probe.status == Active {
		probe.status, probe.reason = g.timely(m, probe)
	}
	info := m.Token.Info()
	health := Health{
		HSM: m.Name, Info: info, Vendor: cmp.Or(m.Vendor, info.Manufacturer), Model: cmp.Or(m.Model, info.ModelText()),
		Status: probe.status, Reason: probe.reason, Checked: time.Now(), Took: Milliseconds(probe.encrypt + probe.decrypt),
	}
	return probed{Health: health, late: probe.late, vague: probe.vague, err: probe.err, incarnation: incarnation}
}

// probe is what exercising an HSM gave.
type probe struct {
	status           Status
	reason           string // why it is not Active
	encrypt, decrypt time.Duration
	late             bool // it took longer than a request has
	vague            bool
	err              error
}

// timely judges an HSM that is well by the time it takes. One that is slower than a request lasts
// cannot serve; that is believed the second time, for the machine may have stood still.
func (g *Group) timely(m *member, p *probe) (Status, string) {
	slowest := max(p.encrypt, p.decrypt)
	p.late = slowest >= g.config.Budget
	reason := fmt.Sprintf("an operation of the probe took %v", slowest.Round(time.Millisecond))
	switch {
	case p.late && !g.starved() && (m.health.Load().late || m.standing.suspect.Load()):
		return Unavailable, reason + ", and a request has " + g.config.Budget.String()
	case p.late:
		nudge(m.probe)
		return Degraded, reason
	case slowest > g.config.AttemptTimeout:
		return Degraded, reason
	}
	return Active, ""
}

// exercise encrypts and decrypts.
func (g *Group) exercise(ctx context.Context, m *member) *probe {
	p := &probe{}
	p.status, p.reason = g.exerciseInto(ctx, m, p)
	return p
}

func (g *Group) exerciseInto(ctx context.Context, m *member, p *probe) (Status, string) {
	objects, err := g.testKeyOn(ctx, m)
	if err != nil {
		return g.verdict(m, p, err), err.Error()
	}
	test := newKey(g.config.TestKey, []view{{name: m.Name, bit: m.bit, seen: true, objects: objects}})
	if test == nil {
		return Degraded, fmt.Sprintf("the test key %q is not on the HSM, so that it cannot be probed in depth; `xks-proxy hsm create-test-key` makes it", g.config.TestKey)
	}
	version, err := test.EncryptVersion()
	if err != nil {
		return Degraded, fmt.Sprintf("the test key cannot be used: %v", err)
	}
	ref := KeyRef{Label: test.Label, Version: version}
	start := time.Now()
	sealed, err := m.Token.Encrypt(ctx, ref, nil, probePlaintext)
	p.encrypt = time.Since(start)
	if err != nil {
		return g.verdict(m, p, err), err.Error()
	}
	start = time.Now()
	plaintext, err := m.Token.Decrypt(ctx, ref, nil, sealed)
	p.decrypt = time.Since(start)
	if err != nil {
		return g.verdict(m, p, err), err.Error()
	}
	if !bytes.Equal(plaintext, probePlaintext) {
		return Unavailable, "the HSM decrypted its own ciphertext to something else"
	}
	return Active, ""
}

// verdict is what a failed probe says of an HSM: one that is busy serves, and
// one whose test key was deleted or changed still serves with all others.
//
// One that refuses its own ciphertext in a way that may mean "busy" is believed to be broken the
// second time.
func (g *Group) verdict(m *member, p *probe, err error) Status {
	p.err = err
	switch {
	case errors.Is(err, ErrBusy):
		return Degraded
	case errors.Is(err, ErrUnprovenCiphertext):
		p.vague = true
		if m.health.Load().vague {
			return Unavailable
		}
		nudge(m.probe)
		return Degraded
	case IsFault(err), refusalOf(err) > unprovenRefusal, errors.Is(err, ErrKeyFault):
		return Unavailable
	}
	nudge(m.refresh)
	return Degraded
}

// testKeyOn takes the test key from the catalogue: to look for it on the HSM at
// every probe would cost some HSMs tens of milliseconds each time.
func (g *Group) testKeyOn(ctx context.Context, m *member) ([]Object, error) {
	g.mu.Lock()
	objects := m.objects[g.config.TestKey]
	g.mu.Unlock()
	if len(objects) > 0 {
		return objects, nil
	}
	found, err := m.Token.Find(ctx, g.config.TestKey)
	objects, unreadable := Readable(found)
	if err == nil && len(objects) == 0 && len(unreadable) > 0 {
		return nil, &Error{Op: "find the test key", Kind: ErrKeyUsage, Detail: UnreadableError("", unreadable[0]).Detail}
	}
	return objects, err
}

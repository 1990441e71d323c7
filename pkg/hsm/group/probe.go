package group

// Probes: in the background every HSM encrypts and decrypts with the proxy's own test key.
// GetHealthStatus returns the last result (requirement H2).

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/decide"
	"xks-proxy/pkg/hsm/status"
)

// probeResult is the result of a probe, with details for the next probe.
type probeResult struct {
	status.Health
	tooSlow      bool  // it took longer than a request has
	inconclusive bool  // it was refused in a way that proves nothing
	err          error // why it failed, if the HSM failed

	incarnation uint64 // that was probed
}

const (
	// renewAfter is how many failed probes in a row replace the HSM's process although it runs. One
	// is enough if no other HSM is left.
	renewAfter = 3

	// staleAfter is the maximum age of a result in GetHealthStatus (requirement H2).
	staleAfter = time.Minute
	// outProbeInterval is the interval between probes of an HSM that is out.
	outProbeInterval = 200 * time.Millisecond
)

var probePlaintext = []byte("xks-proxy health")

// Health returns the last result for each HSM, in the order of the configuration. It never waits.
func (g *Group) Health() []status.Health {
	list := make([]status.Health, len(g.members))
	for i, m := range g.members {
		list[i] = m.health.Load().Health
		if m.breaker.Drained.Load() {
			list[i].Status, list[i].Reason = status.Unavailable, "drained by an operator"
			continue
		}
		if list[i].Status != status.Unavailable && time.Since(list[i].Checked) > staleAfter {
			list[i].Status = status.Unavailable
			list[i].Reason = "no probe has finished for a minute"
		}
	}
	return list
}

// CanServe reports whether at least one HSM can serve (requirement H5).
func (g *Group) CanServe() bool {
	for _, health := range g.Health() {
		if health.Status != status.Unavailable {
			return true
		}
	}
	return false
}

func (g *Group) probeLoop(ctx context.Context, m *member) {
	var changed <-chan struct{} // nil, so never, of a token that cannot tell
	if m.supervised != nil {
		changed = m.supervised.Changed(ctx)
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
		if m.breaker.Out.Load() || m.breaker.Suspect.Load() {
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

// record publishes a probe result and acts on it. Only a probe brings an HSM back.
func (g *Group) record(m *member, health probeResult) {
	before := m.health.Swap(&health)
	if before.Status != health.Status {
		level := zap.WarnLevel
		if health.Status == status.Active {
			level = zap.InfoLevel
		}
		g.log.Log(
			level,
			"HSM health changed",
			zap.String("hsm", m.Name),
			zap.String("from", string(before.Status)),
			zap.String("to", string(health.Status)),
			zap.String("reason", health.Reason),
		)
	}
	if health.Status == status.Active {
		m.breaker.Unresponsive.Store(false)
	}
	g.maybeRenew(m, health)
	switch {
	case health.Status != status.Unavailable:
		g.putBack(m)
	case before.Checked.IsZero(),
		m.breaker.Drained.Load(): // what an operator does to a drained HSM is not held against it
		m.breaker.MarkAbsent(health.Reason, health.Checked)
	default:
		m.breaker.Trip(health.Reason, health.Checked)
	}
}

// maybeRenew replaces an HSM's process if its probes fail although it runs: some modules never
// reconnect to a token that was away. A hanging call is left to package worker.
func (g *Group) maybeRenew(m *member, health probeResult) {
	broken := hsm.IsFault(health.err) && !errors.Is(health.err, hsm.ErrTimeout) &&
		!errors.Is(health.err, hsm.ErrBusy)
	if m.supervised == nil || health.Status != status.Unavailable || !broken ||
		health.incarnation != m.incarnation() {
		m.failures = 0
		return
	}
	m.failures++
	alone := g.inService(g.parity.All()&^m.bit) == 0
	if m.failures >= renewAfter || alone {
		m.failures = 0
		m.supervised.Renew("its probes fail although it runs: " + health.Reason)
	}
}

// probeOnce encrypts and decrypts with the test key.
func (g *Group) probeOnce(ctx context.Context, m *member) probeResult {
	ctx, cancel := context.WithTimeout(ctx, g.config.ProbeTimeout)
	defer cancel()
	incarnation := m.incarnation()
	if incarnation != m.admitted.Load() {
		g.admit(m)
	}
	probe := g.exercise(ctx, m)
	if probe.status == status.Active {
		probe.status, probe.reason = g.judgeLatency(m, probe)
	}
	info := m.Token.Info()
	health := status.Health{
		HSM: m.Name, Info: info,
		Vendor: cmp.Or(m.Vendor, info.Manufacturer), Model: cmp.Or(m.Model, info.ModelText()),
		Status: probe.status, Reason: probe.reason, Checked: time.Now(),
		Took: hsm.Milliseconds(probe.encrypt + probe.decrypt),
	}
	return probeResult{
		Health:       health,
		tooSlow:      probe.tooSlow,
		inconclusive: probe.inconclusive,
		err:          probe.err,
		incarnation:  incarnation,
	}
}

// measurement is the raw result of one probe.
type measurement struct {
	status           status.Status
	reason           string // why it is not Active
	encrypt, decrypt time.Duration
	tooSlow          bool // it took longer than a request has
	inconclusive     bool
	err              error
}

// judgeLatency returns the status of an HSM that works, by the time it takes. One that is slower
// than the budget of a request cannot serve. That needs two probes, because this machine may have
// stood still.
func (g *Group) judgeLatency(m *member, p *measurement) (status.Status, string) {
	slowest := max(p.encrypt, p.decrypt)
	p.tooSlow = slowest >= g.config.Budget
	reason := fmt.Sprintf("an operation of the probe took %v", slowest.Round(time.Millisecond))
	switch {
	case p.tooSlow && !g.starved() && (m.health.Load().tooSlow || m.breaker.Suspect.Load()):
		return status.Unavailable, reason + ", and a request has " + g.config.Budget.String()
	case p.tooSlow:
		wake(m.probe)
		return status.Degraded, reason
	case slowest > g.config.AttemptTimeout:
		return status.Degraded, reason
	}
	return status.Active, ""
}

// exercise encrypts and decrypts.
func (g *Group) exercise(ctx context.Context, m *member) *measurement {
	p := &measurement{}
	p.status, p.reason = g.exerciseInto(ctx, m, p)
	return p
}

func (g *Group) exerciseInto(
	ctx context.Context,
	m *member,
	p *measurement,
) (status.Status, string) {
	objects, err := g.testKeyOn(ctx, m)
	if err != nil {
		return g.statusAfter(m, p, err), err.Error()
	}
	test := catalogue.NewKey(
		g.config.TestKey,
		[]catalogue.View{{Name: m.Name, Bit: m.bit, Seen: true, Objects: objects}},
	)
	if test == nil {
		return status.Degraded, fmt.Sprintf(
			"the test key %q is not on the HSM, so probes cannot encrypt and decrypt: "+
				"create it with `xks-proxy hsm create-test-key`",
			g.config.TestKey,
		)
	}
	version, err := test.EncryptVersion()
	if err != nil {
		return status.Degraded, fmt.Sprintf("the test key cannot be used: %v", err)
	}
	ref := hsm.KeyRef{Label: test.Label, Version: version}
	start := time.Now()
	sealed, err := m.Token.Encrypt(ctx, ref, nil, probePlaintext)
	p.encrypt = time.Since(start)
	if err != nil {
		return g.statusAfter(m, p, err), err.Error()
	}
	start = time.Now()
	plaintext, err := m.Token.Decrypt(ctx, ref, nil, sealed)
	p.decrypt = time.Since(start)
	if err != nil {
		return g.statusAfter(m, p, err), err.Error()
	}
	if !bytes.Equal(plaintext, probePlaintext) {
		return status.Unavailable, "the HSM decrypted its own ciphertext to something else"
	}
	return status.Active, ""
}

// statusAfter returns the status after a failed probe. A busy HSM can serve, and so can one whose
// test key was deleted or changed.
//
// An HSM that refuses its own ciphertext with an ambiguous code counts as broken the second time.
func (g *Group) statusAfter(m *member, p *measurement, err error) status.Status {
	p.err = err
	switch {
	case errors.Is(err, hsm.ErrBusy):
		return status.Degraded
	case errors.Is(err, hsm.ErrUnprovenCiphertext):
		p.inconclusive = true
		if m.health.Load().inconclusive {
			return status.Unavailable
		}
		wake(m.probe)
		return status.Degraded
	case hsm.IsFault(err),
		decide.RefusalOf(err) > decide.UnprovenRefusal,
		errors.Is(err, hsm.ErrKeyFault):
		return status.Unavailable
	}
	wake(m.refresh)
	return status.Degraded
}

// testKeyOn takes the test key from the catalogue, because a search at every probe takes some HSMs
// tens of milliseconds.
func (g *Group) testKeyOn(ctx context.Context, m *member) ([]hsm.Object, error) {
	g.mu.Lock()
	objects := m.objects[g.config.TestKey]
	g.mu.Unlock()
	if len(objects) > 0 {
		return objects, nil
	}
	found, err := m.Token.Find(ctx, g.config.TestKey)
	objects, unreadable := hsm.SplitUnreadable(found)
	if err == nil && len(objects) == 0 && len(unreadable) > 0 {
		return nil, &hsm.Error{
			Op:     "find the test key",
			Kind:   hsm.ErrKeyUsage,
			Detail: hsm.UnreadableError("", unreadable[0]).Detail,
		}
	}
	return objects, err
}

package hsm

// Health: every HSM really encrypts and decrypts with the proxy's own test key,
// in the background. GetHealthStatus answers from the last result (requirement H2).

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Status is the healthStatus of GetHealthStatus (requirement H1).
type Status string

// The three states of an HSM.
const (
	Active      Status = "ACTIVE"
	Degraded    Status = "DEGRADED"    // unhealthy, but can serve
	Unavailable Status = "UNAVAILABLE" // cannot serve
)

// Health is the result of a probe. Reason is for the operator only.
type Health struct {
	HSM     string        `json:"hsm"`
	Info    Info          `json:"info"`
	Vendor  string        `json:"vendor"` // as configured, or as the token says; "" if never reached
	Model   string        `json:"model"`  // likewise
	Status  Status        `json:"status"`
	Reason  string        `json:"reason,omitempty"` // why it is not Active
	Checked time.Time     `json:"checked"`          // when the probe ended
	Took    time.Duration `json:"took"`             // encrypt and decrypt together
}

const (
	// staleAfter: no answer of GetHealthStatus is older (requirement H2).
	staleAfter = time.Minute
	// slowProbe: an HSM this slow serves, but leaves no time for a second attempt.
	slowProbe = 100 * time.Millisecond
	// outProbeInterval: an HSM that is out is probed this often, to be back soon.
	outProbeInterval = 200 * time.Millisecond
)

var probePlaintext = []byte("xks-proxy health")

// Health returns the last result for each HSM, in the order of the configuration. It never waits.
func (g *Group) Health() []Health {
	list := make([]Health, len(g.members))
	for i, m := range g.members {
		list[i] = *m.health.Load()
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
	for first := true; ; first = false {
		health := g.probeOnce(ctx, m)
		if ctx.Err() == nil {
			g.record(m, health)
		}
		if first {
			g.first.Done()
		}
		wait := g.config.ProbeInterval
		if m.standing.out.Load() {
			wait = min(wait, outProbeInterval)
		}
		select {
		case <-ctx.Done():
			return
		case <-m.probe:
		case <-time.After(wait):
		}
	}
}

// record publishes a probe's result and acts on it: only here does an HSM come back.
func (g *Group) record(m *member, health Health) {
	before := m.health.Swap(&health)
	if before.Status != health.Status {
		level := zap.WarnLevel
		if health.Status == Active {
			level = zap.InfoLevel
		}
		g.log.Log(level, "HSM health changed", zap.String("hsm", m.Name), zap.String("from", string(before.Status)),
			zap.String("to", string(health.Status)), zap.String("reason", health.Reason))
	}
	if health.Status == Unavailable {
		m.standing.out.Store(true)
		return
	}
	if m.standing.comeBack() {
		g.log.Info("HSM is back in service", zap.String("hsm", m.Name))
		nudge(m.refresh)
	}
}

// takeOut is what happens when requests, not a probe, found an HSM at fault.
func (g *Group) takeOut(m *member, cause error) {
	g.log.Warn("HSM taken out of service", zap.String("hsm", m.Name), zap.Error(cause))
	nudge(m.probe)
}

// probeOnce encrypts and decrypts with the test key.
func (g *Group) probeOnce(ctx context.Context, m *member) Health {
	ctx, cancel := context.WithTimeout(ctx, g.config.ProbeTimeout)
	defer cancel()
	status, reason, took := g.exercise(ctx, m)
	if status == Active && took > slowProbe {
		status, reason = Degraded, fmt.Sprintf("the probe took %v", took.Round(time.Millisecond))
	}
	info := m.Token.Info()
	return Health{
		HSM: m.Name, Info: info, Vendor: either(m.Vendor, info.Manufacturer), Model: either(m.Model, modelOf(info)),
		Status: status, Reason: reason, Checked: time.Now(), Took: took,
	}
}

// exercise says how an HSM is and, if it is not Active, why; and how long it
// took to encrypt and decrypt.
func (g *Group) exercise(ctx context.Context, m *member) (Status, string, time.Duration) {
	objects, err := g.testKeyOn(ctx, m)
	if err != nil {
		return g.verdict(m, err), err.Error(), 0
	}
	test := newKey(g.config.TestKey, []view{{name: m.Name, bit: m.bit, seen: true, objects: objects}})
	if test == nil {
		return Degraded, fmt.Sprintf("the test key %q is not on the HSM, so that it cannot be probed in depth", g.config.TestKey), 0
	}
	version, err := test.EncryptVersion()
	if err != nil {
		return Degraded, fmt.Sprintf("the test key cannot be used: %v", err), 0
	}
	ref := KeyRef{Label: test.Label, Version: version}
	start := time.Now()
	sealed, err := m.Token.Encrypt(ctx, ref, nil, probePlaintext)
	if err != nil {
		return g.verdict(m, err), err.Error(), time.Since(start)
	}
	plaintext, err := m.Token.Decrypt(ctx, ref, nil, sealed)
	took := time.Since(start)
	if err != nil {
		return g.verdict(m, err), err.Error(), took
	}
	if !bytes.Equal(plaintext, probePlaintext) {
		return Unavailable, "the HSM decrypted its own ciphertext to something else", took
	}
	return Active, "", took
}

// verdict is what a failed probe says of an HSM: one that is busy serves, and
// one whose test key was deleted or changed still serves with all others.
func (g *Group) verdict(m *member, err error) Status {
	switch {
	case errors.Is(err, ErrBusy):
		return Degraded
	case IsFault(err), errors.Is(err, ErrInvalidCiphertext):
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
	return m.Token.Find(ctx, g.config.TestKey)
}

func modelOf(info Info) string {
	model := info.Model
	if info.HardwareVersion != "" {
		model += ", hardware " + info.HardwareVersion
	}
	if info.FirmwareVersion != "" {
		model += ", firmware " + info.FirmwareVersion
	}
	return model
}

func either(first, second string) string {
	if first != "" {
		return first
	}
	return second
}

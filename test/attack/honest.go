package main

// Honest traffic: Encrypt, Decrypt and GetKeyMetadata of one tenant on a fixed schedule. A
// request's time counts from when it was due, so that a stall of the program hides nothing.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"xks-proxy/test/harness"
)

const (
	honestRate        = 200 // requests a second
	honestConnections = 16
	honestLimit       = 2 * time.Second // a later answer counts as none
	excusedShare      = 200
)

// honest is a running load, and after end what came of it.
type honest struct {
	target *target
	start  time.Time
	next   atomic.Int64
	ended  atomic.Bool
	group  sync.WaitGroup

	mu       sync.Mutex
	took     []time.Duration
	failures []failure
}

// failure is an honest request without a good answer.
type failure struct {
	due    time.Time
	took   time.Duration
	reason string
}

// startHonest begins at once, on connections that are open: those of KMS are before an attack
// begins.
func startHonest(t *target, wires []*wire) *honest {
	h := &honest{target: t, start: time.Now()}
	for _, c := range wires {
		h.group.Go(func() { h.run(c) })
	}
	return h
}

// openHonest opens the connections and authenticates on each.
func openHonest(t *target) ([]*wire, error) {
	var wires []*wire
	for range honestConnections {
		c := &wire{target: t}
		r, err := c.ask(newSketch(t, &t.Tenants[0], "/health", healthBody()).bytes())
		if err != nil {
			return nil, fmt.Errorf("an honest client: %w", err)
		}
		if r.status != 200 {
			return nil, fmt.Errorf("an honest client: %d %s", r.status, r.body)
		}
		wires = append(wires, c)
	}
	return wires, nil
}

func (h *honest) end() {
	h.ended.Store(true)
	h.group.Wait()
}

func (h *honest) run(c *wire) {
	for !h.ended.Load() {
		n := h.next.Add(1) - 1
		due := h.start.Add(time.Duration(n) * time.Second / honestRate)
		time.Sleep(time.Until(due))
		if h.ended.Load() {
			return
		}
		failed := h.once(c, n)
		took := time.Since(due)
		if failed == "" && took > honestLimit {
			failed = fmt.Sprintf("answered after more than %v", honestLimit)
		}
		h.mu.Lock()
		h.took = append(h.took, took)
		if failed != "" {
			h.failures = append(h.failures, failure{due, took, failed})
		}
		h.mu.Unlock()
	}
}

// once makes request n and says what is wrong with the answer.
func (h *honest) once(c *wire, n int64) string {
	t := h.target
	who := &t.Tenants[0]
	key := "/keys/" + who.Keys[n%int64(len(who.Keys))]
	switch n % 10 {
	case 0:
		_, failed := h.ask(c, newSketch(t, who, key+"/metadata", metadataBody()))
		return failed
	case 1, 2, 3, 4:
		_, failed := h.ask(c, newSketch(t, who, key+"/encrypt", encryptBody("honest")))
		return failed
	}
	answer, failed := h.ask(
		c, newSketch(t, who, "/keys/"+who.Keys[0]+"/decrypt", decryptBody(t.Sealed[0])),
	)
	if failed != "" {
		return failed
	}
	var plain struct{ Plaintext []byte }
	err := json.Unmarshal(answer, &plain)
	if err != nil || !bytes.Equal(plain.Plaintext, []byte("attack")) {
		return "a wrong plaintext"
	}
	return ""
}

func (h *honest) ask(c *wire, s *sketch) ([]byte, string) {
	r, err := c.ask(s.bytes())
	switch {
	case err != nil:
		return nil, "no reply: " + err.Error()
	case r.status != 200:
		return nil, r.name()
	}
	return r.body, ""
}

// percentile of the times, in percent.
func (h *honest) percentile(percent int) time.Duration {
	if len(h.took) == 0 {
		return 0
	}
	slices.Sort(h.took)
	return h.took[min(len(h.took)-1, len(h.took)*percent/100)]
}

// reasons are the failures, counted.
func (h *honest) reasons() map[string]int {
	counts := map[string]int{}
	for _, f := range h.failures {
		counts[f.reason]++
	}
	return counts
}

// excusedBy tells whether failures say nothing about the program: each of them fell into a time
// when the machine stood still, or it did so at all and they are no more than one in excusedShare.
func (h *honest) excusedBy(m *harness.Machine, late time.Duration) bool {
	if len(h.failures) == 0 {
		return false
	}
	for _, f := range h.failures {
		if !m.StoodStillAt(f.due, f.due.Add(f.took)) {
			return late >= stoodStill && len(h.failures)*excusedShare <= len(h.took)
		}
	}
	return true
}

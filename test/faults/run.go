package main

// One row: load, calm, fault, heal, and what came of it.

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	afterglow   = 300 * time.Millisecond
	stoodStill  = 40 * time.Millisecond  // a tick of the machine this late
	rowTries    = 3                      // while the machine stands still
	slowerThan  = 200 * time.Millisecond // requirement U13
	detectLimit = 250 * time.Millisecond // when KMS gives up
	hangLimit   = 3 * time.Second        // hedges can hide calls that hang, until the process itself is found to hang (2 s, and a ping)
	healedLimit = 15 * time.Second       // after the fault has ended
	keptOut     = 30 * time.Second       // in chaos: an HSM that fails again and again within a minute is kept out for as long
	inTurn      = "in turn"
	everyTarget = "both"
)

// row is the result of one fault, at one rate, on one target.
type row struct {
	fault  *fault
	target string
	rate   int

	requests, failed, slow, wrong int
	p50, p99, p999, max           time.Duration // since the fault began
	detected, healed              time.Duration // the longest of the HSMs; < 0: never noticed, or not healed
	masked                        int           // requests that met a fault and were answered anyway
	callsFor                      float64       // calls to the HSMs for each operation asked for
	names                         map[string]int
	happened                      bool
	late                          time.Duration // the latest tick of the machine's clock
	tries                         int
	trouble                       []string // what an operator of this program must read
}

// verdict is "ok", or what is wrong.
func (r *row) verdict() string {
	switch {
	case !r.happened:
		return "NO FAULT"
	case r.wrong > 0:
		return "WRONG"
	case r.healed < 0:
		return "NOT HEALED"
	case r.failed > 0 && r.fault.mayFail == "":
		return "FAILED"
	case r.fault.maxCalls > 0 && r.callsFor > r.fault.maxCalls:
		return "TOO MANY CALLS"
	case r.fault.noneSlow && r.slow > 0:
		return slow
	case r.p999 >= slowerThan && r.fault.mayFail == "":
		return slow
	case r.fault.detect > 0 && (r.detected < 0 || r.detected > r.fault.detect):
		return detectedLate
	case r.healed > healedLimit+r.fault.keptOut:
		return healedLate
	}
	return "ok"
}

// The verdicts that can be the machine's fault, beside "FAILED".
const (
	slow         = "slow"
	detectedLate = "detected late"
	healedLate   = "healed late"
)

// missed reports whether the row fails the run. What came late does not if the machine stood still.
func (r *row) missed() bool {
	switch r.verdict() {
	case "ok":
		return false
	case slow, detectedLate, healedLate:
		return r.late < stoodStill
	}
	return true
}

// doubtful reports whether the row says nothing: it is not as it should be, and the machine stood still.
func (r *row) doubtful() bool {
	switch r.verdict() {
	case "FAILED", slow, detectedLate, healedLate:
		return r.late >= stoodStill
	}
	return false
}

// runUndisturbed runs a row again that went wrong while the machine stood still.
func (w *world) runUndisturbed(o *options, f *fault, rate int, target string) (*row, error) {
	for try := 1; ; try++ {
		r, err := w.runRow(o, f, rate, target)
		if r != nil {
			r.tries = try
		}
		if err != nil || !r.doubtful() || try == rowTries {
			return r, err
		}
		fmt.Printf("  %s on %s at %d/s: %d failed, %d took over 200 ms, %s; the machine stood still for %v meanwhile: once more\n", f.name, target, rate, r.failed, r.slow, r.verdict(), r.late.Round(time.Millisecond))
	}
}

// runRow leaves the world healthy, or gives an error.
func (w *world) runRow(o *options, f *fault, rate int, target string) (*row, error) {
	r := &row{fault: f, target: target, rate: rate, names: map[string]int{}, happened: true, detected: -1}
	if w.used {
		err := w.restart(o)
		if err != nil {
			return nil, fmt.Errorf("before the row: %w", err)
		}
	}
	w.used = true
	m := f.mix
	if m == (mix{}) {
		m = usualMix
	}
	w.machine.Take()
	for _, t := range w.targets {
		t.encrypts = t.control.Calls("C_Encrypt")
	}
	before := w.hsmCalls()
	l := w.startLoad(rate, m)
	time.Sleep(o.calm)
	began := time.Since(l.start)
	err := w.allUsed()
	if err != nil {
		l.end()
		return nil, err
	}
	var failed error
	for _, victims := range w.victims(target) {
		failed = w.hurt(r, f, victims, max(o.hold, f.hold))
		if failed != nil {
			break
		}
	}
	time.Sleep(afterglow)
	l.end()
	r.callsFor = l.callsFor(w.hsmCalls() - before)
	r.late = w.machine.Take()
	r.take(l, began)
	r.masked = w.program.faultsMasked()
	r.explain(w, l)
	if failed != nil {
		return r, failed
	}
	wrong, first, err := w.verify(l.records)
	r.wrong += wrong
	if first != "" {
		r.trouble = append(r.trouble, first)
	}
	return r, err
}

// allUsed checks that there is something to hurt: in the calm, every HSM gets requests.
func (w *world) allUsed() error {
	for _, t := range w.targets {
		if t.control.Calls("C_Encrypt") == t.encrypts {
			return fmt.Errorf("%s got no request in the calm before the fault", t.Name)
		}
		t.encrypts = t.control.Calls("C_Encrypt")
	}
	return nil
}

// victims are the HSMs that are hurt together, one step after the other.
func (w *world) victims(which string) [][]*target {
	var steps [][]*target
	for _, t := range w.targets {
		if which == inTurn || which == t.Name {
			steps = append(steps, []*target{t})
		}
	}
	if which == everyTarget {
		steps = [][]*target{w.targets}
	}
	return steps
}

// hurt injects the fault, holds it, heals it and waits for all to be well.
func (w *world) hurt(r *row, f *fault, victims []*target, hold time.Duration) error {
	start := time.Now()
	var proofs []func() bool
	for _, t := range victims {
		happened, err := f.inject(w, t)
		if err != nil {
			return fmt.Errorf("inject on %s: %w", t.Name, err)
		}
		proofs = append(proofs, happened)
	}
	time.Sleep(hold)
	for i, happened := range proofs {
		if !happened() {
			r.happened = false
			r.trouble = append(r.trouble, "the fault never happened on "+victims[i].Name)
		}
	}
	var failed error
	for _, t := range w.targets {
		t.control.Clear()
	}
	for _, t := range victims {
		if f.heal == nil {
			continue
		}
		err := f.heal(w, t)
		if err != nil {
			failed = fmt.Errorf("heal %s: %w", t.Name, err)
		}
	}
	if failed != nil {
		return failed
	}
	healed, err := w.waitHealthy(healLimit)
	if w.verbose {
		w.program.printSince(start)
	}
	for _, t := range victims {
		r.detected = max(r.detected, w.program.detected(t.Name, start))
	}
	if err != nil {
		r.healed = -1
		return err
	}
	r.healed = max(r.healed, healed)
	return nil
}

// detected is how long after start the log first says that an HSM is not well; -1: never.
func (p *program) detected(hsm string, start time.Time) time.Duration {
	for _, e := range p.since(start) {
		if e.HSM == hsm && (e.Level == "warn" || e.Level == "error") {
			return e.at.Sub(start)
		}
	}
	return -1
}

// printSince prints the log but for what the processes of the HSMs themselves print.
func (p *program) printSince(start time.Time) {
	for _, e := range p.since(start) {
		if e.Msg != "the HSM's process reports" {
			fmt.Printf("  %8.1f ms  %s\n", float64(e.at.Sub(start))/float64(time.Millisecond), e.line)
		}
	}
}

func (p *program) faultsMasked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults
}

// hsmCalls is how many operations were begun on all HSMs so far.
func (w *world) hsmCalls() uint64 {
	var n uint64
	for _, t := range w.targets {
		n += t.control.Calls("C_EncryptInit") + t.control.Calls("C_DecryptInit")
	}
	return n
}

// callsFor is how many calls each operation made that the load asked for: one with an integrity value
// is two.
func (l *load) callsFor(calls uint64) float64 {
	return float64(calls) / float64(max(1, l.encrypts.Load()+l.decrypts.Load()+l.verified.Load()))
}

// take reads the load's results. Percentiles are of what was due after the fault began; failed
// requests count with the time they took.
func (r *row) take(l *load, began time.Duration) {
	var times []time.Duration
	for _, s := range l.samples {
		if s.took > slowerThan {
			r.slow++
		}
		if s.due >= began {
			times = append(times, s.took)
		}
	}
	r.requests = len(l.samples)
	slices.Sort(times)
	at := func(perMille int) time.Duration {
		if len(times) == 0 {
			return 0
		}
		return times[min(len(times)-1, len(times)*perMille/1000)]
	}
	r.p50, r.p99, r.p999, r.max = at(500), at(990), at(999), at(1000)
	for _, f := range l.failures {
		r.names[f.name]++
		if f.wrong {
			r.wrong++
		} else {
			r.failed++
		}
	}
}

// explain shows the first failure of each name, with the proxy's log line.
func (r *row) explain(w *world, l *load) {
	slices.SortFunc(l.failures, func(a, b failure) int { return int(a.due - b.due) })
	shown := map[string]bool{}
	for _, f := range l.failures {
		if shown[f.name] {
			continue
		}
		shown[f.name] = true
		r.trouble = append(r.trouble, fmt.Sprintf("%s (%d of %d requests), the first after %v: %s\n    log: %s",
			f.name, r.names[f.name], r.requests, f.due.Round(time.Millisecond), strings.TrimSpace(f.body), w.program.about(f.requestID)))
	}
}

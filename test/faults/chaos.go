package main

// Chaos: random faults, one HSM at a time, under load all the while; then what must never
// have changed.

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"xks-proxy/test/harness"
)

// warmUp is load before the size is taken for the first time.
const warmUp = 5 * time.Second

// runChaos keeps going for as long as the options say, and then checks.
func (w *world) runChaos(ctx context.Context, o *options) (bool, error) {
	rate := o.rates[0]
	fmt.Printf("chaos for %v at %d requests a second\n", o.chaosFor, rate)
	warm := w.startLoad(rate, usualMix)
	time.Sleep(warmUp)
	warm.end()
	before, err := w.measure()
	if err != nil {
		return false, err
	}
	r := &row{fault: &fault{name: "chaos", keptOut: keptOut}, target: "random", rate: rate, names: map[string]int{}, happened: true, detected: -1}
	calls := w.hsmCalls()
	l := w.startLoad(rate, usualMix)
	hits, err := w.wreak(ctx, o, r)
	l.end()
	r.take(l, 0)
	r.callsFor = l.callsFor(w.hsmCalls() - calls)
	disturbed := w.excuse(r, l)
	r.explain(w, l)
	if err != nil {
		r.print()
		return false, err
	}
	wrong, first, err := w.verify(append(l.records, warm.records...))
	r.wrong += wrong
	if first != "" {
		r.trouble = append(r.trouble, first)
	}
	if err != nil {
		return false, err
	}
	after, err := w.measure()
	if err != nil {
		return false, err
	}
	grown := before.grown(after)
	fmt.Println(table.Header())
	r.print()
	fmt.Printf("%d faults; %d acknowledged ciphertexts decrypted on both HSMs, %d IVs all different\n", hits, len(l.records), len(w.ivs))
	if disturbed > 0 {
		fmt.Printf("%d more requests failed while the machine stood still\n", disturbed)
	}
	fmt.Printf("at rest before: %s\nat rest after:  %s\n", before, after)
	for _, what := range grown {
		fmt.Println("  GROWN: " + what)
	}
	if o.markdown != "" {
		err := harness.WriteBetween(o.markdown, chaosBegins, chaosEnds, chaosText(o, r, hits, disturbed, len(l.records), before, after))
		if err != nil {
			return false, err
		}
	}
	return !r.missed() && len(grown) == 0, nil
}

// chaosText is the paragraph for docs/resilience.md.
func chaosText(o *options, r *row, hits, disturbed, records int, before, after measured) string {
	return fmt.Sprintf("\nMeasured on %s with `make chaos`, seed %d: %d faults in %v at %d requests a second. Of %d requests %d failed (and %d more "+
		"while the machine itself stood still), %d took longer than 200 ms, %d were answered wrongly; p99 %s ms, p99.9 %s ms. %d acknowledged ciphertexts "+
		"decrypt on both HSMs, and no IV came twice.\n\n- at rest before: %s\n- at rest after: %s\n\n",
		time.Now().UTC().Format("2 January 2006"), o.seed, hits, o.chaosFor, r.rate, r.requests, r.failed, disturbed, r.slow, r.wrong,
		harness.Milliseconds(r.p99), harness.Milliseconds(r.p999), records, before, after)
}

// wreak injects faults until the time is over, and says how many.
func (w *world) wreak(ctx context.Context, o *options, r *row) (int, error) {
	var candidates []*fault
	for i := range faults {
		if faults[i].chaos && o.faults.MatchString(faults[i].name) {
			candidates = append(candidates, &faults[i])
		}
	}
	if len(candidates) == 0 {
		return 0, errors.New("no fault for chaos has a name like that")
	}
	random := rand.New(rand.NewPCG(o.seed, o.seed))
	start := time.Now()
	hits := 0
	for ; time.Since(start) < o.chaosFor && ctx.Err() == nil; hits++ {
		f := candidates[random.IntN(len(candidates))]
		t := w.targets[random.IntN(len(w.targets))]
		hold := time.Duration(300+random.IntN(3000)) * time.Millisecond
		mark := *r
		r.happened, r.detected, r.healed = true, -1, 0
		err := w.hurt(r, f, []*target{t}, max(hold, f.hold))
		late := w.machine.Take()
		fmt.Printf("%6.1f s  %-36s %s for %.1f s: detected %s, healed %s%s\n", time.Since(start).Seconds(), f.name, t.Name, hold.Seconds(),
			noticed(r.detected), noticed(r.healed), stood(late))
		r.late = max(r.late, late)
		r.happened = true // a short fault may find nothing to hit
		r.detected, r.healed = max(r.detected, mark.detected), max(r.healed, mark.healed)
		if err != nil {
			return hits, fmt.Errorf("%s on %s: %w", f.name, t.Name, err)
		}
		w.program.forgetEvents()
		time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
	}
	return hits, nil
}

// stood says whether the machine stood still.
func stood(late time.Duration) string {
	if late < stoodStill {
		return ""
	}
	return fmt.Sprintf("; the machine stood still for %v", late.Round(time.Millisecond))
}

// excuse takes the requests out of the count that failed while the machine stood still, and says how
// many these were. No wrong answer is excused.
func (w *world) excuse(r *row, l *load) int {
	excused := 0
	l.failures = slices.DeleteFunc(l.failures, func(f failure) bool {
		due := l.start.Add(f.due)
		if f.wrong || !w.machine.StoodStillAt(due, due.Add(f.took)) {
			return false
		}
		excused++
		return true
	})
	r.failed -= excused
	return excused
}

// forgetEvents keeps what is noted of requests.
func (p *program) forgetEvents() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = nil
}

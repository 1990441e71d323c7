// Command noisy measures on the real program how a noisy key store, which asks for ten times its
// quota, affects a quiet one.
//
//	go run ./test/noisy -proxy bin/xks-proxy -seconds 60
//
// Phases of ten seconds alternate in one run, because machines are noisy themselves: the quiet key
// store alone, and with the noise. A third kind sends the same noise to a bare HTTPS server beside
// the proxy: this process and its TLS share the processors with the proxy, and what that costs is
// not a fault of the proxy's.
//
// The exit code is 1 if a quiet request was not served. The last column says how long no processor
// was free for something that needs nothing else: with much of that the rest says little about the
// proxy.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"xks-proxy/test/harness"
)

type options struct {
	proxy               string
	seconds             int
	quota, noise, quiet int // requests a second
	connections         int
}

const phaseTime = 10 * time.Second

// phase is one of the three kinds, and what was measured in all phases of it.
type phase struct {
	name  string
	noise func(*world) *server // where it goes; nil: there is none
	quiet result
	noisy result
	still time.Duration // the longest that the machine stood still meanwhile
}

func main() {
	log.SetFlags(0)
	o := new(options)
	flag.StringVar(&o.proxy, "proxy", "bin/xks-proxy", "the program to measure")
	flag.IntVar(
		&o.seconds, "seconds", 60,
		"length of the whole measurement; the phases take ten seconds, or a sixth of it if that "+
			"is less",
	)
	flag.IntVar(&o.quota, "quota", 200, "quota of the noisy key store, requests a second; 0: none")
	flag.IntVar(&o.noise, "noise", 2000, "what it sends, requests a second")
	flag.IntVar(&o.quiet, "quiet", 100, "what the quiet key store sends, requests a second")
	flag.IntVar(
		&o.connections, "connections", 32,
		"connections of the noisy key store; the quiet one has 8",
	)
	flag.Parse()
	if o.seconds < 6 || o.seconds > 240 {
		log.Fatal(
			"-seconds: from 6 to 240, because the requests are signed once and a signature is " +
				"good for five minutes",
		)
	}
	err := run(o)
	if err != nil {
		log.Fatal(err)
	}
}

func run(o *options) error {
	binary, err := filepath.Abs(o.proxy)
	if err != nil {
		return err
	}
	o.proxy = binary
	w, err := newWorld(o)
	if err != nil {
		return err
	}
	defer w.close()
	phases := []*phase{
		{name: "alone"},
		{name: "noise elsewhere", noise: func(w *world) *server { return w.bare }},
		{name: "noise", noise: func(w *world) *server { return w.noisy }},
	}
	whole := time.Duration(o.seconds) * time.Second
	each := min(phaseTime, whole/time.Duration(2*len(phases)))
	_, err = measure(w, o, phases[0], each/2) // to warm up
	if err != nil {
		return err
	}
	phases[0].quiet, phases[0].still = result{}, 0
	for start := time.Now(); time.Since(start) < whole; {
		for _, p := range phases {
			cpu, err := measure(w, o, p, each)
			if err != nil {
				return err
			}
			fmt.Printf(
				"%-16s %v, CPU of the proxy and its HSMs %.0f %%\n", p.name, each,
				100*cpu.Seconds()/each.Seconds(),
			)
		}
	}
	return report(o, phases)
}

// measure runs one phase.
func measure(w *world, o *options, p *phase, lasting time.Duration) (time.Duration, error) {
	before, err := harness.CPU(w.program.PID)
	if err != nil {
		return 0, err
	}
	w.machine.Take() // what came earlier
	noisy := make(chan result, 1)
	if p.noise != nil {
		go func() { noisy <- p.noise(w).load(o.noise, o.connections, lasting) }()
	}
	p.quiet.add(w.quiet.load(o.quiet, 8, lasting))
	if p.noise != nil {
		p.noisy.add(<-noisy)
	}
	p.still = max(p.still, w.machine.Take())
	after, err := harness.CPU(w.program.PID)
	return after - before, err
}

func report(o *options, phases []*phase) error {
	fmt.Printf(
		"\nquiet: %d requests a second; noise: %d a second, at a quota of %d\n\n", o.quiet, o.noise,
		o.quota,
	)
	fmt.Println(
		"| phase | quiet requests | p50 | p99 | max | noisy requests, by status | p50 | p99 | " +
			"the machine stood still for |",
	)
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	failed := 0
	for _, p := range phases {
		fmt.Printf(
			"| %s | %s | %s | %s | %s | %s | %s | %s | %.0f ms |\n", p.name, p.quiet.statuses(),
			p.quiet.percentile(50), p.quiet.percentile(99), p.quiet.percentile(100),
			p.noisy.statuses(), p.noisy.percentile(50), p.noisy.percentile(99),
			float64(p.still)/1e6,
		)
		failed += p.quiet.failures()
	}
	if failed > 0 {
		return fmt.Errorf("%d quiet requests were not served", failed)
	}
	return nil
}

// result is what became of requests: times count from when each was due, so that a stall hides
// nothing.
type result struct {
	took   []time.Duration
	counts map[int]int // by status; 0: no reply
	errs   []error
}

func (r *result) add(more result) {
	r.took = append(r.took, more.took...)
	if r.counts == nil {
		r.counts = map[int]int{}
	}
	for status, n := range more.counts {
		r.counts[status] += n
	}
	r.errs = append(r.errs, more.errs...)
}

func (r *result) percentile(p int) string {
	if len(r.took) == 0 {
		return "-"
	}
	slices.Sort(r.took)
	d := r.took[min(len(r.took)-1, len(r.took)*p/100)]
	return fmt.Sprintf("%.2f ms", float64(d)/1e6)
}

func (r *result) statuses() string {
	if len(r.counts) == 0 {
		return "-"
	}
	text := ""
	for _, status := range slices.Sorted(maps.Keys(r.counts)) {
		text += fmt.Sprintf("%d × %d ", r.counts[status], status)
	}
	if err := errors.Join(r.errs...); err != nil {
		text += r.errs[0].Error()
	}
	return text
}

func (r *result) failures() int {
	failed := 0
	for status, n := range r.counts {
		if status != 200 {
			failed += n
		}
	}
	return failed
}

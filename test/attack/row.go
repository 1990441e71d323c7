package main

// One row: the state before, the attack under honest traffic, what it cost, and whether the program
// recovered.

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"xks-proxy/test/harness"
)

// What must be as before within recoveryLimit. Memory has until the end of the run: an idle program
// collects its garbage every two minutes, and gives memory back to the system little by little.
const (
	filesSlack      = 12
	goroutinesSlack = 24
	threadsSlack    = 64 // Go keeps the threads that it once needed
	memorySlack     = 96 << 20
	memoryPeak      = 1 << 30                // whatever is done to it
	slowest         = 100 * time.Millisecond // p99 of honest requests: worth a word
	slowCounts      = 5 * time.Second        // in a row that took as long
	recoveryLimit   = 25 * time.Second
	memoryLimit     = 6 * time.Minute
	rowTries        = 3
	stoodStill      = 60 * time.Millisecond // a tick this late
)

// row is what came of one attack.
type row struct {
	attack              *attack
	tally               *tally
	before, peak, after resources
	recovered           time.Duration
	honest              *honest
	newcomers           *newcomers
	late                time.Duration // the latest tick of this process's clock
	tries               int
	disturbed           string // what cannot be judged because the machine itself stood still
	took                time.Duration
	wrong               []string
}

// runUndisturbed runs a row again if honest requests failed when the machine itself stood still:
// such failures say nothing about the program.
func (w *world) runUndisturbed(ctx context.Context, a *attack) (*row, error) {
	for try := 1; ; try++ {
		r, err := w.runRow(ctx, a)
		if err != nil {
			return nil, err
		}
		r.tries = try
		if r.disturbed == "" || len(r.wrong) > 0 || try == rowTries {
			return r, nil
		}
	}
}

func (w *world) runRow(ctx context.Context, a *attack) (*row, error) {
	t := w.target
	t.Seed, t.Short, t.Mutants = w.options.seed, w.options.short, w.options.mutants
	wires, err := openHonest(&t)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, c := range wires {
			c.close()
		}
	}()
	r := &row{attack: a}
	r.before, err = w.program.allResources(ctx)
	if err != nil {
		return nil, err
	}
	workers := harness.Workers(w.program.PID)
	_ = w.machine.Take() // what came earlier
	r.honest, r.newcomers = startHonest(&t, wires), startNewcomers(&t)
	ended := w.watch(&r.peak)
	start := time.Now()
	r.tally, err = strike(ctx, a, &t)
	r.took = time.Since(start)
	time.Sleep(time.Until(start.Add(700 * time.Millisecond))) // a few honest requests in any case
	r.honest.end()
	r.newcomers.end()
	ended()
	r.late = w.machine.Take()
	if w.program.HasExited() {
		return nil, fmt.Errorf("the program has ended:\n%s", w.program.Tail(20))
	}
	if err != nil {
		return nil, err
	}
	w.settle(ctx, r)
	alarms := w.program.takeAlarms()
	r.judge(w.machine, alarms)
	if now := harness.Workers(w.program.PID); len(now) != len(workers) {
		r.wrong = append(
			r.wrong, fmt.Sprintf("%d processes of HSMs, %d before", len(now), len(workers)),
		)
	}
	return r, nil
}

// watch notes the peak of everything until the function that it gives is called.
func (w *world) watch(peak *resources) func() {
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			now, err := w.program.resources()
			if err == nil {
				peak.Memory = max(peak.Memory, now.Memory)
				peak.Threads = max(peak.Threads, now.Threads)
				peak.Files = max(peak.Files, now.Files)
			}
			select {
			case <-stop:
				return
			case <-time.After(250 * time.Millisecond):
			}
		}
	})
	return func() {
		close(stop)
		watching.Wait()
	}
}

// settle waits until the program has given back files and goroutines, and notes what it has then.
func (w *world) settle(ctx context.Context, r *row) {
	start := time.Now()
	for ctx.Err() == nil {
		now, err := w.program.allResources(ctx)
		if err != nil {
			r.wrong = append(r.wrong, "after the attack: "+err.Error())
			return
		}
		r.after = now
		back := now.Files <= r.before.Files+filesSlack &&
			now.goroutines <= r.before.goroutines+goroutinesSlack
		if back || time.Since(start) > recoveryLimit {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.recovered = time.Since(start)
}

// memoryBack waits until the program has the memory of the beginning, and tells how it went. A
// short run, and one of some attacks only, does not wait.
func (w *world) memoryBack(ctx context.Context, first, last *row) (string, bool) {
	start := time.Now()
	waits := !w.options.short && w.options.attacks.String() == ""
	for ctx.Err() == nil {
		now, err := w.program.allResources(ctx)
		if err != nil {
			return "after all attacks: " + err.Error(), false
		}
		good := now.Memory <= first.before.Memory+memorySlack
		if good || !waits || time.Since(start) > memoryLimit {
			return fmt.Sprintf(
					"memory: %d MiB at first, %d MiB when the last attack ended, %d MiB after "+
						"%.0f s (%d MiB in use, %d MiB kept for the next need)",
					first.before.Memory>>20,
					last.after.Memory>>20,
					now.Memory>>20,
					time.Since(start).Seconds(),
					now.inUse>>20,
					now.idle>>20,
				), good ||
					!waits
		}
		time.Sleep(2 * time.Second)
	}
	return "interrupted", false
}

// judge says what is wrong.
func (r *row) judge(m *harness.Machine, alarms []string) {
	blame := func(bad bool, format string, arguments ...any) {
		if bad {
			r.wrong = append(r.wrong, fmt.Sprintf(format, arguments...))
		}
	}
	blame(r.tally.Accepted > 0, "%d were accepted", r.tally.Accepted)
	r.wrong = append(r.wrong, r.tally.Breaches...)
	blame(r.tally.Tried == 0, "nothing was tried")
	suffering := fmt.Sprintf(
		"%d of %d honest requests failed: %v", len(r.honest.failures), len(r.honest.took),
		r.honest.reasons(),
	)
	if r.honest.excusedBy(m, r.late) {
		r.disturbed = suffering + "; the machine itself stood still meanwhile"
	} else {
		blame(len(r.honest.failures) > 0, "%s", suffering)
	}
	outages := 0
	for _, line := range alarms {
		if strings.Contains(line, outOfService) || strings.Contains(line, startedAgain) {
			outages++
			continue
		}
		blame(true, "log: %s", line)
	}
	if outages > 0 {
		r.tally.remark("%d times an HSM was taken for hung, for want of a processor", outages)
	}
	blame(
		r.after.Files > r.before.Files+filesSlack, "%d open files, %d before", r.after.Files,
		r.before.Files,
	)
	blame(
		r.after.goroutines > r.before.goroutines+goroutinesSlack, "%d goroutines, %d before",
		r.after.goroutines, r.before.goroutines,
	)
	blame(
		r.after.Threads > r.before.Threads+threadsSlack, "%d threads, %d before", r.after.Threads,
		r.before.Threads,
	)
	blame(r.peak.Memory > memoryPeak, "a peak of %d MiB", r.peak.Memory>>20)
}

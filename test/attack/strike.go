package main

// One attack, in a process of its own: what it is told, and what it tells.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// attack is one row of the table.
type attack struct {
	name  string
	limit time.Duration // it is stopped after this
	run   func(ctx context.Context, t *target, n *tally) error
}

// tally is what came of an attack. Safe for concurrent use.
type tally struct {
	mu sync.Mutex

	Tried    int
	Accepted int            // got what they must not get
	Legal    int            // served, because they mean what was signed
	Answers  map[string]int // "401 AuthenticationFailed", "closed", …
	Breaches []string       // of the accepted, the first few
	Remarks  []string
}

const keptBreaches = 10

// note counts one try and its answer.
func (n *tally) note(answer string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Tried++
	n.Answers[answer]++
}

// noteMany counts tries with one answer.
func (n *tally) noteMany(answer string, count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Tried += count
	n.Answers[answer] += count
}

// noteReply counts the reply to one try; nil: none.
func (n *tally) noteReply(r *reply, err error) {
	switch {
	case r != nil:
		n.note(r.name())
	case err == nil || errors.Is(err, errClosed):
		n.note("closed")
	case isTimeout(err):
		n.note("no answer")
	default:
		n.note("no connection")
	}
}

// legal says that one of those noted was served rightly.
func (n *tally) legal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Legal++
}

// accept says that one of those noted got what it must not get.
func (n *tally) accept(format string, arguments ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Accepted++
	if len(n.Breaches) < keptBreaches {
		n.Breaches = append(n.Breaches, fmt.Sprintf(format, arguments...))
	}
}

// remark adds a line below the row.
func (n *tally) remark(format string, arguments ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Remarks = append(n.Remarks, fmt.Sprintf(format, arguments...))
}

// answers is the counts in one cell, the most frequent first.
func (n *tally) answers() string {
	names := slices.SortedFunc(maps.Keys(n.Answers), func(a, b string) int {
		if d := n.Answers[b] - n.Answers[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%s: %d", name, n.Answers[name]))
	}
	return strings.Join(parts, ", ")
}

// strike runs an attack in a child of lower priority and gives its tally.
func strike(ctx context.Context, a *attack, t *target) (*tally, error) {
	input, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.limit+30*time.Second)
	defer cancel()
	self, err := os.Executable() // nice has another /proc/self/exe
	if err != nil {
		return nil, err
	}
	child := exec.CommandContext(ctx, "nice", "-n", "5", self, strikeCommand, a.name)
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	child.Stdin = bytes.NewReader(input)
	var output, said bytes.Buffer
	child.Stdout, child.Stderr = &output, &said
	err = child.Run()
	if err != nil {
		return nil, fmt.Errorf("the attacker: %w: %s", err, strings.TrimSpace(said.String()))
	}
	n := new(tally)
	err = json.Unmarshal(output.Bytes(), n)
	if err != nil {
		return nil, fmt.Errorf("the attacker's tally: %w", err)
	}
	return n, nil
}

// strikeChild is the child's side.
func strikeChild(name string, in io.Reader, out io.Writer) error {
	t := new(target)
	err := json.NewDecoder(in).Decode(t)
	if err != nil {
		return fmt.Errorf("read the target: %w", err)
	}
	for i := range attacks {
		a := &attacks[i]
		if a.name != name {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), a.limit)
		defer cancel()
		n := &tally{Answers: map[string]int{}}
		err := a.run(ctx, t, n)
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(n)
	}
	return fmt.Errorf("there is no attack %q", name)
}

// inParallel calls f with 0 to n-1, so many at once, until the context ends.
func inParallel(ctx context.Context, n, atOnce int, f func(i int)) {
	var mu sync.Mutex
	next := 0
	var running sync.WaitGroup
	for range atOnce {
		running.Go(func() {
			for ctx.Err() == nil {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	running.Wait()
}

// until calls f again and again, so many at once, for a time.
func until(ctx context.Context, span time.Duration, atOnce int, f func()) {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	var running sync.WaitGroup
	for range atOnce {
		running.Go(func() {
			for ctx.Err() == nil {
				f()
			}
		})
	}
	running.Wait()
}

// seconds is a span, shorter in a short run.
func (t *target) seconds(whole, short float64) time.Duration {
	if t.Short {
		return time.Duration(short * float64(time.Second))
	}
	return time.Duration(whole * float64(time.Second))
}

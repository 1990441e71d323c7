package test

// How soon an HSM that blocks is noticed, by the times in the log. Not parallel: it is about time.

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"xks-proxy/test/faulty"
)

const (
	detectLoaded = 100*time.Millisecond + machineMargin // of a blocked request
	detectIdle   = 2*time.Second + machineMargin
	// machineMargin is for the first request to come, and for a machine that does other things, too.
	machineMargin = 50 * time.Millisecond
	// Hedges can answer every request that met a call which hangs; then the HSM's process is found to hang.
	detectHidden = 2*time.Second + time.Second // a ping each half second tells
	detectTries  = 6                           // one in time is enough: a machine that stands still makes nothing faster
)

func TestDetection(t *testing.T) {
	var controls []*faulty.Control
	p := newProxy(t, func(s *settings) {
		s.withoutLeisure()
		controls = s.misbehave(t)
	})
	stopped := func() error { return syscall.Kill(p.worker(t, "hsm-a"), syscall.SIGSTOP) }
	hung := func() error { return controls[0].Set(faulty.Rule{Function: faulty.Crypto, Action: faulty.Hang}) }
	for _, c := range []struct {
		name  string
		rate  int // of requests; 0: none
		block func() error
		limit time.Duration
	}{
		{"stopped, idle", 0, stopped, detectIdle},
		{"stopped, under load", 400, stopped, detectLoaded},
		{"hung, under load", 400, hung, detectLoaded},
	} {
		t.Run(c.name, func(t *testing.T) {
			for try := 1; ; try++ {
				p.waitActive(t, "hsm-a", "hsm-b")
				took := p.detection(t, c.rate, c.block)
				controls[0].Clear()
				t.Logf("noticed after %v", took)
				if took > detectHidden {
					t.Errorf("noticed after %v, want at most %v however busy the machine is", took, detectHidden)
				}
				if took <= c.limit {
					break
				}
				if try == detectTries {
					t.Errorf("noticed after %v, want at most %v, in each of %d tries", took, c.limit, try)
					break
				}
			}
			p.waitActive(t, "hsm-a", "hsm-b")
		})
	}
}

// detection is how long it takes from block until the log first says that something is wrong with hsm-a.
func (p *proxy) detection(t *testing.T, rate int, block func() error) time.Duration {
	t.Helper()
	if rate > 0 {
		l := p.startLoad(t, http1, rate, 8)
		defer l.end()
		time.Sleep(500 * time.Millisecond)
	}
	mark, start := p.log.mark(), time.Now()
	err := block()
	if err != nil {
		t.Fatal(err)
	}
	var took time.Duration
	eventually(t, 10*time.Second, func() error {
		for _, line := range p.log.since(mark) {
			if !strings.Contains(line, `"hsm":"hsm-a"`) || !containsAny(line, `"level":"warn"`, `"level":"error"`) {
				continue
			}
			said, _ := parseLine(t, line)["time"].(string)
			at, err := time.Parse(time.RFC3339Nano, said)
			if err != nil {
				t.Fatalf("%v in %s", err, line)
			}
			if took = at.Sub(start); took >= 0 {
				return nil
			}
		}
		return fmt.Errorf("nothing is noticed; log:\n%s", p.log.tail(5))
	})
	return took
}

package test

// HSM libraries that take memory without end: the proxy serves on, the processes' memory stays
// bounded, and the operator is told why.

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"xks-proxy/test/faulty"
	"xks-proxy/test/harness"
)

// playAll has both HSMs behave so.
func playAll(t *testing.T, controls []*faulty.Control, m faulty.Manners) {
	t.Helper()
	for _, control := range controls {
		err := control.Play(m)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// largest watches the memory of the HSMs' processes until stop is closed, and gives the most that
// one of them had.
func (p *proxy) largest(t *testing.T, stop <-chan struct{}) <-chan int64 {
	result := make(chan int64, 1)
	go func() {
		most := int64(0)
		for {
			select {
			case <-stop:
				result <- most
				return
			case <-time.After(50 * time.Millisecond):
			}
			for _, w := range p.workers() {
				text, err := harness.ResidentMemory(w.PID)
				if err == nil {
					most = max(most, text)
				}
			}
		}
	}()
	return result
}

// Both HSMs have the same library, and it leaks 1 MiB with each Encrypt: no request fails.
func TestLeakingModules(t *testing.T) {
	t.Parallel()
	const limit = 160 // MiB
	var controls []*faulty.Control
	p := newProxy(t, func(s *settings) {
		controls = s.misbehave(t)
		for _, h := range s.HSMs {
			h["memory_limit_mib"] = limit
		}
	})
	p.waitActive(t, "hsm-a", "hsm-b")
	playAll(t, controls, faulty.Manners{Leak: 1 << 20})
	stop := make(chan struct{})
	most := p.largest(t, stop)
	l := p.startLoad(t, http1, 100, 4)
	replacements := func(hsm string) int {
		n, _ := strconv.Atoi(p.metric(t, `xks_proxy_hsm_process_memory_replacements_total{hsm="`+hsm+`"}`))
		return n
	}
	eventually(t, 60*time.Second, func() error {
		a, b := replacements("hsm-a"), replacements("hsm-b")
		if a < 2 || b < 2 {
			return fmt.Errorf("hsm-a was replaced %d times, hsm-b %d times; log:\n%s", a, b, p.log.tail(5))
		}
		return nil
	})
	l.wantNoFailure(t, 100)
	close(stop)
	mib := <-most >> 20
	t.Logf("the largest process had %d MiB", mib)
	if mib > 2*limit {
		t.Errorf("a process had %d MiB of memory, and the limit is %d", mib, limit)
	}
	line := p.log.find(func(line string) bool { return strings.Contains(line, "has too much memory") })
	if !strings.Contains(line, `"limit_bytes":167772160`) {
		t.Errorf("the log says %q", line)
	}
	stdout, stderr, code := command(t, "hsm", "list", "--config", p.file)
	text := strings.Join(strings.Fields(stdout), " ")
	if code != 0 || !strings.Contains(text, "because of its memory (memory_limit_mib)") {
		t.Errorf("hsm list: exit code %d\n%s%s", code, stdout, stderr)
	}
}

// A search that never ended took 5 GB of memory in the HSM's process.
func TestEndlessSearches(t *testing.T) {
	t.Parallel()
	for name, manners := range map[string]faulty.Manners{
		"the same object": {EndlessFind: true}, "new objects": {NewFinds: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var controls []*faulty.Control
			p := newProxy(t, func(s *settings) {
				controls = s.misbehave(t)
				s.Group["catalogue_interval"] = "1s"
			})
			c := p.client(t, http1)
			c.encrypt(t, "key-1", encryptBody(nil, nil))
			playAll(t, controls, manners)
			stop := make(chan struct{})
			most := p.largest(t, stop)
			l := p.startLoad(t, http1, 20, 2)
			p.log.wait(t, 60*time.Second, p.Exited(), func(line string) bool {
				return strings.Contains(line, "C_FindObjects") && strings.Contains(line, "the module's search")
			})
			status, body := p.get(t, c, "http://"+p.Health+"/healthz/live")
			if status != http.StatusOK {
				t.Errorf("live: %d %s", status, body)
			}
			l.wantNoFailure(t, 10)
			close(stop)
			mib := <-most >> 20
			t.Logf("the largest process had %d MiB", mib)
			if mib > 300 {
				t.Errorf("a process had %d MiB of memory", mib)
			}
		})
	}
}

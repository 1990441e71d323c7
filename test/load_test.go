package test

// Honest load, while something bad happens.

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// load sends Encrypts and Decrypts at a rate until it is stopped.
type load struct {
	stop    context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	took     []time.Duration
	failures []string
	statuses map[int]int
	lost     map[string]error // of these, by kmsRequestId, the requests without a reply
}

// startLoad sends rate requests a second in all, from a few clients that each wait for
// their answer. Every Decrypt is compared with what was encrypted.
func (p *proxy) startLoad(t testing.TB, w way, rate, clients int) *load {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	l := &load{stop: stop, statuses: map[int]int{}, lost: map[string]error{}}
	c := p.client(t, w)
	for i := range clients {
		l.running.Go(func() { l.run(ctx, c, time.Second*time.Duration(clients)/time.Duration(rate), i) })
	}
	t.Cleanup(func() { l.end() })
	return l
}

func (l *load) run(ctx context.Context, c *client, every time.Duration, offset int) {
	beat := time.NewTicker(every)
	defer beat.Stop()
	time.Sleep(every * time.Duration(offset%7) / 7)
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}
		l.once(c)
	}
}

// once is one Encrypt and one Decrypt. It is finished also when the load is stopped meanwhile.
func (l *load) once(c *client) {
	plaintext := randomBytes(32)
	var s sealed
	if !l.note(c, encryptURI("key-1"), encryptBody(plaintext, []byte("load")), &s) {
		return
	}
	var answer struct{ Plaintext []byte }
	if l.note(c, decryptURI("key-1"), decryptBody(&s, []byte("load")), &answer) && string(answer.Plaintext) != string(plaintext) {
		l.fail("decrypted to another plaintext")
	}
}

func (l *load) note(c *client, uri string, body object, answer any) bool {
	request := c.call(uri, encode(body))
	r, err := c.do(context.Background(), request)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failures = append(l.failures, fmt.Sprintf("no reply: %v", err))
		l.lost[requestIDOf(request.body)] = err
		return false
	}
	l.took = append(l.took, r.took)
	l.statuses[r.status]++
	if r.status != http.StatusOK {
		l.failures = append(l.failures, fmt.Sprintf("%d %s; log line:\n%s", r.status, r.body, r.line()))
		return false
	}
	err = decodeInto(r.body, answer)
	if err != nil {
		l.failures = append(l.failures, err.Error())
	}
	return err == nil
}

func (l *load) fail(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, what)
}

// end stops the load and waits for what is in flight.
func (l *load) end() {
	l.stop()
	l.running.Wait()
}

// count is how many requests were answered.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.took)
}

// wantNoFailure ends the load.
func (l *load) wantNoFailure(t testing.TB, atLeast int) {
	t.Helper()
	l.end()
	if len(l.failures) > 0 {
		t.Errorf("%d of %d requests failed; the first: %s", len(l.failures), len(l.took), l.failures[0])
	}
	if len(l.took) < atLeast {
		t.Errorf("only %d requests were answered, want %d: the load was none", len(l.took), atLeast)
	}
	t.Logf("%d requests, p50 %v, p99 %v, max %v", len(l.took), l.percentile(50), l.percentile(99), l.percentile(100))
}

// percentile of the time that the answered requests took, as the client saw it.
func (l *load) percentile(p int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(l.took))
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

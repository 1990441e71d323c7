package test

// Overload in the real program (requirement R3): what the HSMs cannot do in time is refused early, and they work on what was taken.

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"xks-proxy/test/faulty"
)

// Both HSMs take 100 ms for a call and have two sessions, so that they serve 40 requests a second; 60 clients want more than that.
func TestOverloadIsShed(t *testing.T) {
	t.Parallel()
	const budget, queue = 6 * time.Second, 500 * time.Millisecond
	p := newProxy(t, func(s *settings) {
		s.Server["budget"], s.Server["first_request_budget"], s.Server["max_queue_time"] = budget.String(), budget.String(), queue.String()
		for _, h := range s.HSMs {
			h["sessions"] = 2
		}
		for _, control := range s.misbehave(t) {
			err := control.Set(faulty.Rule{Function: "C_Encrypt", Action: faulty.Delay, Delay: 100 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	c := p.client(t, http2)
	var mu sync.Mutex
	served, shed := 0, 0
	var refused *reply
	start := time.Now()
	var running sync.WaitGroup
	for range 60 {
		running.Go(func() {
			for time.Since(start) < 4*time.Second {
				r, err := c.do(context.Background(), c.call(encryptURI("key-1"), encode(encryptBody([]byte("x"), nil))))
				if err != nil {
					t.Errorf("no reply: %v", err)
					return
				}
				mu.Lock()
				switch {
				case r.status == http.StatusOK:
					served++
				case r.status == http.StatusTooManyRequests:
					shed, refused = shed+1, r
				default:
					t.Errorf("%d %s after %v", r.status, r.body, r.took)
				}
				if r.took > budget {
					t.Errorf("%d after %v", r.status, r.took)
				}
				mu.Unlock()
				if r.status != http.StatusOK {
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
	running.Wait()
	t.Logf("%d served, %d refused", served, shed)
	if served < 40 || shed < 20 {
		t.Fatalf("%d were served and %d refused", served, shed)
	}
	refused.wantError(t, http.StatusTooManyRequests, "ThrottlingException")
}

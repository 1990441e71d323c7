package worker

// Listings that take long: alive while they make progress, and in nobody's way.

import (
	"context"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
)

// A listing takes twice as long as a call may hang, and another waits behind it; searches are
// answered meanwhile.
func TestLongListing(t *testing.T) {
	c := testConfig(t, testSettings{Open: "slow keys"})
	c.HangTimeout, c.HungPatience = keysSteps*keysStep/2/keysPatience, 100*time.Millisecond
	c.PingInterval = 20 * time.Millisecond
	w := readyWorker(t, c)
	type result struct {
		keys []hsm.Object
		err  error
	}
	results := make(chan result, 2)
	for range cap(results) {
		go func() {
			keys, err := w.Keys(context.Background())
			results <- result{keys, err}
		}()
	}
	eventually(t, 5*time.Second, "no listing begins", func() bool { return w.State().Busy > 0 })
	var slowest time.Duration
	for range 50 {
		begin := time.Now()
		_, err := w.Find(within(t, 5*time.Second), "key")
		if err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(begin))
		time.Sleep(20 * time.Millisecond)
	}
	if slowest > keysSteps*keysStep/4 {
		t.Errorf("a search beside the listing took %v", slowest)
	}
	for range cap(results) {
		r := <-results
		if r.err != nil || len(r.keys) != 2 {
			t.Errorf("%v, %v", r.keys, r.err)
		}
	}
	if s := w.State(); s.Restarts != 0 {
		t.Errorf("state is %+v", s)
	}
	t.Logf("the slowest of 50 searches took %v", slowest)
}

package main

// The load: a request that was signed once, sent on a fixed schedule over keep-alive connections.

import (
	"sync"
	"sync/atomic"
	"time"

	"xks-proxy/test/harness"
)

// load sends rate requests a second.
func (s *server) load(rate, connections int, lasting time.Duration) result {
	start := time.Now()
	var next atomic.Int64
	var mu sync.Mutex
	var all result
	var running sync.WaitGroup
	for range connections {
		running.Go(func() {
			mine := s.send(start, &next, rate, lasting)
			mu.Lock()
			defer mu.Unlock()
			all.add(mine)
		})
	}
	running.Wait()
	return all
}

// send is one connection's part.
func (s *server) send(start time.Time, next *atomic.Int64, rate int, lasting time.Duration) result {
	r := result{counts: map[int]int{}}
	c := harness.NewConn(s.address, s.roots)
	defer c.Close()
	for {
		due := time.Duration(next.Add(1)-1) * time.Second / time.Duration(rate)
		if due >= lasting {
			return r
		}
		time.Sleep(time.Until(start.Add(due)))
		status, _, err := c.Exchange(s.request)
		if err != nil {
			r.errs = append(r.errs, err)
		}
		r.counts[status]++
		r.took = append(r.took, time.Since(start)-due)
	}
}

package main

// Honest clients without a connection: during an attack, four times a second, one connects,
// authenticates and leaves. It competes with the attackers for slots.

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	newcomerEvery = 250 * time.Millisecond
	newcomerLimit = 250 * time.Millisecond // AWS KMS waits as long (U13)
)

// newcomers are running, and after end what came of them.
type newcomers struct {
	target       *target
	came, served atomic.Int64
	stop         chan struct{}
	group        sync.WaitGroup
}

func startNewcomers(t *target) *newcomers {
	n := &newcomers{target: t, stop: make(chan struct{})}
	n.group.Go(func() {
		next := time.NewTicker(newcomerEvery)
		defer next.Stop()
		for {
			select {
			case <-n.stop:
				return
			case due := <-next.C:
				n.group.Go(func() { n.come(due) })
			}
		}
	})
	return n
}

// come makes a whole handshake, none resumed, and one request.
func (n *newcomers) come(due time.Time) {
	n.came.Add(1)
	c := &wire{target: n.target, config: n.target.tlsConfig("http/1.1")}
	defer c.close()
	r, err := c.ask(newSketch(n.target, &n.target.Tenants[0], "/health", healthBody()).bytes())
	if err == nil && r.status == 200 && time.Since(due) <= newcomerLimit {
		n.served.Add(1)
	}
}

func (n *newcomers) end() {
	close(n.stop)
	n.group.Wait()
}

package main

// A tenant that holds as many connections as the program accepts, each of them authenticated.

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync/atomic"
	"time"
)

// heldConnections is more than the default of server.max_connections.
const heldConnections = 10_200

// tenantConnections opens connections and authenticates on each of them. Clients of another tenant
// must still get in.
func tenantConnections(ctx context.Context, t *target, n *tally) error {
	count := t.amount(heldConnections, 600)
	who := t.tenant("archive")
	held := make([]*wire, count)
	defer func() {
		for _, c := range held {
			if c != nil {
				c.close()
			}
		}
	}()
	config := t.tlsConfig("http/1.1")
	config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	request := newSketch(t, who, "/health", healthBody()).bytes()
	var served atomic.Int64
	inParallel(ctx, count, 16, func(i int) {
		c := &wire{target: t, config: config}
		r, err := c.ask(request)
		n.noteReply(r, err)
		if err != nil || r.status != 200 {
			c.close()
			return
		}
		n.legal()
		served.Add(1)
		held[i] = c
	})
	for range 5 {
		c := &wire{target: t}
		r, err := c.ask(newSketch(t, &t.Tenants[0], "/health", healthBody()).bytes())
		c.close()
		n.noteReply(r, err)
		if err != nil || r.status != 200 {
			n.accept("a client of another tenant is locked out: %v %v", r, err)
			continue
		}
		n.legal()
	}
	time.Sleep(t.seconds(5, 0.5))
	if int(served.Load()) < count*9/10 {
		return fmt.Errorf("only %d of %d connections could be opened: "+
			"raise the limit on open files", served.Load(), count)
	}
	return nil
}

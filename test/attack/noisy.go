package main

// A tenant that asks for more than its share.

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// requests a second that the key store of the noisy tenant may make, and at once
	noisyQuota  = 50
	noisyFactor = 10 // times as many as he makes
)

// noisyTenant asks for ten times its quota, on a schedule, on open connections.
func noisyTenant(ctx context.Context, t *target, n *tally) error {
	who := t.tenant("noisy")
	start := time.Now()
	span := t.seconds(15, 1)
	var next, served atomic.Int64
	until(ctx, span, 32, func() {
		c := &wire{target: t}
		defer c.close()
		for time.Since(start) < span && ctx.Err() == nil {
			due := start.Add(time.Duration(next.Add(1)) * time.Second / (noisyQuota * noisyFactor))
			time.Sleep(time.Until(due))
			r, err := c.ask(
				newSketch(t, who, "/keys/"+who.Keys[0]+"/encrypt", encryptBody("noise")).bytes(),
			)
			n.noteReply(r, err)
			if r != nil && r.status == 200 {
				served.Add(1)
				n.legal()
			}
		}
	})
	allowed := int64(
		noisyQuota * (time.Since(start).Seconds() + 2),
	) // a second's worth at once, and one for the clock
	n.remark("%d were served of a quota of %d a second", served.Load(), noisyQuota)
	if served.Load() > allowed {
		n.accept("%d requests were served where a quota allows %d", served.Load(), allowed)
	}
	return nil
}

// tenantFrames is a flood of control frames on connections on which a tenant has authenticated.
func tenantFrames(_ context.Context, t *target, n *tally) error {
	who := t.tenant("noisy")
	abused(t, n, t.seconds(10, 0.6), func(c *h2, k int) error {
		if k == 0 {
			err := c.greet(fieldsOf(newSketch(t, who, "/health", healthBody())), healthBody())
			if err != nil {
				return err
			}
		}
		return c.framer.WritePing(false, [8]byte{1})
	})
	return nil
}

// greet authenticates on a connection that drain reads.
func (c *h2) greet(fields []header, body []byte) error {
	id, err := c.open(c.headers(fields), false)
	if err != nil {
		return err
	}
	err = c.framer.WriteData(id, true, body)
	time.Sleep(100 * time.Millisecond) // until it is answered
	return err
}

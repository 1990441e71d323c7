package main

// Everything at once: the fleet changes again and again, in vain at times, while operators drain and resume HSMs and requests
// are served.

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/status"
)

// No request fails, what an operator drained last is drained in the end, and of all processes only those of the last
// configuration are left.
func TestFleetUnderStress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newFleetRig(t)
		rig.begins(t, nil)
		orders := newAdmin(serviceConfig{log: zap.NewNop(), groups: rig.groups, processes: rig.processes, turns: &rig.turns})
		ctx, stop := context.WithCancel(t.Context())
		var others sync.WaitGroup
		for range 4 {
			others.Go(func() { rig.asks(ctx, t) })
		}
		others.Go(func() {
			for ctx.Err() == nil {
				rig.orders(t, "a", orders.drain)
				time.Sleep(3 * time.Millisecond)
				rig.orders(t, "a", orders.resume)
			}
		})
		others.Go(func() {
			for ctx.Err() == nil {
				orders.status()
				time.Sleep(time.Millisecond)
			}
		})
		refused := errors.New("refused")
		for n := range 60 {
			c, s := fleetConfig(func(c *config) {
				c.HSMs[n%2].Sessions = 5 + n%7
				c.HSMGroups[0].HSMs[0].Priority = n % 3
			})
			next, err := rig.prepare(t.Context(), c, s)
			if err != nil {
				t.Fatal(err)
			}
			put := error(nil)
			if n%4 == 3 {
				put = refused
			}
			err = rig.publish(t.Context(), next, func() error { return put })
			if !errors.Is(err, put) {
				t.Fatal(err)
			}
			if err != nil {
				rig.abandon(next)
			}
			time.Sleep(time.Duration(n%5) * 10 * time.Millisecond)
		}
		stop()
		others.Wait()
		rig.orders(t, "b", orders.drain)
		c, s := fleetConfig(nil)
		err := rig.changes(t.Context(), c, s)
		if err != nil {
			t.Fatal(err)
		}
		if b := memberOf(rig.groups()[0], "b").Service; b != status.Drained {
			t.Errorf("b is %s", b)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := rig.running(); len(got) != 2 {
			t.Errorf("%v run", got)
		}
		if len(rig.turns.now) != 0 {
			t.Errorf("turns are left: %v", rig.turns.now)
		}
	})
}

// asks makes requests as the handler does: each at the group that serves when it begins.
func (rig *fleetRig) asks(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		group := rig.groups()[0]
		time.Sleep(2 * time.Millisecond) // its body comes
		limited, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		_, _, err := group.Encrypt(limited, hsm.KeyRef{Label: "key", Version: 1}, nil, []byte("x"))
		cancel()
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// orders gives an order as the admin socket does.
func (rig *fleetRig) orders(t *testing.T, name string, do func(context.Context, adminOrder) (string, error)) {
	ctx, cancel := context.WithTimeout(context.Background(), adminWait)
	defer cancel()
	_, err := do(ctx, adminOrder{HSM: name})
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

package fleet

// Everything at once: the fleet changes again and again, in vain at times, while operators drain and resume HSMs and requests
// are served.

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/internal/config"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/status"
)

// No request fails, what an operator drained last is drained in the end, and of all processes only those of the last
// configuration are left.
func TestFleetUnderStress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newFleetRig(t)
		rig.begins(t, nil)
		ctx, stop := context.WithCancel(t.Context())
		var others sync.WaitGroup
		for range 4 {
			others.Go(func() { rig.asks(ctx, t) })
		}
		others.Go(func() {
			for ctx.Err() == nil {
				rig.drains(t, "a")
				time.Sleep(3 * time.Millisecond)
				rig.resumes(t, "a")
			}
		})
		others.Go(func() {
			for ctx.Err() == nil {
				for _, group := range rig.Groups() {
					group.Status()
				}
				for _, process := range rig.Processes() {
					process.State()
				}
				time.Sleep(time.Millisecond)
			}
		})
		refused := errors.New("refused")
		for n := range 60 {
			c, s := fleetConfig(func(c *config.Config) {
				c.HSMs[n%2].Sessions = 5 + n%7
				c.HSMGroups[0].HSMs[0].Priority = n % 3
			})
			next, err := rig.Prepare(t.Context(), c, s)
			if err != nil {
				t.Fatal(err)
			}
			put := error(nil)
			if n%4 == 3 {
				put = refused
			}
			err = rig.Publish(t.Context(), next, func() error { return put })
			if !errors.Is(err, put) {
				t.Fatal(err)
			}
			if err != nil {
				rig.Abandon(next)
			}
			time.Sleep(time.Duration(n%5) * 10 * time.Millisecond)
		}
		stop()
		others.Wait()
		rig.drains(t, "b")
		c, s := fleetConfig(nil)
		err := rig.changes(t.Context(), c, s)
		if err != nil {
			t.Fatal(err)
		}
		if b := rig.serviceOf("b"); b != status.Drained {
			t.Errorf("b is %s", b)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := rig.running(); len(got) != 2 {
			t.Errorf("%v run", got)
		}
		if len(rig.Turns.Now) != 0 {
			t.Errorf("turns are left: %v", rig.Turns.Now)
		}
	})
}

// asks makes requests as the handler does: each at the group that serves when it begins.
func (rig *fleetRig) asks(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		group := rig.Groups()[0]
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

// drains is an order to take an HSM out of service.
func (rig *fleetRig) drains(t *testing.T, name string) {
	rig.orders(t, name, func(ctx context.Context, g *group.Group) error {
		return g.Drain(ctx, name, false)
	})
}

// resumes is an order to put an HSM back, which ends when it serves.
func (rig *fleetRig) resumes(t *testing.T, name string) {
	rig.orders(t, name, func(ctx context.Context, g *group.Group) error {
		err := g.Resume(name)
		if err != nil {
			return err
		}
		g.Probe(name)
		for rig.serviceOf(name) != status.InService && ctx.Err() == nil {
			time.Sleep(20 * time.Millisecond)
		}
		return ctx.Err()
	})
}

// orders gives an order as the admin socket does: in its turn, to the group that serves then.
func (rig *fleetRig) orders(
	t *testing.T, name string, do func(context.Context, *group.Group) error,
) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	end, err := rig.Turns.Take(ctx, name, "an order")
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	defer end()
	err = do(ctx, rig.Groups()[0])
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

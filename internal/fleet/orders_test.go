package fleet

// A change of the fleet and the orders for its HSMs: neither undoes what the other did.

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/internal/config"
	"xks-proxy/pkg/hsm/status"
)

// Whatever is made anew around an HSM that is drained, it stays so: in its group, and in another that it moves to.
func TestFleetKeepsDrained(t *testing.T) {
	for name, edit := range map[string]func(*config.Config){
		"another process": func(c *config.Config) { c.HSMs[0].Sessions = 9 },
		"another group":   func(c *config.Config) { c.HSMGroups[0].Name = "other" },
		"both":            func(c *config.Config) { c.HSMGroups[0].Name = "other"; c.HSMs[0].Sessions = 9 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rig := newFleetRig(t)
				rig.begins(t, nil)
				err := rig.Groups()[0].Drain(t.Context(), "a", false)
				if err != nil {
					t.Fatal(err)
				}
				c, s := fleetConfig(edit)
				err = rig.changes(t.Context(), c, s)
				if err != nil {
					t.Fatal(err)
				}
				if a, b := rig.serviceOf("a"), rig.serviceOf("b"); a != status.Drained || b == status.Drained {
					t.Errorf("a is %s, b is %s", a, b)
				}
			})
		})
	}
}

// A change waits for the order that is under way for an HSM that it concerns, and takes what that has done; orders
// for others it does not wait for.
func TestFleetWaitsForOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newFleetRig(t)
		rig.begins(t, func(c *config.Config) {
			c.HSMs = append(c.HSMs, config.HSM{Name: "c"})
			c.HSMGroups = append(c.HSMGroups, config.Group{Name: "other", TestKey: config.TestKey{Label: "test"}, HSMs: []config.GroupMember{{HSM: "c"}}})
		})
		change := func(sessions int) error {
			c, s := fleetConfig(func(c *config.Config) {
				c.HSMs = append(c.HSMs, config.HSM{Name: "c"})
				c.HSMs[0].Sessions = sessions
				c.HSMGroups = append(c.HSMGroups, config.Group{Name: "other", TestKey: config.TestKey{Label: "test"}, HSMs: []config.GroupMember{{HSM: "c"}}})
			})
			return rig.changes(t.Context(), c, s)
		}
		endOther, err := rig.Turns.Take(t.Context(), "c", "a drain")
		if err != nil {
			t.Fatal(err)
		}
		defer endOther()
		began := time.Now()
		err = change(5)
		if err != nil || time.Since(began) > time.Second {
			t.Errorf("an order for another HSM: %v after %v", err, time.Since(began))
		}

		end, err := rig.Turns.Take(t.Context(), "a", "a restart")
		if err != nil {
			t.Fatal(err)
		}
		group := rig.Groups()[0]
		_ = group.Drain(t.Context(), "a", true) // as a restart does for a while
		time.AfterFunc(10*time.Second, func() {
			_ = group.Resume("a")
			end()
		})
		began = time.Now()
		err = change(6)
		if err != nil || time.Since(began) < 10*time.Second {
			t.Errorf("%v after %v; the restart takes 10 s", err, time.Since(began))
		}
		if got := rig.serviceOf("a"); got == status.Drained {
			t.Error("a was drained by the restart for a while, and stays so forever")
		}

		end, err = rig.Turns.Take(t.Context(), "b", "a drain by root")
		if err != nil {
			t.Fatal(err)
		}
		defer end()
		err = change(7)
		if !errors.Is(err, ErrUnderWay) || rig.Current.Load().Number != 3 {
			t.Errorf("an order that does not end: %v", err)
		}
		if got := len(rig.running()); got != 3 {
			t.Errorf("%v run", rig.running())
		}
	})
}

// An order that comes while a change is put into effect waits, and then finds the new groups.
func TestOrdersWaitForTheFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newFleetRig(t)
		rig.begins(t, nil)
		c, s := fleetConfig(func(c *config.Config) { c.HSMs[0].Sessions = 9 })
		next, err := rig.Prepare(t.Context(), c, s)
		if err != nil {
			t.Fatal(err)
		}
		took := make(chan time.Duration, 1)
		err = rig.Publish(t.Context(), next, func() error {
			began := time.Now()
			go func() {
				end, err := rig.Turns.Take(context.WithoutCancel(t.Context()), "b", "a drain")
				if err != nil {
					t.Error(err)
				} else {
					end()
				}
				took <- time.Since(began)
			}()
			time.Sleep(3 * time.Second)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := <-took; got < 3*time.Second {
			t.Errorf("the order had its turn after %v, in the middle of the change", got)
		}
	})
}

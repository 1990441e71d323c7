package peer

// A name service that hangs holds nobody up.

import (
	"context"
	"errors"
	"os/user"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestNamesThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lookups atomic.Int32
		let := make(chan struct{})
		names := NewNames(func(uid int) (string, error) {
			lookups.Add(1)
			<-let
			if uid == 1 {
				return "alice", nil
			}
			return "", user.UnknownUserIdError(uid)
		})
		began := time.Now()
		for range 3 {
			if name := names.name(1); name != "" || time.Since(began) != nameWait {
				t.Errorf("%q after %s", name, time.Since(began)) // only the first one waits
			}
		}
		for uid := range 20 {
			names.begin(uid)
		}
		if synctest.Wait(); lookups.Load() != maxNameLookups {
			t.Errorf("%d lookups hang at once", lookups.Load())
		}
		close(let)
		synctest.Wait()
		if name := names.name(1); name != "alice" {
			t.Errorf("when the answer is there: %q", name)
		}
		if name := names.name(2); name != "" {
			t.Errorf("a user without a name: %q", name)
		}
		before := lookups.Load()
		names.name(1)
		if lookups.Load() != before {
			t.Error("what is known is asked again")
		}
		time.Sleep(nameFresh)
		names.name(1)
		if lookups.Load() != before+1 {
			t.Error("an old answer is believed forever")
		}
	})
}

// A group that cannot be looked up in time: the socket is there, for the proxy's user.
func TestLookUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let := make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := LookUp(ctx, func() (int, error) { <-let; return 1, nil })
		if !errors.Is(err, ErrNoName) {
			t.Errorf("%v", err)
		}
		close(let)
		number, err := LookUp(t.Context(), func() (int, error) { return 1, nil })
		if number != 1 || err != nil {
			t.Errorf("%d, %v", number, err)
		}
	})
}

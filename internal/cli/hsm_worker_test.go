package cli

// When the process of an HSM gives up its token, in synthetic time.

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/internal/fleet"
	"xks-proxy/pkg/hsm"
)

func TestWaitUntilAway(t *testing.T) {
	away := &hsm.Error{Kind: hsm.ErrUnavailable}
	for _, c := range []struct {
		name    string
		answers []error // the last one is repeated
		after   time.Duration
	}{
		{"away from the start", []error{away}, 6 * time.Second},
		{"away later", []error{nil, nil, away}, 10 * time.Second},
		{"comes and goes", []error{away, away, nil, away, away, nil, away}, 18 * time.Second},
		{"PIN refused, then away", []error{away, away, &hsm.Error{Kind: hsm.ErrPINIncorrect}, &hsm.Error{Kind: hsm.ErrPINLocked}, away}, 14 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				begin := time.Now()
				fleet.WaitUntilAway(func(context.Context) error {
					asked++
					return c.answers[min(asked, len(c.answers))-1]
				}, nil, nil, func(error) {})
				if took := time.Since(begin); took != c.after {
					t.Errorf("given up after %v, want %v", took, c.after)
				}
			})
		})
	}
}

// A call that never returns is noticed, and a slow one that returns is forgiven.
func TestWaitUntilAwayHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		var asked atomic.Int32
		reports := 0
		begin := time.Now()
		fleet.WaitUntilAway(func(ctx context.Context) error {
			switch asked.Add(1) {
			case 1:
				time.Sleep(5 * time.Second) // inside the module no context is seen
				return nil
			case 2:
				<-ctx.Done() // waits its turn, as long as it may
				return &hsm.Error{Kind: hsm.Timeout(ctx.Err())}
			}
			<-release
			return errors.New("too late")
		}, nil, nil, func(error) { reports++ })
		// Asked at 2, 8 (the answer came at 7) and 10: failures at 4 and 6, then at 9.5, 12 and 14.
		if took := time.Since(begin); took != 14*time.Second || asked.Load() != 3 || reports != 2+1+2 {
			t.Errorf("given up after %v, asked %d times, %d reports", took, asked.Load(), reports)
		}
	})
}

// A token that always answers is kept, and what hangs forever is not asked again.
func TestWaitUntilAwayKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		asked := 0
		gaveUp := make(chan struct{})
		go func() {
			fleet.WaitUntilAway(func(context.Context) error {
				asked++
				select {
				case <-stop:
					return errors.New("away")
				default:
					return nil
				}
			}, nil, nil, func(error) {})
			close(gaveUp)
		}()
		time.Sleep(time.Hour)
		select {
		case <-gaveUp:
			t.Error("gave up a token that answers")
		default:
		}
		close(stop)
		<-gaveUp
		if asked < 1790 || asked > 1810 {
			t.Errorf("asked %d times in an hour", asked)
		}
	})
}

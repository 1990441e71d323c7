package fleet

// A token whose calls fail is looked at out of turn, in synthetic time.

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
)

// scripted is a token whose calls and checks answer as the test says.
type scripted struct {
	hsm.Token
	call, alive func() error
}

func (s *scripted) Encrypt(context.Context, hsm.KeyRef, []byte, []byte) (hsm.Sealed, error) {
	return hsm.Sealed{}, s.call()
}

func (s *scripted) Alive(context.Context) error { return s.alive() }

func TestFailingCalls(t *testing.T) {
	answer := func(kind error, code hsm.CKR) func() error {
		return func() error { return &hsm.Error{Kind: kind, Code: code} }
	}
	fault := func(code hsm.CKR) func() error { return answer(hsm.ErrUnavailable, code) }
	refused := answer(hsm.ErrPINIncorrect, 0xA0)
	good := func() error { return nil }
	const never = time.Minute
	for _, c := range []struct {
		name        string
		call, alive func() error
		within      time.Duration // of the end; never: it goes on
	}{
		{"all sessions reset", fault(0x30), fault(0x30), 100 * time.Millisecond},
		{"not initialized", fault(0x190), good, 20 * time.Millisecond},
		{"not initialized, seen by a check", good, fault(0x190), 2100 * time.Millisecond},
		{"sessions closed and no new ones", fault(0xB3), fault(0xB3), 100 * time.Millisecond},
		{"removed", fault(0x5), fault(0x32), 200 * time.Millisecond},
		{"calls fail, the token is well", fault(0x30), good, never},
		{"busy", fault(0x6), fault(0x6), 7 * time.Second},
		{"no session", answer(hsm.ErrBusy, 0x31), fault(0x30), 7 * time.Second},
		{"bad requests", answer(hsm.ErrInvalidCiphertext, 0x40), good, never},
		{"PIN refused", refused, refused, never},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				token := NewWatchedToken(&scripted{call: c.call, alive: c.alive})
				ended := make(chan string, 1)
				var stop atomic.Bool
				alive := func(ctx context.Context) error {
					if stop.Load() {
						return errors.New("the test is over")
					}
					return token.Alive(ctx)
				}
				begin := time.Now()
				go func() {
					ended <- WaitUntilAway(alive, token.look, token.lost, func(error) {})
				}()
				requests := time.NewTicker(10 * time.Millisecond)
				defer requests.Stop()
				for time.Since(begin) < never {
					select {
					case <-requests.C:
						_, _ = token.Encrypt(t.Context(), hsm.KeyRef{}, nil, nil)
					case why := <-ended:
						took := time.Since(begin)
						if took > c.within || c.within == never {
							t.Errorf("ended after %v: %s", took, why)
						}
						t.Logf("ended after %v: %s", took, why)
						time.Sleep(time.Second) // looks that are under way end
						return
					}
				}
				if c.within != never {
					t.Error("it goes on")
				}
				stop.Store(true)
				<-ended
				time.Sleep(time.Second)
			})
		})
	}
}

// One failure among many good calls does not cause a look.
func TestFewFailures(t *testing.T) {
	token := NewWatchedToken(&scripted{})
	for i := range 100 {
		err := error(nil)
		if i%2 == 0 {
			err = &hsm.Error{Kind: hsm.ErrUnavailable, Code: 0x6}
		}
		token.note(err)
	}
	if len(token.look) != 0 {
		t.Error("the token is looked at")
	}
}

package pkcs11

// The pool of sessions, without a token, in synthetic time.

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
)

var errCount = &hsm.Error{Function: "C_OpenSession", Code: ckrSessionCount, Kind: hsm.ErrBusy}

func TestPoolOpensLazilyAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opened := 0
		p := newPool(2, func() (*session, error) { opened++; return &session{}, nil })
		if opened != 0 {
			t.Errorf("%d sessions before the first get", opened)
		}
		first, err := p.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		second, err := p.get(t.Context())
		if err != nil || first == second || opened != 2 {
			t.Fatalf("second: %v, %d opened", err, opened)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err = p.get(ctx)
		if !errors.Is(err, hsm.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("third: %v after %v", err, time.Since(start))
		}
		time.AfterFunc(time.Minute, func() { p.put(first) })
		third, err := p.get(t.Context())
		if err != nil || third != first || opened != 2 {
			t.Errorf("third after one came back: %v, %d opened", err, opened)
		}
	})
}

func TestPoolSurvivesAFailedOpen(t *testing.T) {
	broken := true
	p := newPool(1, func() (*session, error) {
		if broken {
			return nil, &hsm.Error{Kind: hsm.ErrUnavailable}
		}
		return &session{}, nil
	})
	for range 3 {
		_, err := p.get(t.Context())
		if !errors.Is(err, hsm.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	broken = false
	_, err := p.get(t.Context())
	if err != nil {
		t.Error(err)
	}
}

// A token with fewer sessions than configured: the pool does with what there is, and
// looks again later.
func TestPoolDoesWithFewerSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit, opened, asked := 2, 0, 0
		p := newPool(5, func() (*session, error) {
			asked++
			if opened == limit {
				return nil, errCount
			}
			opened++
			return &session{}, nil
		})
		first, err := p.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { p.put(first) })
		third, err := p.get(t.Context())
		if !errors.Is(err, hsm.ErrBusy) && (err != nil || third != first) {
			t.Fatalf("third: %v", err)
		}
		if err == nil {
			p.put(third)
		}
		before := asked
		for range 10 {
			s, err := p.get(t.Context())
			if err == nil {
				p.put(s)
			}
		}
		if asked > before+10 {
			t.Errorf("the token was asked %d times more", asked-before)
		}
		limit = 5
		time.Sleep(parkTime + time.Second)
		for range 4 {
			_, err := p.get(t.Context())
			if err != nil {
				t.Fatalf("after the token had room again: %v", err)
			}
		}
	})
}

// A token that gives no session at all: busy, at once, and never a pool without slots.
func TestPoolWithNoSessionsAtAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(3, func() (*session, error) { return nil, errCount })
		for range 5 {
			_, err := p.get(t.Context())
			if !errors.Is(err, hsm.ErrBusy) {
				t.Fatal(err)
			}
		}
		if slots, parked := p.count(); slots != 1 || parked != 2 {
			t.Errorf("%d slots, %d parked", slots, parked)
		}
		time.Sleep(parkTime + time.Second)
		if slots, parked := p.count(); slots != 3 || parked != 0 {
			t.Errorf("later: %d slots, %d parked", slots, parked)
		}
	})
}

func (p *pool) count() (int, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.slots), p.parked
}

func TestPoolClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(2, func() (*session, error) { return nil, errCount })
		_, err := p.get(t.Context()) // parks one slot
		if !errors.Is(err, hsm.ErrBusy) {
			t.Fatal(err)
		}
		if !p.close(t.Context()) {
			t.Error("a pool with a parked slot and nobody inside did not close")
		}
		_, err = p.get(t.Context())
		if !errors.Is(err, hsm.ErrUnavailable) {
			t.Error(err)
		}
		time.Sleep(2 * parkTime)
	})
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, func() (*session, error) { return &session{}, nil })
		_, err := p.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waiting := make(chan error)
		go func() {
			_, err := p.get(context.Background())
			waiting <- err
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if p.close(ctx) {
			t.Error("closed with a session out")
		}
		err = <-waiting
		if !errors.Is(err, hsm.ErrUnavailable) {
			t.Errorf("who waited: %v", err)
		}
	})
}

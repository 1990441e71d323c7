package group_test

// A pair of which one HSM takes little AAD and data (max_aad, max_data).

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

// smallToken takes limit bytes of AAD and of data.
type smallToken struct {
	*hsmtest.Token
	limit int
}

func (s smallToken) check(aad, data []byte) error {
	if len(aad) > s.limit || len(data) > s.limit {
		return &hsm.Error{Op: "check", Kind: hsm.ErrTooLarge}
	}
	return nil
}

func (s smallToken) Encrypt(
	ctx context.Context,
	key hsm.KeyRef,
	aad, plaintext []byte,
) (hsm.Sealed, error) {
	err := s.check(aad, plaintext)
	if err != nil {
		return hsm.Sealed{}, err
	}
	return s.Token.Encrypt(ctx, key, aad, plaintext)
}

func (s smallToken) Decrypt(
	ctx context.Context,
	key hsm.KeyRef,
	aad []byte,
	sealed hsm.Sealed,
) ([]byte, error) {
	err := s.check(aad, sealed.Ciphertext)
	if err != nil {
		return nil, err
	}
	return s.Token.Decrypt(ctx, key, aad, sealed)
}

// smallFirst makes the first HSM a small one.
func smallFirst(limit int) option {
	return func(c *group.Config) {
		c.Members[0].Token = smallToken{c.Members[0].Token.(*hsmtest.Token), limit}
	}
}

// Large requests go to the HSM that takes them, wherever they begin, and nothing counts as a fault.
// The comparisons of the two stay below the least limit that a configuration allows.
func TestSmallHSM(t *testing.T) {
	const limit = 512
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		var logs *observer.ObservedLogs
		g := start(
			t,
			tokens,
			smallFirst(limit),
			logTo(&logs),
			func(c *group.Config) { c.ParityRate = 5 },
		)
		byHSM := map[string]int{}
		for i := range 200 {
			aad, plain := make([]byte, 100), make([]byte, 48)
			switch i % 4 {
			case 1:
				aad = make([]byte, limit+1)
			case 2:
				plain = make([]byte, limit+1)
			}
			sealed, trace, err := g.Encrypt(inBudget(t), ref, aad, plain)
			if err != nil || len(trace.Faults) > 0 || i%4 > 0 && i%4 < 3 && trace.HSM != "b" {
				t.Fatalf("request %d: %+v, %v", i, trace, err)
			}
			byHSM[trace.HSM]++
			// As the integrity check does it: on another one than encrypted, if there is one that
			// can.
			for _, apart := range []string{"a", "b"} {
				opened, trace, err := g.Decrypt(inBudget(t), ref, aad, sealed, apart)
				if err != nil || len(trace.Faults) > 0 || !bytes.Equal(opened, plain) {
					t.Fatalf("request %d, apart from %s: %+v, %v", i, apart, trace, err)
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
		if byHSM["a"] == 0 {
			t.Error("the small HSM served nothing")
		}
		if g.Status().CrossChecked == 0 {
			t.Error("the two were not compared")
		}
		neverOut(t, logs)
	})
}

// While the HSM that could is away, the request is not refused for good (R1).
func TestSmallHSMAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens, smallFirst(512))
		large := make([]byte, 513)
		tokens[1].SetHook(
			func(context.Context, hsmtest.Op, hsm.KeyRef) error { return &hsm.Error{Kind: hsm.ErrUnavailable} },
		)
		for _, wait := range []time.Duration{0, time.Minute} { // in service, and long out
			time.Sleep(wait)
			_, trace, err := g.Encrypt(inBudget(t), ref, large, text)
			if err == nil || errors.Is(err, hsm.ErrTooLarge) || !hsm.IsFault(err) {
				t.Errorf("after %v: %+v, %v", wait, trace, err)
			}
			served(t, g, "a")
		}
		tokens[1].SetHook(nil)
		time.Sleep(time.Minute)
		_, _, err := g.Encrypt(inBudget(t), ref, large, text)
		if err != nil {
			t.Error(err)
		}
		err = g.Drain(inBudget(t), "b", false)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = g.Encrypt(inBudget(t), ref, large, text)
		if err == nil || !hsm.IsFault(err) {
			t.Errorf("while the other one is drained: %v", err)
		}
	})
}

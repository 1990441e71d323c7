package group_test

// Tests of the listings in the background: when they happen, and what becomes
// of the versions they find (requirements K1, R4).

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/hsmtest"
)

// TestListedAgainSoon: an HSM whose keys could not be listed is asked again every second, by
// itself.
func TestListedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(1)
		tokens[0].SetHook(on(hsmtest.OpKeys, down))
		start(t, tokens)
		time.Sleep(10500 * time.Millisecond)
		if got := tokens[0].Calls(hsmtest.OpKeys); got != 11 {
			t.Errorf("listed %d times in ten seconds", got)
		}
		tokens[0].SetHook(nil)
		time.Sleep(time.Minute)
		if got := tokens[0].Calls(hsmtest.OpKeys); got != 13 {
			t.Errorf("listed %d times a minute after it came back", got-11)
		}
	})
}

// TestStaleHandle: an HSM that lists a key and cannot find it when asked to use it
// (a lost handle) does not mean that the key does not exist, and must not cause endless listings.
func TestStaleHandle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		for _, token := range tokens {
			token.SetHook(onRequests(failWith(hsm.ErrKeyNotFound)))
		}
		before := tokens[0].Calls(hsmtest.OpKeys)
		for range 1000 {
			_, _, err := request(t, g)
			if errors.Is(err, hsm.ErrKeyNotFound) || !errors.Is(err, hsm.ErrUnavailable) {
				t.Fatalf("got %v", err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if got := tokens[0].Calls(hsmtest.OpKeys) - before; got < 5 || got > 11 {
			t.Errorf("the keys were listed %d times in ten seconds", got)
		}
	})
}

// TestRotation: a new version is used once every HSM has it, and readable from the start.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		version := func() uint32 {
			key, err := g.Key(inBudget(t), "k")
			if err != nil {
				t.Fatal(err)
			}
			version, err := key.EncryptVersion()
			if err != nil {
				t.Fatal(err)
			}
			return version
		}
		tokens[0].AddKey("k", 2)
		time.Sleep(31 * time.Second)
		if got := version(); got != 1 {
			t.Fatalf("version %d is on one HSM only", got)
		}
		two := hsm.KeyRef{Label: "k", Version: 2}
		early, err := tokens[0].Encrypt(t.Context(), two, aad, text)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 { // never asks the one that does not have it
			_, trace, err := g.Decrypt(inBudget(t), two, aad, early)
			if err != nil || trace.HSM != "a" || trace.Attempts != 1 {
				t.Fatalf("got %+v, %v", trace, err)
			}
		}
		tokens[1].AddKey("k", 2)
		if got := version(); got != 1 {
			t.Fatalf("version %d before it was seen", got)
		}
		time.Sleep(31 * time.Second)
		if got := version(); got != 2 {
			t.Fatalf("version %d is used after both have version 2", got)
		}
	})
}

// TestKeepsWhatItKnew: an HSM whose keys can no longer be listed keeps those it was seen with.
func TestKeepsWhatItKnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		tokens[0].SetHook(func(context.Context, hsmtest.Op, hsm.KeyRef) error {
			return &hsm.Error{Op: "list", Kind: hsm.ErrUnavailable}
		})
		tokens[1].AddKey("k", 2)
		time.Sleep(time.Minute)
		key, err := g.Key(inBudget(t), "k")
		if err != nil {
			t.Fatal(err)
		}
		version, err := key.EncryptVersion()
		if err != nil || version != 1 {
			t.Fatalf("got %d, %v: the HSM that is away has version 1 only", version, err)
		}
	})
}

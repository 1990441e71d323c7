package group_test

// A token that is replaced while calls are under way (requirements D2 and R6).

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

// TestReplacedDuringDecrypt: the new token refuses a good ciphertext in the call during which it
// came. What was known of the old token's keys is not proof.
func TestReplacedDuringDecrypt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, w, labels, sealed := replaced(t, 1, priorities(0, 1))
		key := hsm.KeyRef{Label: labels[0], Version: 1}
		other := newToken("a")
		otherMaterial(other, labels[0], 1)
		old := w.Token.(*hsmtest.Token)
		old.SetHook(
			on(hsmtest.OpDecrypt, func(ctx context.Context, _ hsmtest.Op, _ hsm.KeyRef) error {
				old.SetHook(nil)
				w.swap(other, "another")
				_, err := other.Decrypt(ctx, key, aad, sealed[labels[0]])
				return err
			}),
		)
		plaintext, trace, err := g.Decrypt(inBudget(t), key, aad, sealed[labels[0]])
		if err != nil || !bytes.Equal(plaintext, text) || trace.HSM != "b" {
			t.Errorf("%q by %q, %v", plaintext, trace.HSM, err)
		}
	})
}

// TestReplacedDuringComparison: the old token agreed, and was replaced before the comparison
// ended. That says nothing of the new token.
func TestReplacedDuringComparison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(3)
		for _, token := range tokens {
			token.AddKey("key", 1)
		}
		w := &supervised{}
		w.incarnation.Store(1)
		g := start(t, tokens, withCrossChecks, supervise(w), priorities(0, 1, 1))
		time.Sleep(time.Minute)
		other := newToken("a")
		otherMaterial(other, "key", 1)
		key := hsm.KeyRef{Label: "key", Version: 1}
		var swapped atomic.Bool
		for _, token := range tokens[1:] {
			token.SetHook(
				on(hsmtest.OpDecrypt, func(_ context.Context, _ hsmtest.Op, ref hsm.KeyRef) error {
					if ref == key && swapped.CompareAndSwap(false, true) {
						other.SetHook(
							on(
								hsmtest.OpDecrypt,
								func(_ context.Context, _ hsmtest.Op, ref hsm.KeyRef) error {
									if ref == key {
										return &hsm.Error{Op: "decrypt", Kind: hsm.ErrBusy}
									}
									return nil
								},
							),
						)
						w.swap(other, "another")
						time.Sleep(time.Second / 2) // while the new token is met by its probe
					}
					return nil
				}),
			)
		}
		for range 300 {
			time.Sleep(time.Second)
			if swapped.Load() {
				break
			}
		}
		if !swapped.Load() {
			t.Fatal("no comparison")
		}
		for range 20 {
			_, trace, err := g.Encrypt(inBudget(t), key, aad, text)
			if err != nil || trace.HSM == "a" {
				t.Fatalf("encrypted by %q, %v", trace.HSM, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}

// TestBothReplaced: two tokens that were restored wrongly refuse a good ciphertext alike. Neither
// was compared with a copy that is known to be right, so that is not proof.
func TestBothReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := &supervised{}
		second.incarnation.Store(1)
		g, w, labels, sealed := replaced(t, 20, func(c *group.Config) {
			second.Token, second.changed = c.Members[1].Token, make(chan struct{}, 1)
			c.Members[1].Token = second
		})
		others := []*hsmtest.Token{newToken("a"), newToken("b")}
		for _, label := range labels {
			otherMaterial(others[0], label, 1)
			others[1].AddObject(hsmtest.Object(label, 1), bytes.Repeat([]byte{9}, hsm.KeySize))
		}
		w.swap(others[0], "another")
		second.swap(others[1], "a third")
		for range 500 {
			for _, label := range labels {
				key := hsm.KeyRef{Label: label, Version: 1}
				_, _, err := g.Decrypt(inBudget(t), key, aad, sealed[label])
				if !errors.Is(err, hsm.ErrUnavailable) || errors.Is(err, hsm.ErrInvalidCiphertext) {
					t.Fatalf("%s: %v", label, err)
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}

// TestSuccessorWithAnotherToken: a provisional group in which an HSM has another token holds back
// that token's keys, and not those of the group that still serves.
func TestSuccessorWithAnotherToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, _, labels, _ := replaced(t, 1, priorities(0, 1))
		tokens := newTokens(2)
		for _, token := range tokens {
			token.AddKey(labels[0], 1)
		}
		w := &supervised{}
		w.incarnation.Store(1)
		info := tokens[0].Info()
		info.Serial = "another"
		w.info.Store(&info)
		start(t, tokens, withCrossChecks, supervise(w), priorities(0, 1), after(old))
		if note := old.Status().Members[0].Unverified; note != "" {
			t.Errorf("the group that serves: %s", note)
		}
		key := hsm.KeyRef{Label: labels[0], Version: 1}
		_, trace, err := old.Encrypt(inBudget(t), key, aad, text)
		if err != nil || trace.HSM != "a" {
			t.Errorf("encrypted by %q, %v", trace.HSM, err)
		}
	})
}

package group_test

// Tests of what is compared when: the rate, new keys before old ones, and keys whose usage
// does not allow a comparison.

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

// TestCrossCheckRate: so many comparisons a second and no more; each of equal keys is one encryption.
func TestCrossCheckRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		for _, token := range tokens {
			for i := range 500 {
				token.AddKey(fmt.Sprintf("key-%03d", i), 1)
			}
		}
		var made atomic.Int32
		for _, token := range tokens {
			token.SetHook(
				onRequests(
					on(hsmtest.OpEncrypt, func(context.Context, hsmtest.Op, hsm.KeyRef) error {
						made.Add(1)
						return nil
					}),
				),
			)
		}
		g := start(t, tokens, func(c *group.Config) { c.ParityRate = 20 })
		time.Sleep(10 * time.Second)
		if n := made.Load(); n < 175 || n > 201 { // it may idle for the first second
			t.Errorf("%d comparisons in ten seconds at 20 a second", n)
		}
		if status := g.Status(); status.CrossPending != 501-int(status.CrossChecked) {
			t.Errorf("%d of 501 checked, %d pending", status.CrossChecked, status.CrossPending)
		}
	})
}

// TestCrossCheckOff: a negative rate compares nothing, nor does a single HSM.
func TestCrossCheckOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		tokens[1].RemoveKey("k")
		otherMaterial(tokens[1], "k", 1)
		off := start(t, tokens)
		single := start(t, tokens[:1], withCrossChecks)
		time.Sleep(10 * time.Minute)
		wantFound(t, off, "")
		if n := off.Status().CrossChecked + single.Status().CrossChecked; n != 0 {
			t.Errorf("%d comparisons", n)
		}
	})
}

// TestNewKeyFirst: with thousands of keys on the round, a new one is compared in seconds, and so is
// one that was made again with other attributes.
func TestNewKeyFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		for _, token := range tokens {
			for i := range 300 {
				token.AddKey(fmt.Sprintf("key-%03d", i), 1)
			}
		}
		g := start(t, tokens, withCrossChecks)
		time.Sleep(75 * time.Second) // all once; the round has begun again
		if n := g.Status().CrossPending; n != 0 {
			t.Fatalf("%d pending", n)
		}
		tokens[0].AddKey("new", 1)
		otherMaterial(tokens[1], "new", 1)
		if _, err := g.Key(inBudget(t), "new"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		wantFound(t, g, "key material differs: new 1 [a b]")

		tokens[1].RemoveKey("key-250")
		changed := hsmtest.Object("key-250", 1)
		changed.Usage |= hsm.CanWrap
		tokens[1].AddObject(changed, bytes.Repeat([]byte{9}, hsm.KeySize))
		time.Sleep(34 * time.Second) // a listing, then at once
		if got := found(g); !strings.Contains(got, "key material differs: key-250 1 [a b]") {
			t.Errorf("found %q", got)
		}
	})
}

// TestUsageLimitsComparison: what can be compared in one direction is; what cannot at all is left
// out.
func TestUsageLimitsComparison(t *testing.T) {
	for _, test := range []struct {
		name    string
		usage   [2]hsm.Usage
		compare bool
	}{
		{"encrypt here, decrypt there", [2]hsm.Usage{hsm.CanEncrypt, hsm.CanDecrypt}, true},
		{"decrypt here, both there", [2]hsm.Usage{hsm.CanDecrypt, hsm.CanEncrypt | hsm.CanDecrypt}, true},
		{"encrypt here, both there", [2]hsm.Usage{hsm.CanEncrypt, hsm.CanEncrypt | hsm.CanDecrypt}, true},
		{"encrypt only", [2]hsm.Usage{hsm.CanEncrypt, hsm.CanEncrypt}, false},
		{"decrypt only", [2]hsm.Usage{hsm.CanDecrypt, hsm.CanDecrypt}, false},
		{"nothing here, both there", [2]hsm.Usage{hsm.CanWrap, hsm.CanEncrypt | hsm.CanDecrypt}, false},
	} {
		for _, same := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, same=%v", test.name, same), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tokens := newTokens(2)
					for i, token := range tokens {
						token.RemoveKey("k")
						object := hsmtest.Object("k", 1)
						object.Usage = test.usage[i]
						value := bytes.Repeat([]byte{1}, hsm.KeySize)
						if !same {
							value[0] = byte(i)
						}
						token.AddObject(object, value)
					}
					var logs *observer.ObservedLogs
					g := start(t, tokens, withCrossChecks, logTo(&logs))
					time.Sleep(time.Minute)
					differs := strings.Contains(found(g), "material differs")
					if differs != (test.compare && !same) {
						t.Errorf("found %q", found(g))
					}
					if compared := g.Status().CrossChecked > 0; compared != test.compare {
						t.Errorf("compared: %v", compared)
					}
					if n := g.Status().CrossPending; n != 0 {
						t.Errorf("%d pending", n)
					}
					if said := logs.FilterMessageSnippet("usage allows no comparison").Len() == 1; said == test.compare {
						t.Errorf("said that it cannot be compared: %v", said)
					}
				})
			})
		}
	}
}

package group_test

// Tests of the comparison of key material (requirement R4): one HSM decrypts what the
// other encrypted, in the background, and what follows when it cannot.

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
	"xks-proxy/pkg/hsm/status"
)

// withCrossChecks turns the comparison on, at the usual rate.
func withCrossChecks(c *group.Config) { c.ParityRate = 5 }

// otherMaterial puts a key on a token that is another than AddKey's.
func otherMaterial(token *hsmtest.Token, label string, version uint32) {
	token.AddObject(hsmtest.Object(label, version), bytes.Repeat([]byte{7}, hsm.KeySize))
}

// found are the findings of a group in one string, for comparison.
func found(g *group.Group) string {
	var list []string
	for _, f := range g.Status().Findings {
		list = append(list, fmt.Sprintf("%s: %s %d %v", f.Kind, f.Label, f.Version, f.HSMs))
	}
	return strings.Join(list, "; ")
}

func wantFound(t *testing.T, g *group.Group, want string) {
	t.Helper()
	if got := found(g); got != want {
		t.Fatalf("found %q, want %q", got, want)
	}
}

// onKey lets a hook see what is done with one key.
func onKey(label string, h hsmtest.Hook) hsmtest.Hook {
	return func(ctx context.Context, op hsmtest.Op, key hsm.KeyRef) error {
		if key.Label != label || op != hsmtest.OpEncrypt && op != hsmtest.OpDecrypt {
			return nil
		}
		return h(ctx, op, key)
	}
}

// TestCrossCheckOfEquals: nothing is found, all is compared, and then at most once a minute.
func TestCrossCheckOfEquals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(3)
		var encryptions [3]atomic.Int32
		for i, token := range tokens {
			token.AddKey("k", 2)
			token.SetHook(
				onKey(
					"k",
					on(hsmtest.OpEncrypt, func(context.Context, hsmtest.Op, hsm.KeyRef) error {
						encryptions[i].Add(1)
						return nil
					}),
				),
			)
		}
		g := start(t, tokens, withCrossChecks)
		time.Sleep(
			5 * time.Second,
		) // it may begin before the last HSM was listed, and then compares again
		status := g.Status()
		if len(status.Findings) != 0 || status.CrossChecked < 2 || status.CrossChecked > 4 ||
			status.CrossPending != 0 {
			t.Errorf("got %+v", status)
		}
		time.Sleep(30 * time.Minute)
		if n := g.Status().CrossChecked; n < 50 || n > 64 {
			t.Errorf("two versions were compared %d times in half an hour", n)
		}
		for i := range encryptions {
			if n := encryptions[i].Load(); n < 10 {
				t.Errorf("HSM %d encrypted %d times; each has its turn", i, n)
			}
		}
		for _, m := range status.Members {
			if m.Requests != 0 {
				t.Errorf("comparisons count as requests: %+v", m)
			}
		}
	})
}

// TestMaterialDiffers: found within seconds, confirmed, said once; nothing is encrypted under it,
// what was can still be decrypted; and over when the HSMs agree.
func TestMaterialDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		for _, token := range tokens {
			token.RemoveKey("k")
		}
		tokens[0].AddKey("k", 1)
		otherMaterial(tokens[1], "k", 1)
		var logs *observer.ObservedLogs
		g := start(t, tokens, withCrossChecks, inOrder, logTo(&logs))
		time.Sleep(2 * time.Second)
		wantFound(t, g, "key material differs: k 1 [a b]")

		key, err := g.Key(inBudget(t), "k")
		if err != nil || key.Complete() {
			t.Fatalf("got %+v, %v", key, err)
		}
		_, err = key.EncryptVersion()
		wantError(t, err, catalogue.ErrIncomplete)
		if !strings.Contains(err.Error(), "key material of version 1") {
			t.Errorf("the error does not say why: %v", err)
		}
		for _, token := range tokens {
			if err := key.CheckDecrypt(1); err != nil {
				t.Fatal(err)
			}
			sealed, err := token.Encrypt(t.Context(), ref, aad, text)
			if err != nil {
				t.Fatal(err)
			}
			plaintext, _, err := g.Decrypt(inBudget(t), ref, aad, sealed)
			if err != nil || !bytes.Equal(plaintext, text) {
				t.Errorf("what %s encrypted: %q, %v", token.Info().Label, plaintext, err)
			}
		}

		time.Sleep(5 * time.Minute)
		wantFound(t, g, "key material differs: k 1 [a b]")
		said := logs.FilterMessageSnippet("keys differ").All()
		if len(said) != 1 || said[0].Level != zapcore.ErrorLevel ||
			said[0].ContextMap()["label"] != "k" {
			t.Fatalf("the log says %v", said)
		}

		tokens[1].RemoveKey("k")
		tokens[1].AddKey("k", 1)
		time.Sleep(
			11 * time.Second,
		) // it has the same attributes: the next try for a version that differs finds it
		wantFound(t, g, "")
		if version, err := encryptVersion(t, g, "k"); err != nil || version != 1 {
			t.Errorf("got %d, %v", version, err)
		}
		if over := logs.FilterMessageSnippet("no longer differ").Len(); over != 1 {
			t.Errorf("the end is said %d times", over)
		}
	})
}

// TestOlderVersionInstead: of a diverged and a good version the good one is used.
func TestOlderVersionInstead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		tokens[0].AddKey("k", 2)
		otherMaterial(tokens[1], "k", 2)
		g := start(t, tokens, withCrossChecks)
		time.Sleep(2 * time.Second)
		wantFound(t, g, "key material differs: k 2 [a b]")
		if version, err := encryptVersion(t, g, "k"); err != nil || version != 1 {
			t.Errorf("got %d, %v", version, err)
		}
	})
}

// TestOneOfThreeDiffers: the finding does not end as long as the odd one is not heard again.
func TestOneOfThreeDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(3)
		tokens[2].RemoveKey("k")
		otherMaterial(tokens[2], "k", 1)
		g := start(t, tokens, withCrossChecks)
		time.Sleep(time.Minute)
		const want = "key material differs: k 1 [a b c]"
		wantFound(t, g, want)
		tokens[2].SetHook(down)
		time.Sleep(10 * time.Minute) // a and b agree
		wantFound(t, g, want)
		tokens[2].SetHook(nil)
		tokens[2].RemoveKey("k")
		tokens[2].AddKey("k", 1)
		time.Sleep(time.Minute)
		wantFound(t, g, "")
	})
}

// TestOnlyConfirmed: an HSM that computes wrongly now and then, one that is at fault, busy, hangs
// or says that it has no such key: none of that says anything about the material.
func TestOnlyConfirmed(t *testing.T) {
	var flips, decryptions atomic.Int32
	for name, hook := range map[string]hsmtest.Hook{
		"a bit of every third answer": func(context.Context, hsmtest.Op, hsm.KeyRef) error {
			if flips.Add(1)%3 == 0 {
				return hsmtest.ErrFlipBit
			}
			return nil
		},
		"every second ciphertext is invalid": on(hsmtest.OpDecrypt, func(ctx context.Context, op hsmtest.Op, key hsm.KeyRef) error {
			if decryptions.Add(1)%2 == 1 { // one from the other HSM, not its own, one from the other
				return &hsm.Error{Op: "decrypt", Kind: hsm.ErrInvalidCiphertext}
			}
			return nil
		}),
		"a bit of every plaintext":     on(hsmtest.OpDecrypt, func(context.Context, hsmtest.Op, hsm.KeyRef) error { return hsmtest.ErrFlipBit }),
		"a bit of every ciphertext":    on(hsmtest.OpEncrypt, func(context.Context, hsmtest.Op, hsm.KeyRef) error { return hsmtest.ErrFlipBit }),
		"every ciphertext is invalid":  on(hsmtest.OpDecrypt, failWith(hsm.ErrInvalidCiphertext)),
		"down":                         down,
		"busy":                         failWith(hsm.ErrBusy),
		"hangs":                        hang,
		"no such key":                  failWith(hsm.ErrKeyNotFound),
		"not allowed":                  failWith(hsm.ErrKeyUsage),
		"an error that is not typed":   failWithPlain(context.Canceled),
		"slower than a comparison may": slow(3 * time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(2)
				tokens[1].SetHook(onKey("k", hook))
				var logs *observer.ObservedLogs
				g := start(t, tokens, withCrossChecks, logTo(&logs))
				time.Sleep(10 * time.Minute)
				wantFound(t, g, "")
				if said := logs.FilterMessageSnippet("the HSMs' keys").All(); len(said) != 0 {
					t.Errorf("found for a while: %v", said)
				}
				if got := statuses(g); got != "a=ACTIVE b=ACTIVE " {
					t.Errorf("a comparison counted against an HSM: %s", got)
				}
				for _, m := range g.Status().Members {
					if m.Service != status.InService || m.Trips != 0 {
						t.Errorf("a comparison counted against an HSM: %+v", m)
					}
				}
				tokens[1].SetHook(nil)
				time.Sleep(15 * time.Second)
				if status := g.Status(); status.CrossPending != 0 {
					t.Errorf("%d were not compared after it got well", status.CrossPending)
				}
			})
		})
	}
}

// TestAwayIsNoVerdict: while fewer than two HSMs serve nothing is compared; afterwards all is,
// soon.
func TestAwayIsNoVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		tokens[1].RemoveKey("k")
		otherMaterial(tokens[1], "k", 1)
		dir := t.TempDir()
		start(t, tokens, rememberIn(dir)).Close() // without comparisons
		tokens[1].SetHook(down)
		g := start(t, tokens, withCrossChecks, rememberIn(dir))
		time.Sleep(time.Minute)
		calls := tokens[0].Calls(hsmtest.OpEncrypt)
		time.Sleep(time.Minute)
		if n := tokens[0].Calls(hsmtest.OpEncrypt) - calls; n > 13 { // its own probes, every five seconds
			t.Errorf("%d encryptions by the only HSM", n)
		}
		wantFound(t, g, "")
		if g.Status().CrossPending != 1 {
			t.Errorf("got %d pending", g.Status().CrossPending)
		}
		tokens[1].SetHook(nil)
		time.Sleep(15 * time.Second) // it comes back by its probes, step by step
		wantFound(t, g, "key material differs: k 1 [a b]")
	})
}

// TestDivergedAcrossRestart: a restart does not encrypt under a version that is known to differ,
// not even before it is compared again.
func TestDivergedAcrossRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		tokens[1].RemoveKey("k")
		otherMaterial(tokens[1], "k", 1)
		dir := t.TempDir()
		g := start(t, tokens, withCrossChecks, rememberIn(dir))
		time.Sleep(2 * time.Second)
		since := g.Status().Findings[0].Since
		g.Close()

		g = start(t, tokens, rememberIn(dir)) // that compares nothing
		_, err := encryptVersion(t, g, "k")
		wantError(t, err, catalogue.ErrIncomplete)
		wantFound(t, g, "key material differs: k 1 [a b]")
		if got := g.Status().Findings[0].Since; !got.Equal(since) {
			t.Errorf("since %v, was %v", got, since)
		}
		g.Close()

		// The wrong one is deleted: then b lacks the key. The right one comes: then all is well
		// once it was compared.
		tokens[1].RemoveKey("k")
		g = start(t, tokens, withCrossChecks, rememberIn(dir))
		time.Sleep(5 * time.Second)
		wantFound(t, g, "key missing: k 0 [b]")
		tokens[1].AddKey("k", 1)
		time.Sleep(35 * time.Second)
		wantFound(t, g, "")
		if version, err := encryptVersion(t, g, "k"); err != nil || version != 1 {
			t.Errorf("got %d, %v", version, err)
		}
	})
}

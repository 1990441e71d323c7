package group_test

// Tests of keys that the catalogue does not have yet or no longer should (requirements X7, R3, R4).

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

func finds(tokens []*hsmtest.Token) int {
	n := 0
	for _, token := range tokens {
		n += token.Calls(hsmtest.OpFind)
	}
	return n
}

// TestUnknownKeyOnce: many who ask for one unknown key cost one look-up on each HSM, and "not there"
// is believed for two seconds.
func TestUnknownKeyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		for _, token := range tokens {
			token.SetHook(on(hsmtest.OpFind, slow(10*time.Millisecond)))
		}
		before := finds(tokens)
		var running sync.WaitGroup
		for range 1000 {
			running.Go(func() {
				key, err := g.Key(inBudget(t), "new")
				if key != nil || !errors.Is(err, hsm.ErrKeyNotFound) {
					t.Errorf("got %+v, %v", key, err)
				}
			})
		}
		running.Wait()
		if got := finds(tokens) - before; got != 2 {
			t.Fatalf("%d looks at the HSMs", got)
		}
		time.Sleep(1900 * time.Millisecond)
		_, err := g.Key(inBudget(t), "new")
		wantError(t, err, hsm.ErrKeyNotFound)
		if got := finds(tokens) - before; got != 2 {
			t.Fatalf("%d looks at the HSMs within two seconds", got)
		}
		time.Sleep(200 * time.Millisecond)
		_, err = g.Key(inBudget(t), "new")
		wantError(t, err, hsm.ErrKeyNotFound)
		if got := finds(tokens) - before; got != 4 {
			t.Fatalf("%d looks at the HSMs after two seconds", got)
		}
	})
}

// TestFloodOfUnknownKeys: a flood of unknown ids cannot hammer the HSMs, and known keys do not feel
// it.
func TestFloodOfUnknownKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		before := finds(tokens)
		verdicts := map[error]int{}
		for i := range 10000 {
			_, err := g.Key(inBudget(t), fmt.Sprint("unknown-", i))
			for _, kind := range []error{hsm.ErrKeyNotFound, group.ErrLookupLimit} {
				if errors.Is(err, kind) {
					verdicts[kind]++
				}
			}
			if i%100 == 0 {
				if key, err := g.Key(inBudget(t), "k"); err != nil || key.Label != "k" {
					t.Fatalf("a known key: %v", err)
				}
			}
			time.Sleep(time.Millisecond)
		}
		looks := (finds(tokens) - before) / 2
		if verdicts[hsm.ErrKeyNotFound] != looks ||
			verdicts[hsm.ErrKeyNotFound]+verdicts[group.ErrLookupLimit] != 10000 {
			t.Errorf("got %v, %d looks", verdicts, looks)
		}
		if looks < 400 || looks > 441 { // 40 at once and 40 a second, for ten seconds
			t.Errorf("%d looks in ten seconds", looks)
		}
	})
}

// TestFloodOfUnknownVersions: altered metadata (requirement D2) costs one look-up
// for the key, not one for each version, and never displaces the verdict.
func TestFloodOfUnknownVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		before := finds(tokens)
		for i := range 10000 {
			version := uint32(2 + i)
			if i%10 == 0 {
				version = 1<<32 - 1 - uint32(i)
			}
			key, err := g.KeyWithVersion(inBudget(t), hsm.KeyRef{Label: "k", Version: version})
			if key != nil || !errors.Is(err, hsm.ErrKeyNotFound) ||
				!strings.Contains(err.Error(), fmt.Sprint("version ", version)) {
				t.Fatalf("version %d: %+v, %v", version, key, err)
			}
		}
		if got := finds(tokens) - before; got != 2 {
			t.Errorf("%d looks at the HSMs", got)
		}
	})
}

// TestNewKey: a key made since the last listing is found by a look-up, served, and known from then on.
func TestNewKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		for _, token := range tokens {
			token.AddKey("new", 5)
		}
		key, err := g.Key(inBudget(t), "new")
		if err != nil || !key.Complete() {
			t.Fatalf("got %+v, %v", key, err)
		}
		version, err := key.EncryptVersion()
		if err != nil || version != 5 {
			t.Fatalf("got %d, %v", version, err)
		}
		ref := hsm.KeyRef{Label: "new", Version: 5}
		sealed, _, err := g.Encrypt(inBudget(t), ref, aad, text)
		if err != nil {
			t.Fatal(err)
		}
		opens(t, tokens[0], ref, sealed)
		opens(t, tokens[1], ref, sealed)
		before := finds(tokens)
		if _, err = g.Key(inBudget(t), "new"); err != nil || finds(tokens) != before {
			t.Errorf("looked for again: %v", err)
		}
	})
}

// TestNewVersionElsewhere: a ciphertext of a version that only the HSM that is
// up can tell of is decrypted within the budget, though the other hangs.
func TestNewVersionElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		tokens[0].SetHook(hang)
		time.Sleep(8 * time.Second) // its probe has timed out
		tokens[1].AddKey("k", 2)
		key, err := g.KeyWithVersion(inBudget(t), hsm.KeyRef{Label: "k", Version: 2})
		if err != nil || key.CheckDecrypt(2) != nil {
			t.Fatalf("got %+v, %v", key, err)
		}
	})
}

// TestAwayIsNotAbsent: while an HSM that might hold the key is away, the key is never reported
// as missing (requirement X7).
func TestAwayIsNotAbsent(t *testing.T) {
	for name, hook := range map[string]hsmtest.Hook{"down": down, "busy": failWith(hsm.ErrBusy), "wrong PIN": failWith(hsm.ErrPINIncorrect)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(2)
				g := start(t, tokens)
				tokens[0].SetHook(hook)
				for _, ask := range []func() (*catalogue.Key, error){
					func() (*catalogue.Key, error) { return g.Key(inBudget(t), "new") },
					func() (*catalogue.Key, error) {
						return g.KeyWithVersion(inBudget(t), hsm.KeyRef{Label: "k", Version: 2})
					},
				} {
					_, err := ask()
					wantError(t, err, hsm.ErrUnavailable)
					if errors.Is(err, hsm.ErrKeyNotFound) ||
						!strings.Contains(err.Error(), "a: ") ||
						strings.Contains(err.Error(), "\n") {
						t.Errorf("got %q", err)
					}
				}
				tokens[0].SetHook(nil)
				_, err := g.Key(inBudget(t), "new") // that it was away is not believed any longer
				wantError(t, err, hsm.ErrKeyNotFound)
				tokens[0].SetHook(hook)
				tokens[1].SetHook(hook)
				time.Sleep(3 * time.Second)
				_, err = g.Key(inBudget(t), "new")
				wantError(t, err, hsm.ErrUnavailable)
			})
		})
	}
}

// TestHungLookup: a look-up that hangs ends with the request, not with the HSM.
func TestHungLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		tokens[0].SetHook(on(hsmtest.OpFind, hang))
		began := time.Now()
		_, err := g.Key(inBudget(t), "new")
		wantError(t, err, hsm.ErrTimeout)
		if errors.Is(err, hsm.ErrKeyNotFound) || time.Since(began) != budget {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
	})
}

// TestNeverListed: a key on an HSM whose keys could not be listed yet is there
// anyway (requirement X7: a live look decides), and is served.
func TestNeverListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		for _, token := range tokens {
			token.SetHook(on(hsmtest.OpKeys, down))
		}
		g := start(t, tokens)
		before := finds(tokens)
		for range 100 {
			key, err := g.Key(inBudget(t), "k")
			if err != nil {
				t.Fatalf("the key is there and live, but: %v", err)
			}
			version, err := key.EncryptVersion()
			if err != nil || version != 1 {
				t.Fatalf("got %d, %v", version, err)
			}
			if _, _, err = request(t, g); err != nil {
				t.Fatal(err)
			}
		}
		if got := finds(tokens) - before; got != 2 {
			t.Errorf("%d looks at the HSMs", got)
		}
		_, err := g.Key(inBudget(t), "new")
		wantError(t, err, hsm.ErrKeyNotFound)
	})
}

// TestNeverListedAndAway: with one HSM never reached, the other's keys are served from the start.
func TestNeverListedAndAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		tokens[0].SetHook(down)
		g := start(t, tokens, inOrder)
		key, err := g.Key(inBudget(t), "k")
		if err != nil || key.Complete() { // on it, no new KMS key is to depend (K2)
			t.Fatalf("got %+v, %v", key, err)
		}
		served(t, g, "b")
		_, err = g.Key(inBudget(t), "new")
		wantError(t, err, hsm.ErrUnavailable)
	})
}

// TestDeletedOnOne: the other HSM serves what is in flight, and the gap is then known (R4, K2).
func TestDeletedOnOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens, inOrder)
		sealed, _, err := request(t, g)
		if err != nil {
			t.Fatal(err)
		}
		tokens[0].RemoveKey("k")
		plaintext, trace, err := g.Decrypt(inBudget(t), ref, aad, sealed)
		if err != nil || string(plaintext) != string(text) || trace.HSM != "b" ||
			trace.Attempts != 2 ||
			len(trace.Faults) != 0 {
			t.Fatalf("got %q, %+v, %v", plaintext, trace, err)
		}
		time.Sleep(1100 * time.Millisecond) // listed again, long before the interval ends
		key, err := g.Key(inBudget(t), "k")
		if err != nil || key.Complete() || fmt.Sprint(key.Missing) != "[a]" {
			t.Fatalf("got %+v, %v", key, err)
		}
		if version, err := key.EncryptVersion(); err != nil ||
			version != 1 { // as while a is down (R1); see findings_test.go
			t.Fatalf("got %d, %v", version, err)
		}
		if _, trace, err = g.Decrypt(inBudget(t), ref, aad, sealed); err != nil ||
			trace.Attempts != 1 {
			t.Fatalf("got %+v, %v", trace, err)
		}
		if got := statuses(g); got != "a=ACTIVE b=ACTIVE " {
			t.Errorf("a missing key counted against an HSM: %s", got)
		}
	})
}

// TestDeletedOnBoth: only now does the key not exist (requirement X7).
func TestDeletedOnBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		for _, token := range tokens {
			token.RemoveKey("k")
		}
		_, trace, err := request(t, g)
		wantError(t, err, hsm.ErrKeyNotFound)
		if trace.Attempts != 2 || trace.HSM != "" {
			t.Errorf("got %+v", trace)
		}
		_, err = g.Key(inBudget(t), "k")
		wantError(t, err, hsm.ErrKeyNotFound)
	})
}

package group_test

// A token that was replaced, or whose keys changed while it was away, serves no key before that key
// was compared (requirement R6).

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

// swap puts another token behind a supervised HSM, as a new process would open it.
func (w *supervised) swap(token *hsmtest.Token, serial string) {
	info := token.Info()
	info.Serial = serial
	w.info.Store(&info)
	w.behind.Store(token)
	w.incarnation.Add(1)
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func keys(n int) []string {
	var labels []string
	for i := range n {
		labels = append(labels, fmt.Sprintf("key-%03d", i))
	}
	return labels
}

// replaced is a pair of HSMs with n keys; the first is supervised, and both were compared.
func replaced(
	t *testing.T,
	n int,
	options ...option,
) (*group.Group, *supervised, []string, map[string]hsm.Sealed) {
	t.Helper()
	tokens := newTokens(2)
	labels := keys(n)
	for _, label := range labels {
		tokens[0].AddKey(label, 1)
		tokens[1].AddKey(label, 1)
	}
	w := &supervised{}
	w.incarnation.Store(1)
	g := start(t, tokens, append([]option{withCrossChecks, supervise(w)}, options...)...)
	time.Sleep(time.Minute)
	sealed := map[string]hsm.Sealed{}
	for _, label := range labels {
		s, _, err := g.Encrypt(inBudget(t), hsm.KeyRef{Label: label, Version: 1}, aad, text)
		if err != nil {
			t.Fatal(err)
		}
		sealed[label] = s
	}
	return g, w, labels, sealed
}

// TestTokenReplaced: the worst case of a wrong restore. Before: up to 15 % of all decrypts were
// called invalid until the comparison had found out.
func TestTokenReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, w, labels, sealed := replaced(t, 100)
		other := newToken("a")
		for _, label := range labels {
			otherMaterial(other, label, 1)
		}
		w.swap(other, "another")
		for range 30 {
			for _, label := range labels {
				key := hsm.KeyRef{Label: label, Version: 1}
				plaintext, trace, err := g.Decrypt(inBudget(t), key, aad, sealed[label])
				if err != nil || !bytes.Equal(plaintext, text) || trace.HSM != "b" {
					t.Fatalf("%s: %q by %q, %v", label, plaintext, trace.HSM, err)
				}
				_, trace, err = g.Encrypt(inBudget(t), key, aad, text)
				if err != nil || trace.HSM != "b" {
					t.Fatalf("%s: encrypted by %q, %v", label, trace.HSM, err)
				}
				time.Sleep(time.Millisecond)
			}
		}
		if note := g.Status().Members[0].Unverified; note == "" {
			t.Error("the status does not say that the token was replaced")
		}
		found := 0
		for _, f := range g.Status().Findings {
			if f.Kind == catalogue.MaterialDiffers && f.HSMs[0] == "a" && len(f.HSMs) == 1 {
				found++
			}
		}
		if found != len(labels) {
			t.Errorf("%d of %d keys were found to differ after 6 s", found, len(labels))
		}
		key, err := g.Key(inBudget(t), labels[0])
		if err != nil || key.Complete() {
			t.Errorf("a key that one HSM does not hold is called complete: %v", err)
		}
	})
}

// TestTokenRestored: a replaced token that holds the right keys serves each once it was compared,
// and all within seconds.
func TestTokenRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, w, labels, sealed := replaced(t, 100, priorities(0, 1))
		right := newToken("a")
		for _, label := range labels {
			right.AddKey(label, 1)
		}
		w.swap(right, "another")
		key := hsm.KeyRef{Label: labels[0], Version: 1}
		_, trace, err := g.Encrypt(inBudget(t), key, aad, text)
		if err != nil || trace.HSM != "b" {
			t.Fatalf("served by %q, %v", trace.HSM, err)
		}
		time.Sleep(10 * time.Second)
		for _, label := range labels {
			_, trace, err := g.Decrypt(
				inBudget(t),
				hsm.KeyRef{Label: label, Version: 1},
				aad,
				sealed[label],
			)
			if err != nil || trace.HSM != "a" {
				t.Fatalf("%s: by %q, %v", label, trace.HSM, err)
			}
		}
		if m := g.Status().Members[0]; m.Unverified != "" {
			t.Errorf("still unverified: %s", m.Unverified)
		}
	})
}

// TestReplacedAlone: with no other HSM left a replaced token does not encrypt. What it can decrypt
// it does, for the tag proves the key; what it refuses is not a verdict.
func TestReplacedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		w := &supervised{}
		w.incarnation.Store(1)
		g := start(t, tokens, withCrossChecks, supervise(w))
		time.Sleep(time.Minute)
		good, _, err := request(t, g)
		if err != nil {
			t.Fatal(err)
		}
		tokens[1].SetHook(all(down))
		time.Sleep(10 * time.Second)
		other := newToken("a")
		other.RemoveKey(ref.Label)
		otherMaterial(other, ref.Label, ref.Version)
		w.swap(other, "another")
		time.Sleep(time.Second)
		_, _, err = g.Decrypt(inBudget(t), ref, aad, good)
		wantError(t, err, hsm.ErrUnavailable)
		_, _, err = request(t, g)
		if err == nil || hsm.IsConfig(err) || errors.Is(err, hsm.ErrKeyUsage) {
			t.Fatalf("encrypted under a key that was not compared: %v", err)
		}
		if !strings.Contains(err.Error(), "was not compared with another HSM") {
			t.Errorf("the error does not say why: %v", err)
		}
		w.swap(newToken("a"), "third")
		time.Sleep(time.Second)
		plaintext, _, err := g.Decrypt(inBudget(t), ref, aad, good)
		if err != nil || !bytes.Equal(plaintext, text) {
			t.Fatalf("got %q, %v", plaintext, err)
		}
		served(t, g, "a") // the decrypt has proved the key
	})
}

// TestKeysChangedWhileAway: the same serial number, and one key was made anew with other usage.
func TestKeysChangedWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, w, labels, sealed := replaced(t, 3, priorities(0, 1))
		changed := newToken("a")
		changed.AddKey(labels[1], 1)
		changed.AddKey(labels[2], 1)
		object := hsmtest.Object(labels[0], 1)
		object.Local = false
		changed.AddObject(object, bytes.Repeat([]byte{9}, hsm.KeySize))
		w.swap(changed, w.Info().Serial)
		for i, label := range labels {
			plaintext, trace, err := g.Decrypt(
				inBudget(t),
				hsm.KeyRef{Label: label, Version: 1},
				aad,
				sealed[label],
			)
			if err != nil || !bytes.Equal(plaintext, text) {
				t.Fatalf("%s: %q by %q, %v", label, plaintext, trace.HSM, err)
			}
			time.Sleep(100 * time.Millisecond)
			_, trace, err = g.Encrypt(inBudget(t), hsm.KeyRef{Label: label, Version: 1}, aad, text)
			want := "a"
			if i == 0 {
				want = "b"
			}
			if err != nil || trace.HSM != want {
				t.Fatalf("%s: encrypted by %q, %v", label, trace.HSM, err)
			}
		}
	})
}

// TestVersionAddedWhileAway: a version that is new on one HSM holds back no older one, for what was
// there before is still there.
func TestVersionAddedWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		w := &supervised{}
		w.incarnation.Store(1)
		g := start(t, tokens, withCrossChecks, supervise(w))
		time.Sleep(time.Minute)
		tokens[1].SetHook(all(down))
		time.Sleep(10 * time.Second)
		rotated := newToken("a")
		rotated.AddKey(ref.Label, 2)
		w.swap(rotated, w.Info().Serial)
		time.Sleep(time.Second)
		for range 10 {
			served(t, g, "a")
		}
	})
}

// TestRestartWhileUnverified: the proxy ends before all keys were compared. The next one knows.
func TestRestartWhileUnverified(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		w := &supervised{}
		w.incarnation.Store(1)
		g := start(t, tokens, withCrossChecks, supervise(w), rememberIn(dir), priorities(0, 1))
		time.Sleep(time.Minute)
		tokens[1].SetHook(all(down))
		time.Sleep(10 * time.Second)
		w.swap(newToken("a"), "another")
		time.Sleep(2 * time.Minute) // listed several times
		g.Close()

		tokens[1].SetHook(nil)
		other := newToken("a")
		other.RemoveKey(ref.Label)
		otherMaterial(other, ref.Label, ref.Version)
		info := other.Info()
		info.Serial = "another"
		again := &supervised{}
		again.incarnation.Store(1)
		again.info.Store(&info)
		tokens[0] = other
		g, err := group.New(
			configOf(tokens, supervise(again), rememberIn(dir), priorities(0, 1)),
		)
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		for range 100 { // comparisons are off otherwise: only the memory can tell
			time.Sleep(100 * ms)
			served(t, g, "b")
		}
		wantFound(t, g, "key material differs: k 1 [a]")
	})
}

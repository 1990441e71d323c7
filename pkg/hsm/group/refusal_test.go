package group_test

// What one HSM says of its own keys or limits, another may not share.

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

// Two objects for one version, or a limit, on one HSM: the other is asked, and nothing counts (R1).
func TestRefusalOfOne(t *testing.T) {
	for _, kind := range []error{hsm.ErrDuplicateKey, hsm.ErrTooLarge} {
		synctest.Test(t, func(t *testing.T) {
			tokens := newTokens(2)
			var logs *observer.ObservedLogs
			g := start(t, tokens, inOrder, logTo(&logs))
			tokens[0].SetHook(onRequests(failWith(kind)))
			for range 10 {
				served(t, g, "b")
			}
			tokens[1].SetHook(onRequests(failWith(kind)))
			_, trace, err := request(t, g)
			wantError(t, err, kind)
			if trace.Attempts != 2 {
				t.Errorf("got %+v", trace)
			}
			neverOut(t, logs)
		})
	}
}

// One HSM has a second object for the version: what was encrypted under it decrypts on the
// other, and, since it was on every HSM, continues to be encrypted there.
func TestDuplicateOnOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		sealed, _, err := request(t, g)
		if err != nil {
			t.Fatal(err)
		}
		tokens[1].AddObject(
			hsmtest.Object(ref.Label, ref.Version),
			bytes.Repeat([]byte{7}, hsm.KeySize),
		)
		time.Sleep(time.Minute)
		key, err := g.Key(inBudget(t), ref.Label)
		if err != nil || key.Complete() || key.CheckDecrypt(ref.Version) != nil {
			t.Fatalf("got %+v, %v", key, err)
		}
		version, err := key.EncryptVersion()
		if err != nil || version != ref.Version {
			t.Errorf("EncryptVersion: %d, %v", version, err)
		}
		for range 20 {
			plaintext, trace, err := g.Decrypt(inBudget(t), ref, aad, sealed)
			if err != nil || !bytes.Equal(plaintext, text) || trace.HSM != "a" {
				t.Fatalf("%q, %+v, %v", plaintext, trace, err)
			}
			served(t, g, "a")
		}
	})
}

// A ciphertext that does not authenticate, or a new one that cannot be verified, has the key's
// material compared at once.
func TestDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens, func(c *group.Config) { c.ParityRate = 5 })
		time.Sleep(5 * time.Second)
		checked := g.Status().CrossChecked
		g.CompareSoon(ref.Label)
		g.CompareSoon(ref.Label)
		time.Sleep(3 * time.Second)
		if got := g.Status().CrossChecked - checked; got != 1 {
			t.Errorf("%d comparisons", got)
		}
	})
}

// An HSM whose key material differs from the others' is drained: its ciphertexts are not called
// bad.
func TestDivergedAndDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		tokens[1].RemoveKey(ref.Label)
		tokens[1].AddObject(
			hsmtest.Object(ref.Label, ref.Version),
			bytes.Repeat([]byte{7}, hsm.KeySize),
		)
		g := start(t, tokens, func(c *group.Config) { c.ParityRate = 5 })
		sealed, err := tokens[1].Encrypt(t.Context(), ref, aad, text)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if findings := g.Status().Findings; len(findings) != 1 ||
			findings[0].Kind != catalogue.MaterialDiffers {
			t.Fatalf("findings: %+v", findings)
		}
		_, _, err = g.Decrypt(inBudget(t), ref, aad, sealed)
		if err != nil {
			t.Errorf("with both: %v", err)
		}
		err = g.Drain(t.Context(), "b", false)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = g.Decrypt(inBudget(t), ref, aad, sealed)
		wantError(t, err, hsm.ErrUnavailable)
	})
}

// The state directory is emptied under a running program: it is filled again.
func TestStateDirectoryEmptied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		directory := filepath.Join(t.TempDir(), "state")
		tokens := newTokens(2)
		start(t, tokens, func(c *group.Config) { c.StateDirectory = directory })
		time.Sleep(time.Minute + 500*time.Millisecond) // between two listings
		synctest.Wait()
		before, err := os.ReadDir(directory)
		if err != nil || len(before) != 3 {
			t.Fatalf("%v, %v", before, err)
		}
		err = os.RemoveAll(directory)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		after, err := os.ReadDir(directory)
		if err != nil || len(after) != 3 {
			t.Errorf("%v, %v", after, err)
		}
	})
}

// A request under which process after process ends ends before it has ended them all repeatedly.
func TestPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		for _, token := range tokens {
			token.SetHook(onRequests(failWith(hsm.ErrCrashed)))
		}
		_, trace, err := request(t, g)
		wantError(t, err, hsm.ErrUnavailable)
		if trace.Attempts != 3 {
			t.Errorf("it was tried %d times", trace.Attempts)
		}
	})
}

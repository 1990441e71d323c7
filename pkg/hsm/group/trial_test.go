package group_test

// Tests of keys whose CKA_ID does not say which version an object is: what was encrypted stays
// readable, and nothing is encrypted by a guess (requirements D2, R4).

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

// withID is an AES-256 key with any CKA_ID; the material depends on the CKA_ID.
func withID(token *hsmtest.Token, label, id string) {
	object := hsmtest.Object(label, 0)
	object.ID = []byte(id)
	token.AddObject(object, bytes.Repeat([]byte(id+"x"), 32)[:32])
}

func readsOld(t *testing.T, g *group.Group, ref hsm.KeyRef, sealed hsm.Sealed) {
	t.Helper()
	for range 10 { // whichever HSM is asked first
		key, err := g.KeyWithVersion(inBudget(t), ref)
		if err == nil {
			err = key.CheckDecrypt(ref.Version)
		}
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := g.Decrypt(inBudget(t), ref, aad, sealed)
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("%q, %v", got, err)
		}
	}
}

func refusesTampered(t *testing.T, g *group.Group, ref hsm.KeyRef, sealed hsm.Sealed) {
	t.Helper()
	sealed.Tag = append([]byte{sealed.Tag[0] ^ 1}, sealed.Tag[1:]...)
	_, _, err := g.Decrypt(inBudget(t), ref, aad, sealed)
	wantError(t, err, hsm.ErrInvalidCiphertext)
}

func readVersions(rule hsm.VersionRule) option {
	return func(c *group.Config) {
		c.KeyVersion = rule
		for _, m := range c.Members {
			m.Token.(*hsmtest.Token).ReadVersions(rule)
		}
	}
}

func TestSecondObjectOfAVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		old := hsm.KeyRef{Label: "tutorial"}
		for _, token := range tokens {
			withID(token, "tutorial", "\x01")
		}
		g := start(t, tokens)
		time.Sleep(time.Minute)
		wantFound(t, g, "doubtful version: tutorial 0 [a b]")
		sealed, _, err := g.Encrypt(inBudget(t), old, aad, text)
		if err != nil {
			t.Fatal(err)
		}
		refusesTampered(t, g, old, sealed)

		// The next key comes to one HSM, to the other, and the old one goes from the first.
		withID(tokens[0], "tutorial", "\x02")
		time.Sleep(time.Minute)
		readsOld(t, g, old, sealed)
		withID(tokens[1], "tutorial", "\x02")
		time.Sleep(time.Minute)
		wantFound(t, g, "duplicate version: tutorial 0 [a b]")
		readsOld(t, g, old, sealed)
		refusesTampered(t, g, old, sealed)
		_, err = encryptVersion(t, g, "tutorial")
		wantError(t, err, hsm.ErrDuplicateKey)
		tokens[0].RemoveKey("tutorial")
		withID(tokens[0], "tutorial", "\x02")
		time.Sleep(time.Minute)
		readsOld(t, g, old, sealed)
		g.Close()

		// Read as numbers they are versions 1 and 2; old data says 0.
		withID(tokens[0], "tutorial", "\x01")
		g = start(t, tokens, readVersions(hsm.VersionNumber))
		time.Sleep(time.Minute)
		wantFound(t, g, "")
		version, err := encryptVersion(t, g, "tutorial")
		if err != nil || version != 2 {
			t.Errorf("encrypts under %d, %v", version, err)
		}
		readsOld(t, g, old, sealed)
		refusesTampered(t, g, old, sealed)
		second := hsm.KeyRef{Label: "tutorial", Version: 2}
		sealed, _, err = g.Encrypt(inBudget(t), second, aad, text)
		if err != nil {
			t.Fatal(err)
		}

		// And back: a successor of the group takes over what was known.
		after := func(c *group.Config) { c.Predecessor = g }
		next := start(t, tokens, readVersions(hsm.VersionID4), after)
		readsOld(t, next, second, sealed)
		time.Sleep(time.Minute)
		wantFound(t, next, "duplicate version: tutorial 0 [a b]")
	})
}

// Where one HSM alone has the objects, its answer is proof enough (D2).
func TestDoubtfulOnOneHSM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, n := range []int{1, 2} {
			tokens := newTokens(n)
			withID(tokens[0], "tutorial", "\x01")
			old := hsm.KeyRef{Label: "tutorial"}
			sealed, err := tokens[0].Encrypt(t.Context(), old, aad, text)
			if err != nil {
				t.Fatal(err)
			}
			withID(tokens[0], "tutorial", "\x02")
			g := start(t, tokens)
			readsOld(t, g, old, sealed)
			refusesTampered(t, g, old, sealed)
		}
	})
}

// A version that no object has by any rule is nobody's.
func TestVersionOfNoObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		for _, token := range tokens {
			withID(token, "tutorial", "\x01")
			withID(token, "tutorial", "\x02")
		}
		g := start(t, tokens)
		_, err := g.KeyWithVersion(inBudget(t), hsm.KeyRef{Label: "tutorial", Version: 3})
		wantError(t, err, hsm.ErrKeyNotFound)
	})
}

// Labels of different bytes are different keys, whether they are text or not.
func TestLabelsByTheirBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		tokens := newTokens(2)
		for _, label := range []string{"\xff", "\xfe", "nul", "nul\x00"} {
			for _, token := range tokens {
				withID(token, label, label+"\x00\x00\x00\x00"[len(label):])
			}
		}
		withID(tokens[0], "only a\xff", "")
		withID(tokens[1], "only a\xfe", "")
		g := start(t, tokens, rememberIn(dir))
		time.Sleep(time.Minute)
		if n := g.Status().Keys; n != 8 {
			t.Errorf("%d keys", n)
		}
		g.Close()
		tokens[1].SetHook(down)
		g = start(t, tokens, rememberIn(dir)) // what b holds is remembered
		key, err := g.Key(inBudget(t), "only a\xff")
		if err != nil || len(key.Missing) != 1 || key.Missing[0] != "b" {
			t.Errorf("%+v, %v", key, err)
		}
		if n := g.Status().Keys; n != 8 {
			t.Errorf("%d keys are remembered", n)
		}
	})
}

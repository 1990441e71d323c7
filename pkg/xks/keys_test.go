package xks

// Keys: what GetKeyMetadata says of them, which may do what, and which name an answer has when an
// HSM is away (requirements K1, K2, E5, D2, H1–H4, X4, X5, X7).

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

// K1, K2.
func TestGetKeyMetadata(t *testing.T) {
	r := newRig(t)
	for key, want := range map[string]struct {
		spec, status string
		usage        []any
	}{
		goodKey:        {"AES_256", "ENABLED", []any{"ENCRYPT", "DECRYPT"}},
		"disabled":     {"AES_256", "DISABLED", []any{"ENCRYPT", "DECRYPT"}},
		"encrypt-only": {"AES_256", "ENABLED", []any{"ENCRYPT"}},
		"decrypt-only": {"AES_256", "ENABLED", []any{"DECRYPT"}},
		"impotent":     {"AES_256", "ENABLED", []any{}},
		"wraps-too":    {"AES_256", "ENABLED", []any{"ENCRYPT", "DECRYPT", "WRAP", "UNWRAP"}},
		"on-a-only":    {"AES_256", "DISABLED", []any{"ENCRYPT", "DECRYPT"}},
		"twice":        {"AES_256", "DISABLED", []any{"ENCRYPT", "DECRYPT"}},
		"rsa":          {"RSA_2048", "ENABLED", []any{"ENCRYPT", "DECRYPT", "SIGN", "VERIFY"}},
		"aes-128":      {"AES_128", "ENABLED", []any{"ENCRYPT", "DECRYPT"}},
	} {
		p := r.metadata(key)
		p.wantOK(t)
		got := p.fields(t)
		if got["keySpec"] != want.spec || got["keyStatus"] != want.status ||
			!slices.Equal(got["keyUsage"].([]any), want.usage) {
			t.Errorf("%s: %s", key, p.body)
		}
	}
}

// U12: what a module may have put into an attribute breaks no reply.
func TestStrangeKeyType(t *testing.T) {
	r := newRig(t)
	for _, token := range []*hsmtest.Token{r.a, r.b} {
		token.AddObject(
			hsm.Object{Label: "strange", Class: hsm.SecretKey, KeyType: "\xff\"\n", Bits: 1}, nil,
		)
	}
	p := r.metadata("strange")
	p.wantOK(t)
	if got := p.fields(t)["keySpec"]; got != "?\"\n_1" {
		t.Errorf("%q", got)
	}
}

// E5, K1, X4, X5.
func TestKeyUsage(t *testing.T) {
	r := newRig(t)
	plain := encryptFields([]byte("x"))
	withCDIV := plain.with("ciphertextDataIntegrityValueAlgorithm", "SHA_256")
	opened := encryptGood(r).decryptFields()
	for _, c := range []struct {
		key                    string
		encrypt, cdiv, decrypt errorName
	}{
		{goodKey, "", "", ""},
		{"encrypt-only", "", invalidKeyUsage, invalidKeyUsage},
		{"decrypt-only", invalidKeyUsage, invalidKeyUsage, invalidCiphertext}, // another key
		{"impotent", invalidKeyUsage, invalidKeyUsage, invalidKeyUsage},
		{"rsa", invalidKeyUsage, invalidKeyUsage, invalidKeyUsage},
		{"aes-128", invalidKeyUsage, invalidKeyUsage, invalidKeyUsage},
		{"disabled", invalidState, invalidState, invalidState},
		{"no-such-key", keyNotFound, keyNotFound, keyNotFound},
		{"on-a-only", invalidState, invalidState, invalidCiphertext}, // decrypts what it can
	} {
		if got := r.encrypt(c.key, plain).errorName(t); got != c.encrypt {
			t.Errorf("Encrypt with %s: %q, want %q", c.key, got, c.encrypt)
		}
		if got := r.encrypt(c.key, withCDIV).errorName(t); got != c.cdiv {
			t.Errorf("Encrypt with CDIV, %s: %q, want %q", c.key, got, c.cdiv)
		}
		if got := r.decrypt(c.key, opened).errorName(t); got != c.decrypt {
			t.Errorf("Decrypt with %s: %q, want %q", c.key, got, c.decrypt)
		}
	}
}

// X7: what is not known to be gone is not said to be gone.
func TestKeyNotFoundOnlyWhenAllHSMsSaySo(t *testing.T) {
	r := newRig(t)
	r.metadata("unheard-of").want(t, keyNotFound)
	r.b.SetHook(fails(hsm.ErrUnavailable))
	r.metadata("unheard-of-too").want(t, internal)
	r.encrypt("unheard-of-three", encryptFields(nil)).want(t, internal)
	// A version that only the HSM which is away may hold (D2, X7).
	opened := encryptGood(r).decryptFields().with("ciphertextMetadata", b64(ciphertextMetadata(77)))
	r.decrypt(goodKey, opened).want(t, internal)
	r.setHooks(fails(hsm.ErrUnavailable))
	r.metadata("unheard-of-four").want(t, internal)
	r.metadata(goodKey).wantOK(t) // from the catalogue
	r.setHooks(hangs)
	start := time.Now()
	r.metadata("unheard-of-five").want(t, internal)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("a look took %v", took)
	}
}

// X7, D2: a key that was deleted behind our back, and a version of one.
func TestDeletedKey(t *testing.T) {
	r := newRig(t)
	for _, label := range []string{"goes", "stays"} {
		for _, token := range []*hsmtest.Token{r.a, r.b} {
			token.AddKey(label, 1)
			token.AddKey(label, 2)
		}
	}
	goes, stays := r.encrypt("goes", encryptFields(nil)), r.encrypt("stays", encryptFields(nil))
	goes.wantOK(t)
	stays.wantOK(t)
	for _, token := range []*hsmtest.Token{r.a, r.b} {
		token.RemoveKey("goes")
		token.RemoveKey("stays")
		token.AddKey("stays", 1) // version 2, the one in use, is gone
	}
	time.Sleep(2100 * time.Millisecond) // for so long package hsm believes its last look
	r.decrypt("stays", stays.decryptFields()).want(t, invalidCiphertext)
	r.decrypt("goes", goes.decryptFields()).want(t, keyNotFound)
	r.encrypt("goes", encryptFields(nil)).want(t, keyNotFound)
	r.metadata("goes").want(t, keyNotFound)
	r.encrypt("stays", encryptFields(nil)).wantOK(t) // under version 1

	for _, token := range []*hsmtest.Token{r.a, r.b} {
		token.RemoveKey("stays")
		token.AddKey("stays", 3)
	}
	time.Sleep(2100 * time.Millisecond)
	r.encrypt("stays", encryptFields(nil)).want(t, internal) // is tried again, and then …
	r.encrypt("stays", encryptFields(nil)).wantOK(t)
}

// X4, X7: what an HSM says, and what KMS hears.
func TestErrorsOfHSMs(t *testing.T) {
	r := newRig(t, compared)
	opened := encryptGood(r).decryptFields()
	for _, c := range []struct {
		name             string
		err              error
		encrypt, decrypt errorName
	}{
		{"unavailable", hsm.ErrUnavailable, internal, internal},
		{"timeout", hsm.Timeout(context.DeadlineExceeded), internal, internal}, // of the HSM's own call, with time left
		{"busy", hsm.ErrBusy, throttling, throttling},
		{"PIN", hsm.ErrPINIncorrect, internal, internal},
		{"PIN locked", hsm.ErrPINLocked, internal, internal},
		{"no token", hsm.ErrTokenNotFound, internal, internal},
		{"module", hsm.ErrModule, internal, internal},
		{"invalid ciphertext", hsm.ErrInvalidCiphertext, internal, invalidCiphertext},
		{"key usage", hsm.ErrKeyUsage, invalidKeyUsage, invalidKeyUsage},
		{"duplicate", hsm.ErrDuplicateKey, internal, internal},
		{"too large", hsm.ErrTooLarge, unsupported, unsupported},
		{"of no kind", errors.New("what is this?"), internal, internal},
	} {
		hook := fails(c.err)
		if c.name == "of no kind" {
			hook = func(context.Context, hsmtest.Op, hsm.KeyRef) error { return c.err }
		}
		r.setHooks(hook)
		if got := encryptGood(r).errorName(t); got != c.encrypt {
			t.Errorf("%s, Encrypt: %s", c.name, got)
		}
		if got := r.decrypt(goodKey, opened).errorName(t); got != c.decrypt {
			t.Errorf("%s, Decrypt: %s", c.name, got)
		}
		r.setHooks(nil)
	}
}

// H1–H4: the health of the fleet, as HSMs go and come.
func TestHealth(t *testing.T) {
	r := newRig(t, func(_ *Config, g *group.Config) {
		g.ProbeInterval, g.ProbeTimeout = 20*time.Millisecond, 500*time.Millisecond
		g.Members[1].Vendor, g.Members[1].Model = "Other Vendor", "M\xffodel"
	})
	statuses := func() [2]string {
		p := r.health()
		p.wantOK(t)
		m := p.fields(t)
		fleet := m["ekmFleetDetails"].([]any)
		if m["ekmVendor"] != "hsmtest, Other Vendor" || m["xksProxyFleetSize"] != 1.0 ||
			len(fleet) != 2 ||
			fleet[1].(map[string]any)["model"] != "M?odel" {
			t.Errorf("%s", p.body)
		}
		return [2]string{
			fleet[0].(map[string]any)["healthStatus"].(string),
			fleet[1].(map[string]any)["healthStatus"].(string),
		}
	}
	await := func(want [2]string) {
		t.Helper()
		for range 250 {
			if statuses() == want {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatalf("%v, want %v", statuses(), want)
	}
	await([2]string{"ACTIVE", "ACTIVE"})
	r.a.SetHook(fails(hsm.ErrUnavailable))
	await([2]string{"UNAVAILABLE", "ACTIVE"})
	r.setHooks(hangs)
	fastest := time.Hour
	for range 5 {
		start := time.Now()
		statuses()
		fastest = min(fastest, time.Since(start))
	}
	if fastest > 200*time.Millisecond {
		t.Errorf("the health took %v and more while HSMs hang (H2)", fastest)
	}
	await([2]string{"UNAVAILABLE", "UNAVAILABLE"}) // 200, H4
	r.setHooks(nil)
	await([2]string{"ACTIVE", "ACTIVE"})
	r.a.RemoveKey(testKey)
	await([2]string{"DEGRADED", "ACTIVE"}) // serves, but cannot encrypt and decrypt
}

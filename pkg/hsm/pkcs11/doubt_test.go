package pkcs11

// An ambiguous refusal is believed when it comes again and again while good ciphertexts are
// decrypted, by a token that was not caught at it lately.

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

const generalError, functionFailed = 0x05, 0x06

// The canary passes the rule too, so that a rule for a number of calls is a busy moment.
func TestAmbiguousRefusals(t *testing.T) {
	v := openVendor(t, nil)
	good := sealWithGo(t, v.value, 12, nil, []byte("x"))
	bad := good
	bad.Tag = append([]byte{good.Tag[0] ^ 1}, good.Tag[1:]...)
	decrypt := func(sealed hsm.Sealed, times uint64) error {
		t.Helper()
		if times > 0 {
			// ErrorAfter ends the operation in the module, as the standard has it; Return does not.
			v.set(t, faulty.Rule{Function: "C_Decrypt", Action: faulty.ErrorAfter,
				Code: functionFailed, Times: times})
		}
		defer v.Clear()
		_, err := v.Decrypt(t.Context(), ref("k", 0), nil, sealed)
		return err
	}
	calls := v.Calls("C_Decrypt")
	sessions := v.Calls("C_OpenSession")
	err := decrypt(bad, 0)
	if !errors.Is(err, hsm.ErrRefusedCiphertext) || hsm.IsFault(err) {
		t.Errorf("tampered, from a clean token: %v", err)
	}
	if n := v.Calls("C_Decrypt") - calls; n != 1+proofRepeats+proofGoods {
		t.Errorf("a tampered ciphertext alone cost %d decrypts", n)
	}
	for times := uint64(1); times <= 1+proofRepeats; times++ {
		v.doubt.since.Store(nil)
		err := decrypt(good, times)
		if err != nil {
			t.Errorf("good, %d times refused: %v", times, err)
		}
		if v.doubt.isClean() {
			t.Errorf("good, %d times refused: the token is still clean", times)
		}
	}
	calls = v.Calls("C_Decrypt")
	err = decrypt(bad, 0)
	if !errors.Is(err, hsm.ErrUnprovenCiphertext) || hsm.IsFault(err) {
		t.Errorf("tampered, from a token that is not clean: %v", err)
	}
	if n := v.Calls("C_Decrypt") - calls; n != 1+proofRepeats+1 {
		t.Errorf("a tampered ciphertext cost %d decrypts on a token that is not clean", n)
	}
	if n := v.Calls("C_OpenSession") - sessions; n != 0 {
		t.Errorf("%d sessions were opened", n)
	}
	past := time.Now().Add(-doubtTime)
	v.doubt.since.Store(&past)
	err = decrypt(bad, 0)
	if !errors.Is(err, hsm.ErrRefusedCiphertext) {
		t.Errorf("tampered, a minute later: %v", err)
	}
}

// An HSM that answers so to everything is broken, and says nothing about the ciphertext.
func TestAmbiguousForGood(t *testing.T) {
	v := openVendor(t, nil)
	good := sealWithGo(t, v.value, 12, nil, []byte("x"))
	for _, function := range []string{"C_Decrypt", "C_DecryptInit", faulty.Crypto} {
		for _, code := range []hsm.CKR{generalError, functionFailed} {
			v.set(t, faulty.Rule{Function: function, Action: faulty.Return, Code: code})
			for range 2 {
				_, err := v.Decrypt(t.Context(), ref("k", 0), nil, good)
				if !errors.Is(err, hsm.ErrUnavailable) {
					t.Errorf("%s from %s: %v", code, function, err)
				}
			}
			v.Clear()
		}
	}
}

// A busy HSM refuses encrypts too: they are made again, and the token is not clean any more.
func TestBusyEncrypt(t *testing.T) {
	v := openVendor(t, nil)
	good := sealWithGo(t, v.value, 12, nil, []byte("x"))
	_, err := v.Find(t.Context(), "k") // opens a session of those that search
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Find(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	sessions := v.Calls("C_OpenSession")
	for function, action := range map[string]faulty.Action{
		"C_Encrypt": faulty.ErrorAfter, "C_EncryptInit": faulty.Return,
	} {
		for _, code := range []hsm.CKR{generalError, functionFailed} {
			for times := uint64(1); times <= busyRepeats; times++ {
				v.doubt.since.Store(nil)
				v.set(t, faulty.Rule{Function: function, Action: action, Code: code, Times: times})
				_, err := v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
				v.Clear()
				if err != nil || v.doubt.isClean() {
					t.Errorf("%s from %s, %d times: %v, clean: %v",
						code, function, times, err, v.doubt.isClean())
				}
			}
		}
	}
	if n := v.Calls("C_OpenSession") - sessions; n != 0 {
		t.Errorf("%d sessions were opened", n)
	}
	_, err = v.Decrypt(t.Context(), ref("k", 0), []byte("wrong"), good)
	if !errors.Is(err, hsm.ErrUnprovenCiphertext) {
		t.Errorf("tampered, after busy encrypts: %v", err)
	}
}

// A stale handle and a lost login that are said in ambiguous words are cured and prove nothing
// against the token.
func TestAmbiguousInitThatACureExplains(t *testing.T) {
	v := openVendor(t, nil)
	good := sealWithGo(t, v.value, 12, nil, []byte("x"))
	for name, rules := range map[string][]faulty.Rule{
		"a login that was lost": {
			{Function: "C_DecryptInit", Action: faulty.DropLogin, Times: 1},
			{Function: "C_DecryptInit", Action: faulty.Return, Code: generalError, Times: 1},
		},
	} {
		v.set(t, rules...)
		_, err := v.Decrypt(t.Context(), ref("k", 0), nil, good)
		v.Clear()
		if err != nil || !v.doubt.isClean() {
			t.Errorf("%s: %v, clean: %v", name, err, v.doubt.isClean())
		}
	}
	e, _ := v.keys.get(ref("k", 0))
	wrong := *e
	wrong.handle += 1000
	v.keys.mu.Lock()
	v.keys.byLabel["k"][0] = &wrong
	v.keys.mu.Unlock()
	v.set(t, faulty.Rule{Function: "C_DecryptInit", Action: faulty.Return, Code: generalError,
		Times: 1})
	plaintext, err := v.Decrypt(t.Context(), ref("k", 0), nil, good)
	if err != nil || !bytes.Equal(plaintext, []byte("x")) || !v.doubt.isClean() {
		t.Errorf("another handle: %q, %v, clean: %v", plaintext, err, v.doubt.isClean())
	}
}

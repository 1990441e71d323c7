package pkcs11

// Blame goes to the smallest thing that explains a failure: the size, the key, or the HSM (R7).

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

// A key that the HSM refuses in any of its words is refused to the caller after one call and a
// canary, without a new session, and for a while without any call.
func TestKeyRefusals(t *testing.T) {
	v := openVendor(t, nil)
	good := sealWithGo(t, v.value, 12, nil, []byte("x"))
	encrypt := func() error {
		_, err := v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
		return err
	}
	decrypt := func() error {
		_, err := v.Decrypt(t.Context(), ref("k", 0), nil, good)
		return err
	}
	inits := map[string]func() error{"C_EncryptInit": encrypt, "C_DecryptInit": decrypt}
	for _, code := range []hsm.CKR{
		0x62, 0x63, 0x64, 0x66, 0x67, 0x68, 0x70, 0x1B, 0x54, 0x200, 0x80000115,
	} {
		for function, do := range inits {
			v.forget()
			v.set(t, faulty.Rule{Function: function, Action: faulty.Return, Code: code, Label: "k"})
			calls, sessions := v.Calls(function), v.Calls("C_OpenSession")
			for range 3 {
				err := do()
				if !errors.Is(err, hsm.ErrKeyUsage) || hsm.IsFault(err) {
					t.Errorf("%s from %s: %v", code, function, err)
				}
			}
			if n := v.Calls(function) - calls; n != 2 {
				t.Errorf("%s from %s: %d calls", code, function, n)
			}
			if n := v.Calls("C_OpenSession") - sessions; n != 0 {
				t.Errorf("%s from %s: %d sessions were opened", code, function, n)
			}
			v.Clear()
		}
	}
	time.Sleep(blameTime)
	err := errors.Join(encrypt(), decrypt())
	if err != nil {
		t.Errorf("a second later: %v", err)
	}
}

// Any other error that follows one key is the key's, and a flood for it costs next to nothing.
func TestKeyFaults(t *testing.T) {
	v := openVendor(t, nil)
	other := random(t, hsm.KeySize)
	err := v.CreateKeys(t.Context(), []NewKey{{Label: "other", Value: other}})
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range []faulty.Rule{
		{Function: "C_EncryptInit", Code: 0x30},
		{Function: "C_Encrypt", Code: 0x30},
		{Function: "C_EncryptInit", Code: 0x05},
		{Function: "C_EncryptInit", Code: 0x06},
		{Function: "C_Encrypt", Code: 0x05},
		{Function: "C_Encrypt", Code: 0x80000004},
		{Function: "C_EncryptInit", Code: 0x82},
	} {
		v.forget()
		rule.Action, rule.Label = faulty.Return, "k"
		v.set(t, rule)
		calls, sessions := v.Calls("C_EncryptInit"), v.Calls("C_OpenSession")
		for range 300 {
			_, err := v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
			if !errors.Is(err, hsm.ErrKeyFault) || hsm.IsFault(err) {
				t.Fatalf("%s: %v", rule, err)
			}
			_, err = v.Encrypt(t.Context(), ref("other", 0), nil, []byte("x"))
			if err != nil {
				t.Fatalf("%s: another key: %v", rule, err)
			}
		}
		t.Logf("%s: %d calls, %d sessions for 300 requests", rule,
			v.Calls("C_EncryptInit")-calls-300, v.Calls("C_OpenSession")-sessions)
		if n := v.Calls("C_EncryptInit") - calls - 300; n > 60 {
			t.Errorf("%s: %d calls for a key that fails", rule, n)
		}
		if n := v.Calls("C_OpenSession") - sessions; n > 30 {
			t.Errorf("%s: %d sessions for a key that fails", rule, n)
		}
		if !v.doubt.isClean() || !v.flaky.isClean() {
			t.Errorf("%s: a key made the token doubtful", rule)
		}
		v.Clear()
	}
	// The blame ends with time, or with a success of a call that was on its way.
	v.forget()
	v.blames.put(&operation{key: ref("k", 0)}, &hsm.Error{Kind: hsm.ErrKeyFault})
	_, err = v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
	if !errors.Is(err, hsm.ErrKeyFault) {
		t.Errorf("blamed just now: %v", err)
	}
	v.blames.forget(&operation{key: ref("k", 0)})
	_, err = v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
	if err != nil || v.blames.count.Load() != 0 {
		t.Errorf("after a success: %v", err)
	}
}

// A key that needs a login of its own, as some do, is not taken for a lost login.
func TestKeyThatNeedsMoreThanTheLogin(t *testing.T) {
	v := openVendor(t, nil)
	v.set(t, faulty.Rule{Function: "C_EncryptInit", Action: faulty.Return, Code: 0x101, Label: "k"})
	_, err := v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
	if !errors.Is(err, hsm.ErrKeyUsage) {
		t.Error(err)
	}
	logins := v.Calls("C_Login")
	for range 10 {
		_, err := v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
		if !errors.Is(err, hsm.ErrKeyUsage) {
			t.Error(err)
		}
	}
	if v.Calls("C_Login") != logins {
		t.Errorf("%d more logins", v.Calls("C_Login")-logins)
	}
}

// Sizes that the HSM refuses in its own words are learned, and are nobody's fault.
func TestSizesAreLearned(t *testing.T) {
	v := openVendor(t, nil)
	encrypt := func(aad, data int) error {
		_, err := v.Encrypt(t.Context(), ref("k", 0), make([]byte, aad), make([]byte, data))
		return err
	}
	decrypt := func(aad, data int) error {
		sealed := sealWithGo(t, v.value, 12, make([]byte, aad), make([]byte, data))
		_, err := v.Decrypt(t.Context(), ref("k", 0), make([]byte, aad), sealed)
		return err
	}
	for name, test := range map[string]struct {
		rule             faulty.Rule
		long, fits, more [2]int // AAD, data
		do               func(aad, data int) error
	}{
		"AAD, encrypt": {
			faulty.Rule{Function: "C_EncryptInit", AADOver: 1000},
			[2]int{1500, 32}, [2]int{1000, 4000}, [2]int{1500, 1}, encrypt,
		},
		"AAD, decrypt": {
			faulty.Rule{Function: "C_DecryptInit", AADOver: 1000},
			[2]int{1500, 32}, [2]int{1000, 4000}, [2]int{1600, 1}, decrypt,
		},
		"data, encrypt": {
			faulty.Rule{Function: "C_Encrypt", DataOver: 1000},
			[2]int{300, 1500}, [2]int{4000, 900}, [2]int{0, 1501}, encrypt,
		},
		"data, decrypt": {
			faulty.Rule{Function: "C_Decrypt", DataOver: 1000},
			[2]int{300, 1500}, [2]int{4000, 900}, [2]int{0, 1501}, decrypt,
		},
	} {
		for _, code := range []hsm.CKR{0x07, 0x21, 0x30, 0x31, 0x71} {
			v.forget()
			rule := test.rule
			rule.Action, rule.Code = faulty.Return, code
			v.set(t, rule)
			name := fmt.Sprint(name, ", ", code)
			err := test.do(test.long[0], test.long[1])
			if !errors.Is(err, hsm.ErrTooLarge) || hsm.IsFault(err) {
				t.Errorf("%s: %v", name, err)
			}
			calls := v.Calls("C_EncryptInit") + v.Calls("C_DecryptInit")
			for _, size := range [][2]int{test.long, test.more} {
				err := test.do(size[0], size[1])
				if !errors.Is(err, hsm.ErrTooLarge) {
					t.Errorf("%s: as long, or longer: %v", name, err)
				}
			}
			if n := v.Calls("C_EncryptInit") + v.Calls("C_DecryptInit") - calls; n != 0 {
				t.Errorf("%s: as long, or longer: %d calls", name, n)
			}
			err = test.do(test.fits[0], test.fits[1])
			if err != nil {
				t.Errorf("%s: what fits: %v", name, err)
			}
			v.Clear()
			err = test.do(test.long[0], test.long[1])
			if !errors.Is(err, hsm.ErrTooLarge) {
				t.Errorf("%s: the limit was forgotten: %v", name, err)
			}
			for i := range v.sizes {
				known := v.sizes[i].known.Load()
				if known != nil {
					old := *known
					old.until = time.Now()
					v.sizes[i].known.Store(&old)
				}
			}
			err = test.do(test.long[0], test.long[1])
			if err != nil {
				t.Errorf("%s: after a while: %v", name, err)
			}
		}
	}
}

// A key that fails with long inputs only, while the test key takes them, is a key that fails.
func TestLongInputOfAKeyThatFails(t *testing.T) {
	v := openVendor(t, nil)
	v.set(t, faulty.Rule{Function: "C_Encrypt", Action: faulty.Return, Code: 0x21, Label: "k"})
	_, err := v.Encrypt(t.Context(), ref("k", 0), make([]byte, 500), make([]byte, 500))
	if !errors.Is(err, hsm.ErrKeyFault) {
		t.Error(err)
	}
	_, err = v.Encrypt(t.Context(), ref("canary-key", 0), make([]byte, 500), make([]byte, 500))
	if err != nil {
		t.Errorf("another key: %v", err)
	}
}

// Without a test key only the plain words of the standard are believed.
func TestBlameWithoutTestKey(t *testing.T) {
	v := openVendor(t, func(c *Config) { c.TestKey = "" })
	for code, want := range map[hsm.CKR]error{
		0x62: hsm.ErrKeyUsage, 0x63: hsm.ErrKeyUsage, 0x68: hsm.ErrKeyUsage, 0x21: hsm.ErrTooLarge,
		0x70: hsm.ErrUnavailable, 0x30: hsm.ErrUnavailable, 0x200: hsm.ErrUnavailable,
	} {
		function := "C_EncryptInit"
		if code == 0x21 {
			function = "C_Encrypt"
		}
		v.set(t, faulty.Rule{Function: function, Action: faulty.Return, Code: code, Label: "k"})
		_, err := v.Encrypt(t.Context(), ref("k", 0), nil, make([]byte, 100))
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", code, err)
		}
		v.Clear()
	}
}

// A key that decrypts nothing any more, and says so in ambiguous words, does not make its good
// ciphertexts look bad.
func TestKeyThatDecryptsNothing(t *testing.T) {
	v := openVendor(t, nil)
	good := sealWithGo(t, v.value, 12, nil, []byte("x"))
	for _, code := range []hsm.CKR{generalError, functionFailed} {
		v.forget()
		v.set(t, faulty.Rule{Function: "C_Decrypt", Action: faulty.ErrorAfter, Code: code,
			Label: "k"})
		calls, sessions := v.Calls("C_Decrypt"), v.Calls("C_OpenSession")
		for range 100 {
			_, err := v.Decrypt(t.Context(), ref("k", 0), nil, good)
			if !errors.Is(err, hsm.ErrKeyFault) {
				t.Fatalf("%s: %v", code, err)
			}
		}
		n, opened := v.Calls("C_Decrypt")-calls, v.Calls("C_OpenSession")-sessions
		if n > 40 || opened > 3 || !v.doubt.isClean() {
			t.Errorf("%s: %d calls, %d sessions, clean: %v", code, n, opened, v.doubt.isClean())
		}
		v.Clear()
	}
	v.forget()
	sealed := v.samples.get(keyUse{key: ref("k", 0), decrypt: true})
	_, err := v.Decrypt(t.Context(), ref("k", 0), []byte("wrong"), good)
	if !errors.Is(err, hsm.ErrRefusedCiphertext) {
		t.Errorf("well again, tampered: %v", err)
	}
	if v.samples.get(keyUse{key: ref("k", 0), decrypt: true}) != sealed {
		t.Error("another IV of the key was used up")
	}
}

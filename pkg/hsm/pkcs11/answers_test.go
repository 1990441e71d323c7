package pkcs11

// What every answer of a module comes to, given by a module that is told to give it (test/faulty).

import (
	"errors"
	"testing"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

// Once and for good, and that the token serves on afterwards.
func TestAnswers(t *testing.T) {
	const once, twice, always = 1, 2, 0
	v := openVendor(t, nil)
	good := sealWithGo(t, v.value, 12, make([]byte, 40), []byte("x"))
	long := sealWithGo(t, v.value, 16, make([]byte, 40), []byte("x"))
	for _, test := range []struct {
		function string
		code     hsm.CKR
		times    uint64
		encrypt  error // wanted of Encrypt
		decrypt  error // wanted of Decrypt
		long     error // wanted of Decrypt with an IV of 16 bytes
	}{
		// Once: cured, or a repetition succeeds; what a key is refused for is not tried twice.
		{"C_Decrypt", 0x05, once, nil, nil, nil},
		{"C_Decrypt", 0x06, once, nil, nil, nil},
		{"C_Decrypt", 0x40, once, nil, hsm.ErrInvalidCiphertext, hsm.ErrInvalidCiphertext},
		{"C_Decrypt", 0x35, once, nil, hsm.ErrInvalidCiphertext, hsm.ErrInvalidCiphertext},
		{"C_Decrypt", 0x30, once, nil, nil, nil},
		{"C_Decrypt", 0x101, once, nil, nil, nil},
		{"C_DecryptInit", 0x101, once, nil, nil, nil},
		{"C_DecryptInit", 0x05, once, nil, nil, nil},
		{"C_DecryptInit", 0x60, once, nil, nil, nil},
		{"C_DecryptInit", 0x90, once, nil, nil, nil},
		{"C_DecryptInit", 0xB3, once, nil, nil, nil},
		{"C_DecryptInit", 0x71, once, nil, nil, nil},
		{"C_DecryptInit", 0x68, once, nil, hsm.ErrKeyUsage, hsm.ErrKeyUsage},
		{"C_DecryptInit", 0x06, once, nil, nil, nil},
		{"C_EncryptInit", 0x82, once, nil, nil, nil},
		{"C_EncryptInit", 0x101, once, nil, nil, nil},
		{"C_EncryptInit", 0xB0, once, nil, nil, nil},
		{"C_EncryptInit", 0x63, once, hsm.ErrKeyUsage, nil, nil},
		{"C_EncryptInit", 0x07, once, nil, nil, nil},
		{"C_EncryptInit", 0x80000004, once, nil, nil, nil},
		{"C_Encrypt", 0x05, once, nil, nil, nil},
		{"C_Encrypt", 0x06, once, nil, nil, nil},
		{"C_EncryptInit", 0x06, once, nil, nil, nil},
		{"C_EncryptInit", 0x70, once, hsm.ErrKeyUsage, nil, nil},
		{"C_EncryptInit", 0x200, once, hsm.ErrKeyUsage, nil, nil},
		{"C_Encrypt", 0x1B, once, hsm.ErrKeyUsage, nil, nil},
		{"C_Encrypt", 0x21, once, nil, nil, nil},
		{"C_OpenSession", 0xB1, once, nil, nil, nil},
		{faulty.Crypto, 0xB3, once, nil, nil, nil},
		// For good, so for the test key too: a fault, never a verdict on the request or the key.
		{"C_Decrypt", 0x05, always, nil, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"C_Decrypt", 0x06, always, nil, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"C_DecryptInit", 0x05, always, nil, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"C_DecryptInit", 0x71, always, nil, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"C_DecryptInit", 0x82, always, nil, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"C_DecryptInit", 0x101, always, nil, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"C_DecryptInit", 0xB3, always, nil, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"C_EncryptInit", 0x30, always, hsm.ErrUnavailable, nil, nil},
		{"C_EncryptInit", 0x06, always, hsm.ErrUnavailable, nil, nil},
		{"C_EncryptInit", 0x70, always, hsm.ErrUnavailable, nil, nil},
		{"C_Encrypt", 0x68, always, hsm.ErrUnavailable, nil, nil},
		{"C_Encrypt", 0x21, always, hsm.ErrUnavailable, nil, nil},
		{"C_EncryptInit", 0x90, always, hsm.ErrUnavailable, nil, nil},
		{"C_EncryptInit", 0x71, always, hsm.ErrUnavailable, nil, nil},
		{faulty.Every, 0x30, always, hsm.ErrUnavailable, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{faulty.Every, 0x101, always, hsm.ErrUnavailable, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{faulty.Sessions, 0xB3, always, hsm.ErrUnavailable, hsm.ErrUnavailable, hsm.ErrUnavailable},
	} {
		for _, call := range []struct {
			name string
			want error
			do   func() error
		}{
			{"encrypt", test.encrypt, func() error {
				_, err := v.Encrypt(t.Context(), ref("k", 0), make([]byte, 40), []byte("x"))
				return err
			}},
			{"decrypt", test.decrypt, func() error {
				_, err := v.Decrypt(t.Context(), ref("k", 0), make([]byte, 40), good)
				return err
			}},
			{"decrypt with a long IV", test.long, func() error {
				_, err := v.Decrypt(t.Context(), ref("k", 0), make([]byte, 40), long)
				return err
			}},
		} {
			rule := faulty.Rule{Function: test.function, Action: faulty.Return, Code: test.code, Times: test.times}
			before := v.Injected()
			v.set(t, rule)
			err := call.do()
			if !errors.Is(err, call.want) || call.want != nil && v.Injected() == before {
				t.Errorf("%s, %s: want %v, got %v after %d faults", rule, call.name, call.want, err, v.Injected()-before)
			}
			v.Clear()
			v.forget()
			err = call.do()
			if err != nil {
				t.Errorf("%s, %s: afterwards: %v", rule, call.name, err)
			}
		}
	}
}

// forget drops what the token remembers of its own failures.
func (v vendor) forget() {
	<-v.login.turn
	v.login.pause = loginPause{}
	v.login.give()
	v.doubt.since.Store(nil)
	v.flaky.since.Store(nil)
	v.blames.mu.Lock()
	v.blames.byUse = nil
	v.blames.count.Store(0)
	v.blames.mu.Unlock()
	for i := range v.sizes {
		v.sizes[i].known.Store(nil)
	}
}

// An output of the wrong length is a fault of the HSM and comes to nobody.
func TestTruncatedOutput(t *testing.T) {
	v := openVendor(t, nil)
	good := sealWithGo(t, v.value, 12, nil, []byte("plaintext"))
	v.set(t, faulty.Rule{Function: faulty.Crypto, Action: faulty.Truncate})
	sealed, err := v.Encrypt(t.Context(), ref("k", 0), nil, []byte("plaintext"))
	if !errors.Is(err, hsm.ErrUnavailable) || sealed.Ciphertext != nil {
		t.Errorf("encrypt: %v, %v", sealed, err)
	}
	plain, err := v.Decrypt(t.Context(), ref("k", 0), nil, good)
	if !errors.Is(err, hsm.ErrUnavailable) || plain != nil {
		t.Errorf("decrypt: %q, %v", plain, err)
	}
	if v.Injected() != 4 { // each of the two, and a canary
		t.Errorf("%d faults", v.Injected())
	}
}

// The login goes in the middle of things: between any two calls that are made for one operation.
func TestLoginLostInTheMiddle(t *testing.T) {
	v := openVendor(t, nil)
	good := sealWithGo(t, v.value, 12, nil, []byte("x"))
	calls := map[string]func() error{
		"encrypt": func() error {
			_, err := v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
			return err
		},
		"decrypt": func() error {
			_, err := v.Decrypt(t.Context(), ref("k", 0), nil, good)
			return err
		},
		"bad ciphertext": func() error {
			_, err := v.Decrypt(t.Context(), ref("k", 0), []byte("wrong"), good)
			if !errors.Is(err, hsm.ErrRefusedCiphertext) {
				return errors.Join(errors.New("no verdict"), err)
			}
			return nil
		},
		"keys": func() error {
			keys, err := v.Keys(t.Context())
			if err == nil && len(keys) != 2 {
				t.Errorf("keys: %v", keys)
			}
			return err
		},
		"find": func() error {
			found, err := v.Find(t.Context(), "k")
			if err == nil && len(found) != 1 {
				t.Errorf("found: %v", found)
			}
			return err
		},
	}
	for name, call := range calls {
		for _, function := range []string{"C_EncryptInit", "C_Encrypt", "C_DecryptInit", "C_Decrypt", "C_FindObjectsInit", "C_FindObjects",
			"C_FindObjectsFinal", "C_GetAttributeValue", "C_GetSessionInfo", "C_Login", faulty.Sessions} {
			for after := range uint64(4) {
				rule := faulty.Rule{Function: function, Action: faulty.DropLogin, Times: 1, After: after}
				v.set(t, rule)
				err := call()
				if err != nil {
					t.Errorf("%s, %s: %v", rule, name, err)
				}
				v.Clear()
				err = call()
				if err != nil {
					t.Errorf("%s, %s: afterwards: %v", rule, name, err)
				}
			}
		}
	}
	if v.Injected() < 20 {
		t.Errorf("the login was lost %d times only", v.Injected())
	}
}

package pkcs11

// Encrypt and Decrypt on a real token, against Go's own AES-GCM.

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

func random(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	_, err := rand.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func goGCM(t testing.TB, key []byte, ivSize int) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, ivSize)
	if err != nil {
		t.Fatal(err)
	}
	return gcm
}

var (
	plainSizes = []int{0, 1, 16, 4300, 8192, hsm.MaxDataSize}
	aadSizes   = []int{0, 33, 8192, 65535, hsm.MaxAADSize}
)

// Every size class, both IV lengths, both ways against Go (requirements E2, D1, D3, U9).
func TestAgreesWithGo(t *testing.T) {
	value := random(t, hsm.KeySize)
	token := openWith(t, NewKey{Label: "k", Value: value})
	for _, plainSize := range plainSizes {
		for _, aadSize := range aadSizes {
			t.Run(fmt.Sprintf("plain %d aad %d", plainSize, aadSize), func(t *testing.T) {
				plain, aad := random(t, plainSize), random(t, aadSize)
				plainBefore, aadBefore := bytes.Clone(plain), bytes.Clone(aad)
				sealed, err := token.Encrypt(t.Context(), ref("k", 0), aad, plain)
				if err != nil {
					t.Fatal(err)
				}
				if len(sealed.Ciphertext) != plainSize || len(sealed.Tag) != hsm.TagSize || len(sealed.IV) != hsm.IVSize {
					t.Fatalf("ciphertext %d, tag %d, IV %d bytes", len(sealed.Ciphertext), len(sealed.Tag), len(sealed.IV))
				}
				opened, err := goGCM(t, value, hsm.IVSize).Open(nil, sealed.IV, append(bytes.Clone(sealed.Ciphertext), sealed.Tag...), aad)
				if err != nil || !bytes.Equal(opened, plain) {
					t.Fatalf("Go does not open it: %v", err)
				}
				got, err := token.Decrypt(t.Context(), ref("k", 0), aad, sealed)
				if err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("the token does not open its own: %v", err)
				}
				for _, ivSize := range []int{hsm.IVSize, hsm.LongIVSize} {
					got, err := token.Decrypt(t.Context(), ref("k", 0), aad, sealWithGo(t, value, ivSize, aad, plain))
					if err != nil || !bytes.Equal(got, plain) {
						t.Fatalf("the token does not open Go's with an IV of %d: %v", ivSize, err)
					}
				}
				if !bytes.Equal(plain, plainBefore) || !bytes.Equal(aad, aadBefore) {
					t.Fatal("an input was changed")
				}
			})
		}
	}
}

func sealWithGo(t testing.TB, value []byte, ivSize int, aad, plain []byte) hsm.Sealed {
	t.Helper()
	iv := random(t, ivSize)
	out := goGCM(t, value, ivSize).Seal(nil, iv, plain, aad)
	return hsm.Sealed{IV: iv, Ciphertext: out[:len(plain)], Tag: out[len(plain):]}
}

// Where the IV comes from the HSM's generator, the result is the same.
func TestHSMRandomIV(t *testing.T) {
	for _, size := range []int{hsm.IVSize, hsm.LongIVSize} {
		c, _ := newTestToken(t)
		c.Overrides = Overrides{IVSource: IVHSMRandom, IVSize: size}
		token := openTest(t, c)
		value := random(t, hsm.KeySize)
		err := token.CreateKeys(t.Context(), []NewKey{{Label: "k", Value: value}})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for range 3 * ivBatchCount {
			sealed, err := token.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
			if err != nil {
				t.Fatal(err)
			}
			if len(sealed.IV) != size || seen[string(sealed.IV)] {
				t.Fatalf("IV %x: wrong length, or used twice", sealed.IV)
			}
			seen[string(sealed.IV)] = true
			_, err = goGCM(t, value, size).Open(nil, sealed.IV, append(bytes.Clone(sealed.Ciphertext), sealed.Tag...), nil)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// SoftHSM does not make IVs: with a profile that expects it to, nothing must come
// out, least of all a ciphertext under an IV of zeros.
func TestWrongProfileAnswersNothing(t *testing.T) {
	for _, source := range []IVSource{IVWrittenBack, IVAppended} {
		c, _ := newTestToken(t)
		c.Overrides = Overrides{IVSource: source}
		token := openTest(t, c)
		err := token.CreateKeys(t.Context(), []NewKey{{Label: "k"}})
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := token.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
		if !errors.Is(err, hsm.ErrUnavailable) || sealed.Ciphertext != nil {
			t.Errorf("%s: %v, %v", source, sealed, err)
		}
	}
}

// Requirement D2: whatever was altered, the answer is the same, the session and the
// HSM are as good as before. Without a test key nothing is proven.
func TestTampered(t *testing.T) {
	for testKey, want := range map[string]error{
		"canary-key": hsm.ErrRefusedCiphertext, "": hsm.ErrUnprovenCiphertext,
	} {
		t.Run("test key "+testKey, func(t *testing.T) {
			c, _ := newTestToken(t)
			c.TestKey, c.Sessions = testKey, 1
			token := openTest(t, c)
			err := token.CreateKeys(t.Context(), []NewKey{{Label: "k"}, {Label: "other"}, {Label: "canary-key"}})
			if err != nil {
				t.Fatal(err)
			}
			aad, plain := random(t, 40), random(t, 64)
			sealed, err := token.Encrypt(t.Context(), ref("k", 0), aad, plain)
			if err != nil {
				t.Fatal(err)
			}
			flip := func(b []byte, i int) []byte { b = bytes.Clone(b); b[i] ^= 1; return b }
			cases := map[string]struct {
				key    string
				aad    []byte
				sealed hsm.Sealed
			}{
				"tag":              {"k", aad, hsm.Sealed{IV: sealed.IV, Ciphertext: sealed.Ciphertext, Tag: flip(sealed.Tag, 15)}},
				"IV":               {"k", aad, hsm.Sealed{IV: flip(sealed.IV, 0), Ciphertext: sealed.Ciphertext, Tag: sealed.Tag}},
				"IV longer":        {"k", aad, hsm.Sealed{IV: append(bytes.Clone(sealed.IV), 0, 0, 0, 0), Ciphertext: sealed.Ciphertext, Tag: sealed.Tag}},
				"AAD":              {"k", flip(aad, 7), sealed},
				"AAD absent":       {"k", nil, sealed},
				"ciphertext":       {"k", aad, hsm.Sealed{IV: sealed.IV, Ciphertext: flip(sealed.Ciphertext, 63), Tag: sealed.Tag}},
				"ciphertext short": {"k", aad, hsm.Sealed{IV: sealed.IV, Ciphertext: sealed.Ciphertext[:63], Tag: sealed.Tag}},
				"ciphertext empty": {"k", aad, hsm.Sealed{IV: sealed.IV, Tag: sealed.Tag}},
				"key":              {"other", aad, sealed},
				"tag short":        {"k", aad, hsm.Sealed{IV: sealed.IV, Ciphertext: sealed.Ciphertext, Tag: sealed.Tag[:15]}},
				"tag absent":       {"k", aad, hsm.Sealed{IV: sealed.IV, Ciphertext: sealed.Ciphertext}},
				"IV of 13":         {"k", aad, hsm.Sealed{IV: make([]byte, 13), Ciphertext: sealed.Ciphertext, Tag: sealed.Tag}},
				"IV absent":        {"k", aad, hsm.Sealed{Ciphertext: sealed.Ciphertext, Tag: sealed.Tag}},
			}
			before := onlySession(t, token)
			for name, test := range cases {
				want := want
				if len(test.sealed.Tag) != hsm.TagSize || len(test.sealed.IV) < hsm.IVSize || len(test.sealed.IV) == 13 {
					want = hsm.ErrInvalidCiphertext // seen before the HSM is asked
				}
				got, err := token.Decrypt(t.Context(), ref(test.key, 0), test.aad, test.sealed)
				if !errors.Is(err, want) || hsm.IsFault(err) || got != nil {
					t.Errorf("%s: %v, %v", name, got, err)
				}
			}
			if onlySession(t, token) != before {
				t.Error("a session was lost")
			}
			got, err := token.Decrypt(t.Context(), ref("k", 0), aad, sealed)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// onlySession gives the session of a token that has one.
func onlySession(t *testing.T, token *Token) *session {
	t.Helper()
	s, err := token.work.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	token.work.put(s)
	return s
}

// Plaintext must not stay in the scratch, whatever became of the call.
func TestScratchIsWiped(t *testing.T) {
	c, _ := newTestToken(t)
	c.Sessions = 1
	token := openTest(t, c)
	err := token.CreateKeys(t.Context(), []NewKey{{Label: "k"}, {Label: "canary-key"}})
	if err != nil {
		t.Fatal(err)
	}
	secret := bytes.Repeat([]byte("never to be seen"), 20)
	sealed, err := token.Encrypt(t.Context(), ref("k", 0), nil, secret)
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		s := onlySession(t, token)
		if bytes.Contains(s.gcm.in, secret[:16]) || bytes.Contains(s.gcm.out, secret[:16]) {
			t.Errorf("%s: plaintext is still in the scratch", when)
		}
	}
	check("after encrypt")
	_, err = token.Decrypt(t.Context(), ref("k", 0), nil, sealed)
	if err != nil {
		t.Fatal(err)
	}
	check("after decrypt")
	_, err = token.Decrypt(t.Context(), ref("k", 0), []byte("wrong"), sealed)
	if !errors.Is(err, hsm.ErrRefusedCiphertext) {
		t.Fatal(err)
	}
	check("after a refused decrypt")
}

func TestTooLarge(t *testing.T) {
	c, _ := newTestToken(t)
	c.Overrides = Overrides{MaxAAD: 600, MaxData: 700}
	token := openTest(t, c)
	err := token.CreateKeys(t.Context(), []NewKey{{Label: "k"}, {Label: "canary-key"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		aad, data int
		want      error
	}{{600, 700, nil}, {601, 1, hsm.ErrTooLarge}, {1, 701, hsm.ErrTooLarge}} {
		_, err := token.Encrypt(t.Context(), ref("k", 0), make([]byte, test.aad), make([]byte, test.data))
		if !errors.Is(err, test.want) {
			t.Errorf("encrypt, AAD %d, data %d: %v", test.aad, test.data, err)
		}
		sealed := hsm.Sealed{IV: make([]byte, hsm.IVSize), Tag: make([]byte, hsm.TagSize), Ciphertext: make([]byte, test.data)}
		want := test.want
		if want == nil {
			want = hsm.ErrRefusedCiphertext
		}
		_, err = token.Decrypt(t.Context(), ref("k", 0), make([]byte, test.aad), sealed)
		if !errors.Is(err, want) {
			t.Errorf("decrypt, AAD %d, data %d: %v", test.aad, test.data, err)
		}
	}
}

// Every combination of key and use that is not allowed (requirements K1, E5).
func TestKeyUsage(t *testing.T) {
	token := openWith(t,
		NewKey{Label: "only-encrypt", Usage: hsm.CanEncrypt},
		NewKey{Label: "only-decrypt", Usage: hsm.CanDecrypt},
		NewKey{Label: "only-wrap", Usage: hsm.CanWrap | hsm.CanUnwrap},
		NewKey{Label: "aes-128", Bits: 128},
		NewKey{Label: "aes-192", Bits: 192},
		NewKey{Label: "both"}, NewKey{Label: "canary-key"})
	makeRSA(t, token, "rsa")
	canned := hsm.Sealed{IV: make([]byte, 12), Tag: make([]byte, 16), Ciphertext: make([]byte, 16)}
	for label, want := range map[string]struct{ encrypt, decrypt error }{
		"only-encrypt": {nil, hsm.ErrKeyUsage},
		"only-decrypt": {hsm.ErrKeyUsage, hsm.ErrRefusedCiphertext},
		"only-wrap":    {hsm.ErrKeyUsage, hsm.ErrKeyUsage},
		"aes-128":      {hsm.ErrKeyUsage, hsm.ErrKeyUsage},
		"aes-192":      {hsm.ErrKeyUsage, hsm.ErrKeyUsage},
		"rsa":          {hsm.ErrKeyUsage, hsm.ErrKeyUsage},
		"both":         {nil, hsm.ErrRefusedCiphertext},
		"none":         {hsm.ErrKeyNotFound, hsm.ErrKeyNotFound},
	} {
		_, err := token.Encrypt(t.Context(), ref(label, 0), nil, []byte("x"))
		if !errors.Is(err, want.encrypt) || hsm.IsFault(err) {
			t.Errorf("encrypt with %s: %v", label, err)
		}
		_, err = token.Decrypt(t.Context(), ref(label, 0), nil, canned)
		if !errors.Is(err, want.decrypt) || hsm.IsFault(err) {
			t.Errorf("decrypt with %s: %v", label, err)
		}
	}
}

// CKA_ENCRYPT taken away behind our back: the HSM itself refuses, at once.
func TestKeyUsageChangesUnderUs(t *testing.T) {
	token := openWith(t, NewKey{Label: "k"})
	_, err := token.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	setAttribute(t, token, "k", p11.CKA_ENCRYPT, false)
	_, err = token.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
	var e *hsm.Error
	if !errors.Is(err, hsm.ErrKeyUsage) || !errors.As(err, &e) || e.Function != "C_EncryptInit" || e.Code != ckrKeyNotPermitted {
		t.Errorf("after CKA_ENCRYPT = false: %v", err)
	}
}

// rawSession gives a read-write session straight on the module.
func rawSession(t testing.TB, token *Token) p11.SessionHandle {
	t.Helper()
	session, err := token.module.ctx.OpenSession(token.login.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = token.module.ctx.CloseSession(session) })
	return session
}

func setAttribute(t testing.TB, token *Token, label string, attribute uint, value any) {
	t.Helper()
	e, ok := token.keys.get(ref(label, 0))
	if !ok {
		t.Fatalf("%s is not in the table", label)
	}
	err := token.module.ctx.SetAttributeValue(rawSession(t, token), p11.ObjectHandle(e.handle), []*p11.Attribute{p11.NewAttribute(attribute, value)})
	if err != nil {
		t.Fatal(err)
	}
}

func makeRSA(t testing.TB, token *Token, label string) {
	t.Helper()
	makePair(t, token, label, p11.CKM_RSA_PKCS_KEY_PAIR_GEN,
		p11.NewAttribute(p11.CKA_MODULUS_BITS, 2048), p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
}

func makePair(t testing.TB, token *Token, label string, mechanism uint, public ...*p11.Attribute) {
	t.Helper()
	common := []*p11.Attribute{p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_LABEL, label)}
	private := append([]*p11.Attribute{p11.NewAttribute(p11.CKA_SIGN, true)}, common...)
	public = append(public, common...)
	_, _, err := token.module.ctx.GenerateKeyPair(rawSession(t, token), []*p11.Mechanism{p11.NewMechanism(mechanism, nil)}, public, private)
	if err != nil {
		t.Fatal(err)
	}
}

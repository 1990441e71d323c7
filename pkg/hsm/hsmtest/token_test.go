package hsmtest_test

// The HSM in memory keeps the contract of hsm.Token: what tests build on must itself be tested.

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/hsmtest"
)

var ref = hsm.KeyRef{Label: "k", Version: 1}

func tokenWithKey(name string) *hsmtest.Token {
	token := hsmtest.New(name)
	token.AddKey(ref.Label, ref.Version)
	return token
}

func TestRoundTrip(t *testing.T) {
	a, b := tokenWithKey("a"), tokenWithKey("b")
	for _, size := range []int{0, 1, 16, 4300, hsm.MaxDataSize} {
		for _, aad := range [][]byte{nil, []byte("aad"), make([]byte, hsm.MaxAADSize)} {
			plaintext := bytes.Repeat([]byte{7}, size)
			sealed, err := a.Encrypt(t.Context(), ref, aad, plaintext)
			if err != nil || len(sealed.Ciphertext) != size || len(sealed.Tag) != hsm.TagSize ||
				len(sealed.IV) != hsm.IVSize {
				t.Fatalf("%d bytes: %+v, %v", size, sealed, err)
			}
			got, err := b.Decrypt(t.Context(), ref, aad, sealed)
			if err != nil || !bytes.Equal(got, plaintext) {
				t.Fatalf("%d bytes on the other token: %v", size, err)
			}
		}
	}
}

// TestReallyGCM: another implementation's ciphertext opens, with IVs of 12 and 16 bytes.
func TestReallyGCM(t *testing.T) {
	value := bytes.Repeat([]byte{9}, hsm.KeySize)
	token := hsmtest.New("a")
	token.AddObject(hsmtest.Object("k", 1), value)
	block, err := aes.NewCipher(value)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{hsm.IVSize, hsm.LongIVSize} {
		gcm, err := cipher.NewGCMWithNonceSize(block, size)
		if err != nil {
			t.Fatal(err)
		}
		iv := bytes.Repeat([]byte{3}, size)
		out := gcm.Seal(nil, iv, []byte("text"), []byte("aad"))
		got, err := token.Decrypt(
			t.Context(),
			ref,
			[]byte("aad"),
			hsm.Sealed{IV: iv, Ciphertext: out[:4], Tag: out[4:]},
		)
		if err != nil || string(got) != "text" {
			t.Errorf("IV of %d: %q, %v", size, got, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	token := tokenWithKey("a")
	good, err := token.Encrypt(t.Context(), ref, nil, []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*hsm.Sealed){
		"tag":        func(s *hsm.Sealed) { s.Tag[15] ^= 1 },
		"short tag":  func(s *hsm.Sealed) { s.Tag = s.Tag[:8] },
		"no tag":     func(s *hsm.Sealed) { s.Tag = nil },
		"ciphertext": func(s *hsm.Sealed) { s.Ciphertext[0] ^= 1 },
		"IV":         func(s *hsm.Sealed) { s.IV[0] ^= 1 },
		"short IV":   func(s *hsm.Sealed) { s.IV = s.IV[:11] },
		"no IV":      func(s *hsm.Sealed) { s.IV = nil },
	} {
		bad := hsm.Sealed{
			IV:         slices.Clone(good.IV),
			Ciphertext: slices.Clone(good.Ciphertext),
			Tag:        slices.Clone(good.Tag),
		}
		spoil(&bad)
		got, err := token.Decrypt(t.Context(), ref, nil, bad)
		if got != nil || !errors.Is(err, hsm.ErrInvalidCiphertext) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	_, err = token.Decrypt(t.Context(), ref, []byte("other"), good)
	if !errors.Is(err, hsm.ErrInvalidCiphertext) {
		t.Errorf("AAD: %v", err)
	}
}

// TestKeysDiffer: a ciphertext opens under its own label and version only.
func TestKeysDiffer(t *testing.T) {
	long := string(bytes.Repeat([]byte("k"), 40))
	refs := []hsm.KeyRef{
		{Label: "k", Version: 1},
		{Label: "k", Version: 2},
		{Label: "k", Version: 257},
		{Label: "l", Version: 1},
		{Label: long, Version: 1},
		{Label: long, Version: 2},
		{Label: long + "x", Version: 1},
	}
	from, to := hsmtest.New("a"), hsmtest.New("b")
	for _, ref := range refs {
		from.AddKey(ref.Label, ref.Version)
		to.AddKey(ref.Label, ref.Version)
	}
	for _, ref := range refs {
		sealed, err := from.Encrypt(t.Context(), ref, nil, []byte("text"))
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range refs {
			_, err := to.Decrypt(t.Context(), other, nil, sealed)
			if (err == nil) != (other == ref) {
				t.Errorf("sealed under %v, opened under %v: %v", ref, other, err)
			}
		}
	}
}

func TestKeyErrors(t *testing.T) {
	token := tokenWithKey("a")
	object := hsmtest.Object("decrypt only", 0)
	object.Usage = hsm.CanDecrypt
	token.AddObject(object, make([]byte, hsm.KeySize))
	object = hsmtest.Object("short", 0)
	object.Bits = 128
	token.AddObject(object, make([]byte, 16))
	token.AddKey("twice", 3)
	token.AddKey("twice", 3)
	for want, ref := range map[error]hsm.KeyRef{
		hsm.ErrKeyNotFound: {Label: "k", Version: 2}, hsm.ErrKeyUsage: {Label: "decrypt only"}, hsm.ErrDuplicateKey: {Label: "twice", Version: 3},
	} {
		_, err := token.Encrypt(t.Context(), ref, nil, nil)
		var e *hsm.Error
		if !errors.Is(err, want) || !errors.As(err, &e) || hsm.IsFault(err) {
			t.Errorf("%v: %v", ref, err)
		}
	}
	_, err := token.Encrypt(t.Context(), hsm.KeyRef{Label: "short"}, nil, nil)
	if !errors.Is(err, hsm.ErrKeyUsage) {
		t.Errorf("AES-128: %v", err)
	}
}

func TestListings(t *testing.T) {
	token := tokenWithKey("a")
	token.AddKey("k", 2)
	token.AddKey("l", 1)
	all, err := token.Keys(t.Context())
	if err != nil || len(all) != 3 {
		t.Errorf("got %v, %v", all, err)
	}
	found, err := token.Find(t.Context(), "k")
	if err != nil || len(found) != 2 || found[0].Version()+found[1].Version() != 3 {
		t.Errorf("got %v, %v", found, err)
	}
	token.RemoveKey("k")
	found, err = token.Find(t.Context(), "k")
	if err != nil || len(found) != 0 {
		t.Errorf("got %v, %v", found, err)
	}
	if token.Calls(hsmtest.OpKeys) != 1 || token.Calls(hsmtest.OpFind) != 2 {
		t.Error("the calls were not counted")
	}
}

// TestHook: it sees each operation, and can fail it, make it wait, or make it lie.
func TestHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token := tokenWithKey("a")
		var seen []hsmtest.Op
		token.SetHook(
			func(_ context.Context, op hsmtest.Op, _ hsm.KeyRef) error { seen = append(seen, op); return nil },
		)
		sealed, err := token.Encrypt(t.Context(), ref, nil, []byte("text"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = token.Decrypt(t.Context(), ref, nil, sealed)
		_, _ = token.Keys(t.Context())
		_, _ = token.Find(t.Context(), "k")
		if !slices.Equal(
			seen,
			[]hsmtest.Op{hsmtest.OpEncrypt, hsmtest.OpDecrypt, hsmtest.OpKeys, hsmtest.OpFind},
		) {
			t.Errorf("the hook saw %v", seen)
		}

		token.SetHook(
			func(context.Context, hsmtest.Op, hsm.KeyRef) error { return hsmtest.ErrFlipBit },
		)
		for _, plaintext := range []string{"", "text"} {
			wrong, err := token.Encrypt(t.Context(), ref, nil, []byte(plaintext))
			if err != nil {
				t.Fatal(err)
			}
			_, err = tokenWithKey("b").Decrypt(t.Context(), ref, nil, wrong)
			if !errors.Is(err, hsm.ErrInvalidCiphertext) {
				t.Errorf("%q with a flipped bit: %v", plaintext, err)
			}
		}
		got, err := token.Decrypt(t.Context(), ref, nil, sealed)
		if err != nil || string(got) == "text" || len(got) != 4 {
			t.Errorf("with a flipped bit: %q, %v", got, err)
		}

		token.SetHook(
			func(ctx context.Context, _ hsmtest.Op, _ hsm.KeyRef) error { <-ctx.Done(); return ctx.Err() },
		)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = token.Encrypt(ctx, ref, nil, nil)
		if !errors.Is(err, hsm.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("hanging: %v", err)
		}
	})
}

func TestClosed(t *testing.T) {
	token := tokenWithKey("a")
	if token.Info().Label != "a" || token.Info().Serial != "mem-a" {
		t.Errorf("got %+v", token.Info())
	}
	if err := token.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"encrypt": func() error { _, err := token.Encrypt(t.Context(), ref, nil, nil); return err },
		"decrypt": func() error { _, err := token.Decrypt(t.Context(), ref, nil, hsm.Sealed{}); return err },
		"keys":    func() error { _, err := token.Keys(t.Context()); return err },
		"find":    func() error { _, err := token.Find(t.Context(), "k"); return err },
	} {
		if err := call(); !errors.Is(err, hsm.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

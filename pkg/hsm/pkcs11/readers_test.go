package pkcs11

// CKA_IDs that are not four bytes, as pkcs11-tool --id writes them.

import (
	"errors"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

// createWithID makes an AES-256 key as `pkcs11-tool --keygen --id` does.
func createWithID(t *testing.T, token *Token, label string, id []byte) {
	t.Helper()
	err := token.withReadWrite(t.Context(), func(session p11.SessionHandle) error {
		template := append(NewKey{Label: label}.template(true), p11.NewAttribute(p11.CKA_VALUE_LEN, 32), p11.NewAttribute(p11.CKA_ID, id))
		_, err := token.module.ctx.GenerateKey(session, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}, template)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = token.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
}

// withTestKey is a token with a test key: without one nothing ambiguous is ever proven.
func withTestKey(t *testing.T) Config {
	t.Helper()
	c, _ := newTestToken(t)
	c.TestKey = "test"
	token := openTest(t, c)
	err := token.CreateKeys(t.Context(), []NewKey{{Label: "test", Version: 1, HasVersion: true}})
	if err == nil {
		err = token.Close(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func seal(t *testing.T, token *Token, version uint32) hsm.Sealed {
	t.Helper()
	sealed, err := token.Encrypt(t.Context(), ref("k", version), []byte("aad"), []byte("data"))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func wantOpen(t *testing.T, token *Token, version uint32, sealed hsm.Sealed) {
	t.Helper()
	for range 2 {
		got, err := token.Decrypt(t.Context(), ref("k", version), []byte("aad"), sealed)
		if err != nil || string(got) != "data" {
			t.Errorf("version %d: %q, %v", version, got, err)
		}
	}
}

func wantInvalid(t *testing.T, token *Token, version uint32, sealed hsm.Sealed) {
	t.Helper()
	sealed.Tag = append([]byte{sealed.Tag[0] ^ 1}, sealed.Tag[1:]...)
	_, err := token.Decrypt(t.Context(), ref("k", version), []byte("aad"), sealed)
	if !errors.Is(err, hsm.ErrInvalidCiphertext) && !errors.Is(err, hsm.ErrRefusedCiphertext) {
		t.Errorf("version %d, tampered: %v", version, err)
	}
}

// What was encrypted while `--id 01` was the only object stays readable forever: beside
// `--id 02`, and whatever rule is configured later.
func TestOldDataStaysReadable(t *testing.T) {
	c := withTestKey(t)
	token := openTest(t, c)
	createWithID(t, token, "canary-key", hsm.VersionID(0)) // without it nothing is proven
	createWithID(t, token, "k", []byte{1})
	before := seal(t, token, 0)
	createWithID(t, token, "k", []byte{2})
	_, err := token.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
	if !errors.Is(err, hsm.ErrDuplicateKey) {
		t.Errorf("encrypted although nobody can say with which object: %v", err)
	}
	wantOpen(t, token, 0, before)
	wantInvalid(t, token, 0, before)
	err = token.Close(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	c.KeyVersion = hsm.VersionNumber
	token = openTest(t, c)
	wantOpen(t, token, 0, before)
	wantInvalid(t, token, 0, before)
	second := seal(t, token, 2)
	wantOpen(t, token, 2, second)
	_, err = token.Decrypt(t.Context(), ref("k", 1), []byte("aad"), second)
	if err == nil {
		t.Error("version 1 read what version 2 made")
	}
	err = token.Close(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	for _, rule := range []hsm.VersionRule{hsm.VersionNone, hsm.VersionID4, ""} {
		c.KeyVersion = rule
		token = openTest(t, c)
		wantOpen(t, token, 0, before)
		wantOpen(t, token, 2, second)
		wantInvalid(t, token, 2, second)
		_, err = token.Decrypt(t.Context(), ref("k", 3), []byte("aad"), second)
		if !errors.Is(err, hsm.ErrKeyNotFound) {
			t.Errorf("%q: a version that nothing ever had: %v", rule, err)
		}
		err = token.Close(t.Context())
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Data of version 0 made under `none` stays readable when the rule becomes id4 and a next version comes.
func TestNoneBecomesID4(t *testing.T) {
	c := withTestKey(t)
	c.KeyVersion = hsm.VersionNone
	token := openTest(t, c)
	createWithID(t, token, "canary-key", hsm.VersionID(0)) // without it nothing is proven
	createWithID(t, token, "k", hsm.VersionID(7))
	before := seal(t, token, 0)
	err := token.Close(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.KeyVersion = hsm.VersionID4
	token = openTest(t, c)
	createWithID(t, token, "k", hsm.VersionID(8))
	wantOpen(t, token, 0, before)
	wantInvalid(t, token, 0, before)
}

// The objects of a doubtful version are found again after the login was lost, and so are two with the very same CKA_ID.
func TestReadersAfterAnotherLogin(t *testing.T) {
	c := withTestKey(t)
	token := openTest(t, c)
	createWithID(t, token, "canary-key", hsm.VersionID(0)) // without it nothing is proven
	createWithID(t, token, "k", []byte{9})
	first := seal(t, token, 0)
	createWithID(t, token, "k", []byte{9})
	createWithID(t, token, "k", []byte{8})
	wantOpen(t, token, 0, first)
	token.login.count.Add(1) // as after a login: every handle may be another key's
	wantOpen(t, token, 0, first)
	setAttribute(t, token, "k", p11.CKA_DECRYPT, true)
	token.keys.forget(ref("k", 0), token.keys.readers(ref("k", 0))[1].entry.handle)
	wantOpen(t, token, 0, first)
	wantInvalid(t, token, 0, first)
}

// A key of another kind under the label and version of an AES-256 key is not its twin.
func TestHMACKeyIsNoTwin(t *testing.T) {
	var tab table
	hmac := listed{handle: 1, object: hsm.Object{Label: "k", Class: hsm.SecretKey, KeyType: "GENERIC_SECRET", Bits: 256}}
	aes := listed{handle: 2, object: hsm.Object{Label: "k", Class: hsm.SecretKey, KeyType: "AES", Bits: 256, Usage: hsm.CanEncrypt | hsm.CanDecrypt}}
	for _, found := range [][]listed{{hmac, aes}, {aes, hmac}, {hmac, hmac, aes, hmac}} {
		tab.replaceAll(found)
		e, ok := tab.get(ref("k", 0))
		if !ok || e.handle != 2 || e.refuses(hsm.CanEncrypt) != nil {
			t.Errorf("%v: %+v", found, e)
		}
	}
}

package pkcs11

// Listing keys, versions, duplicates, and making and destroying keys.

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

func TestEmptyToken(t *testing.T) {
	token := openWith(t)
	keys, err := token.Keys(t.Context())
	if err != nil || keys == nil || len(keys) != 0 {
		t.Errorf("%v, %v", keys, err)
	}
	found, err := token.Find(t.Context(), "nothing")
	if err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
}

func TestFindLooksForTheLabelOnly(t *testing.T) {
	token := openWith(t, NewKey{Label: "k"}, NewKey{Label: "k", Version: 1, HasVersion: true}, NewKey{Label: "kk"})
	for label, want := range map[string]int{"k": 2, "kk": 1, "": 0, "K": 0, "k\x00": 0, "k*": 0} {
		found, err := token.Find(t.Context(), label)
		if err != nil || len(found) != want {
			t.Errorf("%q: %v, %v", label, found, err)
		}
	}
}

// A listing sees what has changed since the last one, whoever changed it.
func TestListingsSeeChanges(t *testing.T) {
	c, _ := newTestToken(t)
	token := openTest(t, c)
	err := token.CreateKeys(t.Context(), []NewKey{{Label: "a"}, {Label: "b", Version: 2, HasVersion: true}})
	if err != nil {
		t.Fatal(err)
	}
	list := func() string {
		t.Helper()
		keys, err := token.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for i, key := range keys {
			lines = append(lines, fmt.Sprintf("%s/%d/%d/%s", key.Label, key.Version(), key.Usage, key.Spec()))
			if len(key.ID) > 0 {
				keys[i].ID[0] = 0xEE // what was handed over is the caller's
			}
		}
		slices.Sort(lines)
		return strings.Join(lines, " ")
	}
	for range 2 {
		if got := list(); got != "a/0/3/AES_256 b/2/3/AES_256" {
			t.Fatal(got)
		}
	}
	setAttribute(t, token, "a", p11.CKA_ENCRYPT, false)
	if got := list(); got != "a/0/2/AES_256 b/2/3/AES_256" {
		t.Errorf("usage changed: %s", got)
	}
	setAttribute(t, token, "a", p11.CKA_ID, hsm.VersionID(9))
	if got := list(); got != "a/9/2/AES_256 b/2/3/AES_256" {
		t.Errorf("version changed: %s", got)
	}
	inAnotherProcess(t, childJob{Config: c, Action: "destroy", Label: "b", Version: 2})
	inAnotherProcess(t, childJob{Config: c, Action: "create", Label: "c", Version: 1})
	if got := list(); got != "a/9/2/AES_256 c/1/3/AES_256" {
		t.Errorf("keys deleted and made: %s", got)
	}
}

func TestListedObjects(t *testing.T) {
	token := openWith(t,
		NewKey{Label: "generated", Version: 7, HasVersion: true},
		NewKey{Label: "imported", Value: make([]byte, 32)},
		NewKey{Label: "short", Bits: 128, Usage: hsm.CanDecrypt | hsm.CanWrap})
	makeRSA(t, token, "rsa")
	makePair(t, token, "ec", p11.CKM_EC_KEY_PAIR_GEN, p11.NewAttribute(p11.CKA_EC_PARAMS, []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}))
	keys, err := token.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]hsm.Object{}
	for _, key := range keys {
		byName[fmt.Sprintf("%s/%d", key.Label, key.Class)] = key
	}
	if len(keys) != 7 || len(byName) != 7 {
		t.Fatalf("%+v", keys)
	}
	generated := byName["generated/1"]
	if generated.Spec() != "AES_256" || !generated.IsAES256() || generated.Version() != 7 || generated.Usage != hsm.CanEncrypt|hsm.CanDecrypt ||
		!generated.Sensitive || !generated.AlwaysSensitive || generated.Extractable || !generated.NeverExtractable || !generated.Local {
		t.Errorf("generated: %+v", generated)
	}
	imported := byName["imported/1"]
	if imported.Spec() != "AES_256" || imported.Version() != 0 || len(imported.ID) != 0 || !imported.Sensitive || imported.Extractable || imported.Local {
		t.Errorf("imported: %+v", imported)
	}
	short := byName["short/1"]
	if short.Spec() != "AES_128" || short.Usage != hsm.CanDecrypt|hsm.CanWrap {
		t.Errorf("short: %+v", short)
	}
	for name, spec := range map[string]string{"rsa/2": "RSA_2048", "rsa/3": "RSA_2048", "ec/2": "EC_384", "ec/3": "EC_384"} {
		if byName[name].Spec() != spec || byName[name].IsAES256() {
			t.Errorf("%s: %+v", name, byName[name])
		}
	}
	if byName["rsa/3"].Usage&hsm.CanSign == 0 {
		t.Errorf("private RSA key: %+v", byName["rsa/3"])
	}
	found, err := token.Find(t.Context(), "rsa")
	if err != nil || len(found) != 2 {
		t.Errorf("find both halves: %+v, %v", found, err)
	}
}

// Objects that are no keys, and keys of a session, are not listed.
func TestOtherObjectsAreNotListed(t *testing.T) {
	token := openWith(t, NewKey{Label: "k"})
	session := rawSession(t, token)
	_, err := token.module.ctx.CreateObject(session, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_DATA), p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_LABEL, "k")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = token.module.ctx.GenerateKey(session, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_TOKEN, false), p11.NewAttribute(p11.CKA_LABEL, "k"), p11.NewAttribute(p11.CKA_VALUE_LEN, 32)})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := token.Keys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Errorf("Keys: %+v, %v", keys, err)
	}
	found, err := token.Find(t.Context(), "k")
	if err != nil || len(found) != 1 {
		t.Errorf("Find: %+v, %v", found, err)
	}
}

// Versions of a label are different keys; a version that is not there is not found.
func TestVersions(t *testing.T) {
	token := openWith(t,
		NewKey{Label: "k"},
		NewKey{Label: "k", Version: 1, HasVersion: true},
		NewKey{Label: "k", Version: 1 << 31, HasVersion: true})
	for _, version := range []uint32{0, 1, 1 << 31} {
		sealed, err := token.Encrypt(t.Context(), ref("k", version), nil, []byte("x"))
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		for _, other := range []uint32{0, 1, 1 << 31} {
			_, err := token.Decrypt(t.Context(), ref("k", other), nil, sealed)
			if (err == nil) != (other == version) {
				t.Errorf("encrypted with %d, decrypted with %d: %v", version, other, err)
			}
		}
	}
	_, err := token.Encrypt(t.Context(), ref("k", 2), nil, nil)
	if !errors.Is(err, hsm.ErrKeyNotFound) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("version 2: %v", err)
	}
}

// Two objects of one version: nobody can say which is meant, so both are named and
// neither is used.
func TestDuplicates(t *testing.T) {
	token := openWith(t, NewKey{Label: "k", Version: 3, HasVersion: true})
	twin := NewKey{Label: "k", Version: 3, HasVersion: true}
	err := token.CreateKeys(t.Context(), []NewKey{{Label: "new"}, twin})
	if !errors.Is(err, hsm.ErrDuplicateKey) || !strings.Contains(err.Error(), "no key was made") {
		t.Fatalf("CreateKeys with a taken version: %v", err)
	}
	err = token.CreateKeys(t.Context(), []NewKey{{Label: "new"}, {Label: "new", Version: 0, HasVersion: true}})
	if !errors.Is(err, hsm.ErrDuplicateKey) {
		t.Fatalf("CreateKeys with one version twice: %v", err)
	}
	keys, err := token.Keys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Fatalf("%v, %v", keys, err)
	}
	_, err = token.createKey(rawSession(t, token), twin)
	if err != nil {
		t.Fatal(err)
	}
	_, err = token.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = token.Encrypt(t.Context(), ref("k", 3), nil, nil)
	if !errors.Is(err, hsm.ErrDuplicateKey) || hsm.IsFault(err) || strings.Count(err.Error(), "handle ") != 2 || strings.Count(err.Error(), "0x00000003") != 2 {
		t.Errorf("encrypt: %v", err)
	}
	err = token.DestroyKey(t.Context(), "k", 3)
	if !errors.Is(err, hsm.ErrDuplicateKey) {
		t.Errorf("destroy: %v", err)
	}
}

// A key that has to be alone does not stay beside another, and destroys no other.
func TestCreateLoneKey(t *testing.T) {
	token := openWith(t, NewKey{Label: "k", Version: 2, HasVersion: true})
	for _, version := range []uint32{1, 2} {
		err := token.CreateLoneKey(t.Context(), NewKey{Label: "k", Version: version, HasVersion: true})
		if !errors.Is(err, hsm.ErrDuplicateKey) {
			t.Errorf("version %d: %v", version, err)
		}
	}
	found, err := token.Find(t.Context(), "k")
	if err != nil || len(found) != 1 || found[0].Version() != 2 {
		t.Errorf("left are %v, %v", found, err)
	}
	err = token.CreateLoneKey(t.Context(), NewKey{Label: "alone", Version: 1, HasVersion: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = token.Encrypt(t.Context(), ref("alone", 1), nil, nil)
	if err != nil {
		t.Error(err)
	}
}

func TestDestroyKey(t *testing.T) {
	token := openWith(t, NewKey{Label: "k"}, NewKey{Label: "k", Version: 1, HasVersion: true})
	err := token.DestroyKey(t.Context(), "k", 1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = token.Encrypt(t.Context(), ref("k", 1), nil, nil)
	if !errors.Is(err, hsm.ErrKeyNotFound) {
		t.Errorf("encrypt with the destroyed version: %v", err)
	}
	_, err = token.Encrypt(t.Context(), ref("k", 0), nil, nil)
	if err != nil {
		t.Errorf("encrypt with the other version: %v", err)
	}
	err = token.DestroyKey(t.Context(), "k", 1)
	if !errors.Is(err, hsm.ErrKeyNotFound) {
		t.Errorf("destroy again: %v", err)
	}
}

func TestCreateKeysRefusesNonsense(t *testing.T) {
	token := openWith(t)
	for _, key := range []NewKey{{}, {Label: "k", Bits: 512}, {Label: "k", Value: make([]byte, 31)}, {Label: "k", Value: []byte{}}} {
		err := token.CreateKeys(t.Context(), []NewKey{{Label: "good"}, key})
		if !errors.Is(err, hsm.ErrKeyUsage) {
			t.Errorf("%+v: %v", key, err)
		}
	}
	keys, err := token.Keys(t.Context())
	if err != nil || len(keys) != 0 {
		t.Errorf("%v, %v", keys, err)
	}
}

// A key made by another process is found on the first miss; one deleted by another
// process is found missing, by a live look, and nothing else breaks.
func TestAnotherProcess(t *testing.T) {
	c, _ := newTestToken(t)
	token := openTest(t, c)
	err := token.CreateKeys(t.Context(), []NewKey{{Label: "canary-key"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = token.Encrypt(t.Context(), ref("late", 5), nil, nil)
	if !errors.Is(err, hsm.ErrKeyNotFound) {
		t.Fatal(err)
	}
	inAnotherProcess(t, childJob{Config: c, Action: "create", Label: "late", Version: 5})
	sealed, err := token.Encrypt(t.Context(), ref("late", 5), nil, []byte("x"))
	if err != nil {
		t.Fatalf("after another process made it: %v", err)
	}
	inAnotherProcess(t, childJob{Config: c, Action: "destroy", Label: "late", Version: 5})
	_, err = token.Encrypt(t.Context(), ref("late", 5), nil, []byte("x"))
	if !errors.Is(err, hsm.ErrKeyNotFound) || hsm.IsFault(err) {
		t.Errorf("encrypt after another process deleted it: %v", err)
	}
	_, err = token.Decrypt(t.Context(), ref("late", 5), nil, sealed)
	if !errors.Is(err, hsm.ErrKeyNotFound) {
		t.Errorf("decrypt after another process deleted it: %v", err)
	}
	// Deleted and made again: another object under the same name.
	inAnotherProcess(t, childJob{Config: c, Action: "create", Label: "late", Version: 5})
	_, err = token.Decrypt(t.Context(), ref("late", 5), nil, sealed)
	if !errors.Is(err, hsm.ErrRefusedCiphertext) {
		t.Errorf("decrypt with the key that took its place: %v", err)
	}
}

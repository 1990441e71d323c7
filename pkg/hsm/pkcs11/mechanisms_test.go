package pkcs11

// Keys that only some mechanisms may use (CKA_ALLOWED_MECHANISMS), and modules that do not know the
// attribute.

import (
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

const aesCBC = 0x1082

// mechanismList is the value of CKA_ALLOWED_MECHANISMS.
func mechanismList(mechanisms ...uint64) []byte {
	var list []byte
	for _, one := range mechanisms {
		list = binary.NativeEndian.AppendUint64(list, one)
	}
	return list
}

// makeRestricted makes a key that only these mechanisms may use.
func makeRestricted(t *testing.T, token *Token, label string, mechanisms ...uint64) {
	t.Helper()
	template := append(NewKey{Label: label}.template(true),
		p11.NewAttribute(p11.CKA_VALUE_LEN, hsm.KeySize),
		p11.NewAttribute(p11.CKA_ALLOWED_MECHANISMS, mechanismList(mechanisms...)))
	err := token.withReadWrite(t.Context(), func(session p11.SessionHandle) error {
		generate := []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}
		_, err := token.module.ctx.GenerateKey(session, generate, template)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What the token refuses, the object says: metadata tells the truth (K1), and a request costs no
// call.
func TestAllowedMechanisms(t *testing.T) {
	v := openVendor(t, nil)
	makeRestricted(t, v.Token, "cbc", aesCBC)
	makeRestricted(t, v.Token, "gcm", aesCBC, uint64(MechanismAESGCM))
	objects, err := v.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	both := hsm.CanEncrypt | hsm.CanDecrypt // "k" and the test key have no such list
	want := map[string]hsm.Usage{"cbc": 0, "gcm": both, "k": both, "canary-key": both}
	for _, o := range objects {
		if o.Usage != want[o.Label] {
			t.Errorf("%s: usage %d, want %d", o.Label, o.Usage, want[o.Label])
		}
		delete(want, o.Label)
	}
	if len(want) != 0 {
		t.Errorf("not listed: %v", want)
	}
	for label, want := range map[string]error{"cbc": hsm.ErrKeyUsage, "gcm": nil} {
		calls := v.Calls("C_EncryptInit")
		_, err := v.Encrypt(t.Context(), ref(label, 0), nil, []byte("x"))
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", label, err)
		}
		if want != nil && v.Calls("C_EncryptInit") != calls {
			t.Errorf("%s: the HSM was asked", label)
		}
	}
}

func TestAllow(t *testing.T) {
	for _, test := range []struct {
		list []byte
		want bool
	}{
		{nil, true},
		{[]byte{}, true},
		{mechanismList(aesCBC), false},
		{mechanismList(uint64(MechanismAESGCM)), true},
		{mechanismList(aesCBC, 0x1081, uint64(MechanismAESGCM)), true},
		{mechanismList(uint64(MechanismAESGCM) << 32), false},
		{mechanismList(aesCBC)[:7], true}, // no list: the module is left to refuse
	} {
		a := attributes{p11.CKA_ALLOWED_MECHANISMS: test.list}
		if a.allow(MechanismAESGCM) != test.want {
			t.Errorf("%x: not %v", test.list, test.want)
		}
	}
}

// What one AES key is asked for in vain, the next is not asked for. What no key can do without is
// asked for again, and other objects teach nothing.
func TestUnknownAttributes(t *testing.T) {
	var u unknownAttributes
	number := func(n uint64) []byte { return mechanismList(n) }
	secret := number(p11.CKO_SECRET_KEY)
	aes := attributes{p11.CKA_CLASS: secret, p11.CKA_KEY_TYPE: number(p11.CKK_AES)}
	des := attributes{p11.CKA_CLASS: secret, p11.CKA_KEY_TYPE: number(p11.CKK_DES3)}
	u.learn(des, []uint{p11.CKA_LOCAL})
	if !slices.Equal(u.askable(), described[hsm.SecretKey]) {
		t.Error("a DES key taught something")
	}
	u.learn(aes, []uint{p11.CKA_ALLOWED_MECHANISMS, p11.CKA_ID, p11.CKA_VALUE_LEN})
	u.learn(aes, []uint{p11.CKA_DERIVE})
	left := u.askable()
	if len(left) != len(described[hsm.SecretKey])-2 ||
		slices.Contains(left, p11.CKA_ALLOWED_MECHANISMS) ||
		slices.Contains(left, p11.CKA_DERIVE) || !slices.Contains(left, p11.CKA_VALUE_LEN) {
		t.Errorf("asked for: %x", left)
	}
}

// A listing on a module that does not know an attribute costs one call for each key but the first.
func TestListingWithAnUnknownAttribute(t *testing.T) {
	v := openVendor(t, nil)
	const keys = 20
	for i := range keys {
		err := v.CreateKeys(t.Context(), []NewKey{{Label: "more-" + strconv.Itoa(i)}})
		if err != nil {
			t.Fatal(err)
		}
	}
	known := described[hsm.SecretKey]
	defer func() { described[hsm.SecretKey] = known }()
	const unknown = p11.CKA_VENDOR_DEFINED + 0xABCD // to SoftHSM
	described[hsm.SecretKey] = append(slices.Clone(known), unknown)
	list := func() uint64 {
		t.Helper()
		before := v.Calls("C_GetAttributeValue")
		objects, err := v.Keys(t.Context())
		if err != nil || len(objects) != keys+2 {
			t.Fatalf("%d objects, %v", len(objects), err)
		}
		for _, o := range objects {
			if !o.IsAES256() || o.Usage != hsm.CanEncrypt|hsm.CanDecrypt {
				t.Errorf("read: %+v", o)
			}
		}
		return v.Calls("C_GetAttributeValue") - before
	}
	first, second := list(), list()
	t.Logf("%d calls, then %d", first, second)
	if second > 2*(keys+2) || first > second+60 { // miekg makes two calls of one
		t.Errorf("%d calls to list %d keys, then %d", first, keys+2, second)
	}
}

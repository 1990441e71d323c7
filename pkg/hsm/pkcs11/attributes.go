package pkcs11

// A key object's attributes, read into an hsm.Object.

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

// attributes are the values that the token told, by type; what it did not tell is absent.
type attributes map[uint][]byte

func (a attributes) bool(t uint) bool {
	v := a[t]
	return len(v) > 0 && v[0] != 0
}

// number reads a CK_ULONG, which has the byte order and size of the machine.
func (a attributes) number(t uint) (uint64, bool) {
	switch v := a[t]; len(v) {
	case 8:
		return binary.NativeEndian.Uint64(v), true
	case 4:
		return uint64(binary.NativeEndian.Uint32(v)), true
	default:
		return 0, false
	}
}

// described are the attributes asked of an object of each class.
var described = map[hsm.Class][]uint{
	hsm.SecretKey: {
		p11.CKA_CLASS, p11.CKA_KEY_TYPE, p11.CKA_LABEL, p11.CKA_ID,
		p11.CKA_ENCRYPT, p11.CKA_DECRYPT, p11.CKA_SIGN, p11.CKA_VERIFY, p11.CKA_WRAP, p11.CKA_UNWRAP, p11.CKA_DERIVE,
		p11.CKA_SENSITIVE, p11.CKA_ALWAYS_SENSITIVE, p11.CKA_EXTRACTABLE, p11.CKA_NEVER_EXTRACTABLE, p11.CKA_LOCAL,
		p11.CKA_VALUE_LEN, p11.CKA_ALLOWED_MECHANISMS,
	},
	hsm.PublicKey: {
		p11.CKA_CLASS, p11.CKA_KEY_TYPE, p11.CKA_LABEL, p11.CKA_ID,
		p11.CKA_ENCRYPT, p11.CKA_VERIFY, p11.CKA_WRAP, p11.CKA_DERIVE, p11.CKA_LOCAL,
	},
	hsm.PrivateKey: {
		p11.CKA_CLASS, p11.CKA_KEY_TYPE, p11.CKA_LABEL, p11.CKA_ID,
		p11.CKA_DECRYPT, p11.CKA_SIGN, p11.CKA_UNWRAP, p11.CKA_DERIVE,
		p11.CKA_SENSITIVE, p11.CKA_ALWAYS_SENSITIVE, p11.CKA_EXTRACTABLE, p11.CKA_NEVER_EXTRACTABLE, p11.CKA_LOCAL,
	},
}

var classes = map[hsm.Class]uint{
	hsm.SecretKey:  p11.CKO_SECRET_KEY,
	hsm.PublicKey:  p11.CKO_PUBLIC_KEY,
	hsm.PrivateKey: p11.CKO_PRIVATE_KEY,
}

func classOf(a attributes) (hsm.Class, bool) {
	n, ok := a.number(p11.CKA_CLASS)
	if !ok {
		return 0, false
	}
	for class, number := range classes {
		if uint64(number) == n {
			return class, true
		}
	}
	return 0, false
}

var usages = map[uint]hsm.Usage{
	p11.CKA_ENCRYPT: hsm.CanEncrypt,
	p11.CKA_DECRYPT: hsm.CanDecrypt,
	p11.CKA_SIGN:    hsm.CanSign,
	p11.CKA_VERIFY:  hsm.CanVerify,
	p11.CKA_WRAP:    hsm.CanWrap,
	p11.CKA_UNWRAP:  hsm.CanUnwrap,
	p11.CKA_DERIVE:  hsm.CanDerive,
}

var keyTypes = map[uint64]string{
	p11.CKK_RSA:            "RSA",
	p11.CKK_DSA:            "DSA",
	p11.CKK_DH:             "DH",
	p11.CKK_EC:             "EC",
	p11.CKK_GENERIC_SECRET: "GENERIC_SECRET",
	p11.CKK_DES:            "DES",
	p11.CKK_DES2:           "DES2",
	p11.CKK_DES3:           "DES3",
	p11.CKK_AES:            "AES",
	p11.CKK_CAMELLIA:       "CAMELLIA",
	p11.CKK_ARIA:           "ARIA",
	p11.CKK_SHA256_HMAC:    "SHA256_HMAC",
	0x33:                   "CHACHA20",
	0x40:                   "EC_EDWARDS",
	0x41:                   "EC_MONTGOMERY",
}

// curves gives the size of a curve by its CKA_EC_PARAMS (a DER object identifier).
var curves = map[string]int{
	"06052b81040021":       224, // secp224r1
	"06082a8648ce3d030107": 256, // secp256r1
	"06052b8104000a":       256, // secp256k1
	"06052b81040022":       384, // secp384r1
	"06052b81040023":       521, // secp521r1
}

// sizeAttribute is the attribute that tells the length of a key, where it is not
// among those that every object of the class has.
func sizeAttribute(class hsm.Class, keyType string) (uint, bool) {
	switch {
	case keyType == "RSA" && class == hsm.PublicKey:
		return p11.CKA_MODULUS_BITS, true
	case keyType == "RSA" && class == hsm.PrivateKey:
		return p11.CKA_MODULUS, true
	case keyType == "EC" && class != hsm.SecretKey:
		return p11.CKA_EC_PARAMS, true
	}
	return 0, false
}

// bits is the length of the key, 0 if the token did not tell.
func (a attributes) bits() int {
	if n, ok := a.number(p11.CKA_VALUE_LEN); ok && n <= 1<<16 {
		return int(n) * 8
	}
	if n, ok := a.number(p11.CKA_MODULUS_BITS); ok && n <= 1<<16 {
		return int(n)
	}
	if modulus := a[p11.CKA_MODULUS]; len(modulus) > 0 {
		return len(modulus) * 8
	}
	return curves[hex.EncodeToString(a[p11.CKA_EC_PARAMS])]
}

func keyTypeOf(a attributes) string {
	n, ok := a.number(p11.CKA_KEY_TYPE)
	if !ok {
		return "unknown"
	}
	name, ok := keyTypes[n]
	if !ok {
		return fmt.Sprintf("0x%X", n)
	}
	return name
}

// object puts together what the attributes say, but for the mechanisms.
func (a attributes) object(class hsm.Class) hsm.Object {
	o := hsm.Object{
		Label:            string(a[p11.CKA_LABEL]),
		ID:               a[p11.CKA_ID],
		Class:            class,
		KeyType:          keyTypeOf(a),
		Bits:             a.bits(),
		Sensitive:        a.bool(p11.CKA_SENSITIVE),
		AlwaysSensitive:  a.bool(p11.CKA_ALWAYS_SENSITIVE),
		Extractable:      a.bool(p11.CKA_EXTRACTABLE),
		NeverExtractable: a.bool(p11.CKA_NEVER_EXTRACTABLE),
		Local:            a.bool(p11.CKA_LOCAL),
	}
	for t, usage := range usages {
		if a.bool(t) {
			o.Usage |= usage
		}
	}
	return o
}

// object puts together what the attributes say, for the profile that the session is used with.
func (s *session) object(values attributes, class hsm.Class) hsm.Object {
	o := values.object(class)
	if class == hsm.SecretKey && !values.allow(s.profile.Mechanism) {
		o.Usage &^= hsm.CanEncrypt | hsm.CanDecrypt
	}
	return o
}

// allow reports whether CKA_ALLOWED_MECHANISMS, an array of CK_ULONG, names the mechanism. A key
// without the attribute, or with an empty one, can be used with any (PKCS#11 2.40 section 4.8).
func (a attributes) allow(mechanism uint32) bool {
	const size = bits.UintSize / 8 // of a CK_ULONG, on every Unix that Go runs on
	list := a[p11.CKA_ALLOWED_MECHANISMS]
	if len(list) == 0 || len(list)%size != 0 {
		return true
	}
	for one := range slices.Chunk(list, size) {
		number, ok := (attributes{0: one}).number(0)
		if ok && number == uint64(mechanism) {
			return true
		}
	}
	return false
}

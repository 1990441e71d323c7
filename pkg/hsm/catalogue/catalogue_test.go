package catalogue

// Tests of how what several HSMs hold under one label becomes one Key (requirements K1, K2, R4,
// X7): versions, gaps, duplicates, keys of other kinds.

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"xks-proxy/pkg/hsm"
)

const both = hsm.CanEncrypt | hsm.CanDecrypt

// aesWith is an AES key object of a number of bits under a CKA_ID.
func aesWith(bits int, usage hsm.Usage, id []byte) hsm.Object {
	return hsm.Object{
		Label:   "k",
		ID:      id,
		Class:   hsm.SecretKey,
		KeyType: "AES",
		Bits:    bits,
		Usage:   usage,
	}
}

func aes256(version uint32) hsm.Object { return aesWith(256, both, hsm.VersionID(version)) }

func rsaPair() []hsm.Object {
	return []hsm.Object{
		{
			Label:   "k",
			ID:      []byte{1},
			Class:   hsm.PublicKey,
			KeyType: "RSA",
			Bits:    2048,
			Usage:   hsm.CanEncrypt | hsm.CanVerify | hsm.CanWrap,
		},
		{
			Label:   "k",
			ID:      []byte{1},
			Class:   hsm.PrivateKey,
			KeyType: "RSA",
			Bits:    2048,
			Usage:   hsm.CanDecrypt | hsm.CanSign,
		},
	}
}

// holding are the views of as many HSMs, "a", "b", …; neverSeen is one whose keys were never
// listed.
func holding(held ...[]hsm.Object) []View {
	var views []View
	for i, objects := range held {
		views = append(
			views,
			View{
				Name:    string(rune('a' + i)),
				Bit:     1 << i,
				Seen:    !isNeverSeen(objects),
				Objects: objects,
			},
		)
	}
	return views
}

var neverSeen = []hsm.Object{{Label: "never seen"}}

func isNeverSeen(objects []hsm.Object) bool {
	return len(objects) == 1 && objects[0].Label == "never seen"
}

func TestNewKey(t *testing.T) {
	for _, test := range []struct {
		name  string
		views []View

		none     bool // no key at all
		spec     string
		usage    hsm.Usage
		missing  []string
		versions []uint32
		encrypt  uint32 // the version to encrypt with,
		err      error  // or why there is none
		complete bool
		decrypt  map[uint32]error
		says     []string // in the error of EncryptVersion
	}{
		{name: "nobody holds it", views: holding(nil, nil), none: true},
		{name: "nobody was seen", views: holding(neverSeen, neverSeen), none: true},
		{name: "one version on both", views: holding([]hsm.Object{aes256(1)}, []hsm.Object{aes256(1)}),
			spec: "AES_256", usage: both, versions: []uint32{1}, encrypt: 1, complete: true,
			decrypt: map[uint32]error{1: nil, 2: hsm.ErrKeyNotFound,
				0: nil}}, // made while key_version was none, perhaps: the tag decides
		{name: "a single HSM", views: holding([]hsm.Object{aes256(7), aes256(3)}),
			spec: "AES_256", usage: both, versions: []uint32{3, 7}, encrypt: 7, complete: true},
		{name: "other ids are version 0", views: holding([]hsm.Object{aesWith(256, both, nil)}, []hsm.Object{aesWith(256, both, []byte{1, 2, 3})}),
			spec: "AES_256", usage: both, versions: []uint32{0}, encrypt: 0, complete: true, decrypt: map[uint32]error{0: nil}},
		{name: "an id of four zero bytes is version 0 too", views: holding([]hsm.Object{aesWith(256, both, hsm.VersionID(0))}, []hsm.Object{aesWith(256, both, []byte("a longer id"))}),
			spec: "AES_256", usage: both, versions: []uint32{0}, encrypt: 0, complete: true},
		{name: "ids are big-endian, and the highest number there is counts",
			views: holding([]hsm.Object{aesWith(256, both, []byte{0, 0, 1, 0}), aes256(255), aes256(1<<32 - 1)}, []hsm.Object{aesWith(256, both, []byte{0, 0, 1, 0}), aes256(255), aes256(1<<32 - 1)}),
			spec:  "AES_256", usage: both, versions: []uint32{255, 256, 1<<32 - 1}, encrypt: 1<<32 - 1, complete: true},
		{name: "the newest version is on one HSM only", views: holding([]hsm.Object{aes256(1), aes256(2)}, []hsm.Object{aes256(1)}),
			spec: "AES_256", usage: both, versions: []uint32{1, 2}, encrypt: 1, complete: true, decrypt: map[uint32]error{2: nil}},
		{name: "one HSM was never seen", views: holding([]hsm.Object{aes256(1), aes256(2)}, neverSeen),
			spec: "AES_256", usage: both, versions: []uint32{1, 2}, encrypt: 2}, // it serves (R1), and is not to be created on (K2)
		{name: "the key is on one HSM only", views: holding([]hsm.Object{aes256(1)}, nil),
			spec: "AES_256", usage: both, missing: []string{"b"}, versions: []uint32{1}, err: ErrIncomplete, says: []string{"missing on: b"},
			decrypt: map[uint32]error{1: nil}},
		{name: "the key is on one of three", views: holding(nil, []hsm.Object{aes256(1)}, nil),
			spec: "AES_256", usage: both, missing: []string{"a", "c"}, versions: []uint32{1}, err: ErrIncomplete, says: []string{"a, c"}},
		{name: "no common version", views: holding([]hsm.Object{aes256(1)}, []hsm.Object{aes256(2)}),
			spec: "AES_256", usage: both, versions: []uint32{1, 2}, err: ErrIncomplete, says: []string{"no version is on all"}},
		{name: "two objects of the newest version", views: holding([]hsm.Object{aes256(1), aesWith(256, both, hsm.VersionID(1))}, []hsm.Object{aes256(1)}),
			spec: "AES_256", usage: both, versions: []uint32{1}, err: hsm.ErrDuplicateKey, decrypt: map[uint32]error{1: nil}, // b can say which
			says: []string{`"k"`, "version 1", "a holds", "00000001", "delete or relabel"}},
		{name: "two objects on both HSMs", views: holding([]hsm.Object{aes256(1), aes256(1)}, []hsm.Object{aes256(1), aes256(1)}),
			spec: "AES_256", usage: both, versions: []uint32{1}, err: hsm.ErrDuplicateKey, decrypt: map[uint32]error{1: nil}}, // the HSM tries both
		{name: "two objects without a version, both are named", views: holding([]hsm.Object{aes256(1)}, []hsm.Object{aesWith(256, both, []byte{0xab}), aesWith(256, both, nil), aes256(1)}),
			spec: "AES_256", usage: both, versions: []uint32{0, 1}, encrypt: 1, decrypt: map[uint32]error{0: nil, 1: nil}},
		{name: "an AES-128 key", views: holding([]hsm.Object{aesWith(128, both, hsm.VersionID(1))}, []hsm.Object{aesWith(128, both, hsm.VersionID(1))}),
			spec: "AES_128", usage: both, err: hsm.ErrKeyUsage, says: []string{"AES_128", "not AES_256"}, complete: true,
			decrypt: map[uint32]error{0: hsm.ErrKeyUsage, 1: hsm.ErrKeyUsage}},
		{name: "an AES-128 key on one HSM only", views: holding(nil, []hsm.Object{aesWith(128, both, nil)}),
			spec: "AES_128", usage: both, missing: []string{"a"}, err: hsm.ErrKeyUsage},
		{name: "an RSA pair: the halves count together", views: holding(rsaPair(), rsaPair()),
			spec: "RSA_2048", usage: hsm.CanEncrypt | hsm.CanVerify | hsm.CanWrap | hsm.CanDecrypt | hsm.CanSign, err: hsm.ErrKeyUsage, complete: true},
		{name: "an RSA pair, on one HSM without its private half", views: holding(rsaPair(), rsaPair()[:1]),
			spec: "RSA_2048", usage: hsm.CanEncrypt | hsm.CanVerify | hsm.CanWrap, err: hsm.ErrKeyUsage, complete: true},
		{name: "a length that the token does not tell", views: holding([]hsm.Object{{Label: "k", Class: hsm.SecretKey, KeyType: "GENERIC_SECRET", Usage: hsm.CanSign}}),
			spec: "GENERIC_SECRET", usage: hsm.CanSign, err: hsm.ErrKeyUsage, complete: true},
		{name: "an AES-256 key among others is the key", views: holding(append(rsaPair(), aes256(4)), []hsm.Object{aesWith(128, hsm.CanSign, nil), aes256(4)}),
			spec: "AES_256", usage: both, versions: []uint32{4}, encrypt: 4, complete: true},
		{name: "AES-256 here, AES-128 there", views: holding([]hsm.Object{aes256(1)}, []hsm.Object{aesWith(128, both, hsm.VersionID(1))}),
			spec: "AES_256", usage: both, versions: []uint32{1}, err: ErrIncomplete},
		{name: "encrypt only", views: holding([]hsm.Object{aesWith(256, hsm.CanEncrypt, hsm.VersionID(1))}, []hsm.Object{aesWith(256, hsm.CanEncrypt, hsm.VersionID(1))}),
			spec: "AES_256", usage: hsm.CanEncrypt, versions: []uint32{1}, encrypt: 1, complete: true, decrypt: map[uint32]error{1: hsm.ErrKeyUsage}},
		{name: "decrypt only", views: holding([]hsm.Object{aesWith(256, hsm.CanDecrypt, hsm.VersionID(1))}, []hsm.Object{aes256(1)}),
			spec: "AES_256", usage: hsm.CanDecrypt, versions: []uint32{1}, err: hsm.ErrKeyUsage, says: []string{"version 1", "CKA_ENCRYPT"}, complete: true,
			decrypt: map[uint32]error{1: nil}},
		{name: "an older version may decrypt only", views: holding([]hsm.Object{aesWith(256, hsm.CanDecrypt, hsm.VersionID(1)), aes256(2)}, []hsm.Object{aesWith(256, hsm.CanDecrypt, hsm.VersionID(1)), aes256(2)}),
			spec: "AES_256", usage: hsm.CanDecrypt, versions: []uint32{1, 2}, encrypt: 2, complete: true, decrypt: map[uint32]error{1: nil, 2: nil}},
		{name: "more usages, not the same everywhere", views: holding([]hsm.Object{aesWith(256, both|hsm.CanWrap|hsm.CanSign, hsm.VersionID(1))}, []hsm.Object{aesWith(256, both|hsm.CanWrap, hsm.VersionID(1))}),
			spec: "AES_256", usage: both | hsm.CanWrap, versions: []uint32{1}, encrypt: 1, complete: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			key := NewKey("k", test.views)
			if test.none {
				if key != nil {
					t.Fatalf("got %+v, want no key", key)
				}
				return
			}
			if key.Spec != test.spec || key.Usage != test.usage ||
				!slices.Equal(key.Missing, test.missing) ||
				!slices.Equal(key.Versions(), test.versions) {
				t.Errorf(
					"got %s, usage %b, missing %v, versions %v",
					key.Spec,
					key.Usage,
					key.Missing,
					key.Versions(),
				)
			}
			version, err := key.EncryptVersion()
			if !errors.Is(err, test.err) || version != test.encrypt {
				t.Errorf(
					"EncryptVersion: got %d, %v; want %d, %v",
					version,
					err,
					test.encrypt,
					test.err,
				)
			}
			for _, part := range test.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error %q does not say %q", err, part)
				}
			}
			if key.Complete() != test.complete {
				t.Errorf("Complete: got %v", key.Complete())
			}
			for version, want := range test.decrypt {
				err := key.CheckDecrypt(version)
				if !errors.Is(err, want) {
					t.Errorf("CheckDecrypt(%d): got %v, want %v", version, err, want)
				}
			}
		})
	}
}

// TestDuplicatesAreBothNamed: the operator must find both objects (design, "the source of truth").
func TestDuplicatesAreBothNamed(t *testing.T) {
	key := NewKey(
		"k",
		holding(
			nil,
			[]hsm.Object{aesWith(256, both, []byte{0xab}), aesWith(256, both, nil), aes256(9)},
		),
	)
	_, err := key.EncryptVersion()
	for _, part := range []string{`key "k" version 0`, `b holds an object with CKA_ID "ab" and an object with CKA_ID ""`} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the error %q does not say %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "00000009") {
		t.Errorf("the error %q names an object that is no duplicate", err)
	}
}

// Package catalogue describes the keys that the HSMs of a group hold: keys and versions, how the
// HSMs differ, which copies may be used, and what the state directory keeps of that. It calls no
// HSM and starts no goroutine: package group does both.
package catalogue

// Keys merged from all HSMs of a group. A Catalogue is immutable: requests read it without a lock,
// and a look-up takes constant time.

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"xks-proxy/pkg/hsm"
)

// ErrIncomplete says that no version of the key is on every HSM of the group. Encrypting under it
// would create data that is lost with one HSM (requirements K2, R4).
var ErrIncomplete = errors.New("no version of the key is on every HSM of the group")

// Catalogue is an immutable snapshot of the keys that the HSMs of a group hold.
type Catalogue struct {
	Keys    map[string]*Key // by label
	Unknown Set             // members whose keys were never listed
}

// Key is one key of a group with all its versions, as last seen on the HSMs.
type Key struct {
	Label string
	// Spec is the keySpec of GetKeyMetadata: AES_256, or the real type of another key.
	Spec string
	// Usage is what every version allows on every HSM (requirement K1).
	Usage hsm.Usage
	// Missing names the HSMs that are known to hold no version of the key.
	Missing []string

	versions      []Version      // ascending; empty if the key is not AES-256
	trials        []trialVersion // versions that need trial decryption
	required      Set            // members that must hold it to be complete: all ever listed
	Refused       bool           // an HSM refuses what the attributes allow
	unknownHolder bool           // some member was never listed
}

// Version is one version of a key: which HSMs hold it and what each of them allows.
type Version struct {
	number     uint32
	Holders    Set
	Encrypters Set // holders that may encrypt with it
	Decrypters Set // holders that may decrypt with it
	Usage      hsm.Usage
	ambiguous  Set       // holders with several objects for this version
	duplicate  string    // the objects on the first of them; "" if none
	diverged   bool      // the holders' key material differs
	faulty     bool      // a copy is not used, or fails
	refused    hsm.Usage // usage that HSMs refuse whatever the attributes say
	lost       bool      // was on every HSM and is not now; LostKeyEncrypt allows encryption
}

// IsDiverged reports whether the HSMs hold, or may hold, different key material for a version.
// Another HSM may then decrypt what one cannot.
func (c *Catalogue) IsDiverged(ref hsm.KeyRef) bool {
	key := c.Keys[ref.Label]
	if key == nil {
		return false
	}
	v := key.Version(ref.Version)
	return v != nil && v.diverged || key.needsTrial(ref.Version)
}

// EncryptVersion returns the version for new ciphertexts: the highest that every HSM of the group
// holds, so that every HSM can decrypt.
//
// If there is none and the policy is LostKeyEncrypt, it returns the highest version that was once
// on every HSM and is still on one. That is no worse than serving while an HSM is down (requirement
// R1). A lower version that every HSM holds now comes first, because all HSMs can read it.
//
// Errors: ErrKeyUsage, ErrIncomplete or ErrDuplicateKey.
func (k *Key) EncryptVersion() (uint32, error) {
	if len(k.versions) == 0 {
		return 0, &hsm.Error{
			Op:     "encrypt",
			Kind:   hsm.ErrKeyUsage,
			Detail: fmt.Sprintf("key %q is %s, not AES_256", k.Label, k.Spec),
		}
	}
	v := k.highest((*Key).isComplete)
	if v == nil {
		v = k.highest((*Key).isLost)
	}
	switch {
	case v == nil:
		if ambiguous := k.highest((*Key).isAmbiguous); ambiguous != nil {
			return 0, ambiguous.duplicateError(k.Label)
		}
		return 0, k.incompleteError()
	case v.Usage&hsm.CanEncrypt == 0:
		return 0, &hsm.Error{
			Op:     "encrypt",
			Kind:   hsm.ErrKeyUsage,
			Detail: fmt.Sprintf("key %q version %d has CKA_ENCRYPT false", k.Label, v.number),
		}
	}
	return v.number, nil
}

// highest returns the highest version that satisfies so, or nil.
func (k *Key) highest(so func(*Key, *Version) bool) *Version {
	for i := range slices.Backward(k.versions) {
		if so(k, &k.versions[i]) {
			return &k.versions[i]
		}
	}
	return nil
}

// isComplete reports whether every HSM holds the version, with the same key material as far as
// known.
func (k *Key) isComplete(v *Version) bool {
	return v.Usable()&k.required == k.required && !v.diverged
}

func (k *Key) isLost(v *Version) bool { return v.lost && !v.diverged && v.Usable() != 0 }

func (k *Key) isAmbiguous(v *Version) bool { return v.ambiguous != 0 }

// Usable returns the holders on which exactly one object has this version.
func (v *Version) Usable() Set { return v.Holders &^ v.ambiguous }

func (k *Key) incompleteError() error {
	var reasons []string
	for _, v := range k.versions {
		if v.diverged {
			reasons = append(
				reasons,
				fmt.Sprintf(
					"the key material of version %d is not the same on every HSM",
					v.number,
				),
			)
		}
	}
	if len(k.Missing) > 0 || len(reasons) == 0 {
		reasons = append(reasons, "missing on: "+orNone(k.Missing))
	}
	return &hsm.Error{
		Op:     "encrypt",
		Kind:   ErrIncomplete,
		Detail: fmt.Sprintf("key %q; %s", k.Label, strings.Join(reasons, "; ")),
	}
}

// CheckDecrypt returns nil if some HSM can decrypt with the version, else ErrKeyUsage, or
// ErrKeyNotFound if no HSM was seen with it. Several objects for one version are allowed: the HSM
// tries each.
func (k *Key) CheckDecrypt(version uint32) error {
	v := k.Version(version)
	switch {
	case len(k.versions) == 0:
		return &hsm.Error{
			Op:     "decrypt",
			Kind:   hsm.ErrKeyUsage,
			Detail: fmt.Sprintf("key %q is %s, not AES_256", k.Label, k.Spec),
		}
	case k.Trial(version) != nil:
		return k.Trial(version).checkDecrypt(k.Label)
	case v == nil:
		return &hsm.Error{
			Op:     "decrypt",
			Kind:   hsm.ErrKeyNotFound,
			Detail: fmt.Sprintf("key %q has no version %d", k.Label, version),
		}
	case v.Usage&hsm.CanDecrypt == 0:
		return &hsm.Error{
			Op:     "decrypt",
			Kind:   hsm.ErrKeyUsage,
			Detail: fmt.Sprintf("key %q version %d has CKA_DECRYPT false", k.Label, version),
		}
	}
	return nil
}

// CheckDecryptAny returns nil if any version can decrypt, else the error of CheckDecrypt for the
// lowest version.
func (k *Key) CheckDecryptAny() error {
	for _, v := range k.versions {
		if v.Usage&hsm.CanDecrypt != 0 {
			return nil
		}
	}
	first := uint32(0)
	if len(k.versions) > 0 {
		first = k.versions[0].number
	}
	return k.CheckDecrypt(first)
}

// Complete reports whether a version of the key is on every HSM of the group and no version is
// ambiguous, faulty or of different key material. A key that encrypts under a lost version is not
// complete (requirement K2).
func (k *Key) Complete() bool {
	spoilt := slices.ContainsFunc(
		k.versions,
		func(v Version) bool { return v.ambiguous != 0 || v.diverged || v.faulty },
	)
	return len(k.Missing) == 0 && !k.unknownHolder && !spoilt &&
		(len(k.versions) == 0 || k.highest((*Key).isComplete) != nil)
}

// Versions lists the version numbers seen on any HSM, in ascending order.
func (k *Key) Versions() []uint32 {
	var numbers []uint32
	for _, v := range k.versions {
		numbers = append(numbers, v.number)
	}
	return numbers
}

// Version returns the version with this number, or nil if no HSM was seen with it.
func (k *Key) Version(number uint32) *Version {
	for i := range k.versions {
		if k.versions[i].number == number {
			return &k.versions[i]
		}
	}
	return nil
}

// MayHold reports whether the key has this version, or may have had it. It is true of a key that is
// not AES-256 and therefore has no versions.
func (k *Key) MayHold(version uint32) bool {
	return k.Version(version) != nil || k.Trial(version) != nil || len(k.versions) == 0
}

func (v *Version) duplicateError(label string) error {
	return &hsm.Error{
		Kind: hsm.ErrDuplicateKey,
		Detail: fmt.Sprintf(
			"key %q version %d: %s; delete or relabel one of them",
			label,
			v.number,
			v.duplicate,
		),
	}
}

// View is what one member holds under one label, as far as known.
type View struct {
	Name    string
	Bit     Set
	Seen    bool // the member was listed at least once
	Away    bool // it cannot be listed now: Objects is what it last held
	Hidden  bool // an object of this label could not be read
	Objects []hsm.Object
}

// NewKey merges what the members hold under one label. It returns nil if none of them holds it.
func NewKey(label string, views []View) *Key {
	key := &Key{Label: label, Usage: ^hsm.Usage(0)}
	var foreign *hsm.Object
	for _, v := range views {
		if !v.Seen {
			key.unknownHolder = true
			continue
		}
		key.required |= v.Bit
		key.unknownHolder = key.unknownHolder || v.Hidden
		if len(v.Objects) == 0 && v.Hidden {
			continue
		}
		if len(v.Objects) == 0 {
			key.Missing = append(key.Missing, v.Name)
			continue
		}
		for i, object := range v.Objects {
			if object.IsAES256() {
				key.add(v, object)
			} else if foreign == nil || object.Class == hsm.SecretKey {
				foreign = &v.Objects[i]
			}
		}
	}
	switch {
	case len(key.versions) > 0:
		key.Spec = "AES_256"
		slices.SortFunc(
			key.versions,
			func(a, b Version) int { return cmp.Compare(a.number, b.number) },
		)
		key.trials = trialVersions(views)
		for _, version := range key.versions {
			key.Usage &= version.Usage
		}
	case foreign != nil:
		key.Spec = foreign.Spec()
		key.Usage = foreignUsage(views)
	default:
		return nil
	}
	return key
}

// add merges one object of one member into the versions, which are not sorted yet.
func (k *Key) add(v View, object hsm.Object) {
	number := object.Version()
	have := k.Version(number)
	if have == nil {
		k.versions = append(k.versions, Version{number: number, Usage: ^hsm.Usage(0)})
		have = &k.versions[len(k.versions)-1]
	}
	if have.Holders&v.Bit != 0 {
		have.ambiguous |= v.Bit
		if have.duplicate == "" {
			have.duplicate = v.Name + " holds " + describeVersion(v.Objects, number)
		}
	}
	have.Holders |= v.Bit
	have.Usage &= object.Usage
	if object.Usage&hsm.CanEncrypt != 0 {
		have.Encrypters |= v.Bit
	}
	if object.Usage&hsm.CanDecrypt != 0 {
		have.Decrypters |= v.Bit
	}
}

// describeVersion names the objects that have the same version, for ErrDuplicateKey.
func describeVersion(objects []hsm.Object, number uint32) string {
	var ids []string
	for _, o := range objects {
		if o.IsAES256() && o.Version() == number {
			ids = append(ids, fmt.Sprintf("an object with CKA_ID %q", fmt.Sprintf("%x", o.ID)))
		}
	}
	return strings.Join(ids, " and ")
}

// foreignUsage returns what a key of another type allows on every HSM that holds it. The two halves
// of a key pair count together.
func foreignUsage(views []View) hsm.Usage {
	usage := ^hsm.Usage(0)
	for _, v := range views {
		if !v.Seen || len(v.Objects) == 0 {
			continue
		}
		var here hsm.Usage
		for _, o := range v.Objects {
			here |= o.Usage
		}
		usage &= here
	}
	return usage
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none wholly, but no version is on all"
	}
	return strings.Join(names, ", ")
}

package hsm

// The version of a key object, and which objects may have made a ciphertext that names a version.
// Tokens and groups both use these functions.

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// VersionRule says how to read the version of a key object from its CKA_ID. All HSMs of a group use
// the same rule. The zero value is VersionID4.
type VersionRule string

// The rules for versions.
const (
	// VersionID4 reads a CKA_ID of 4 bytes as a big-endian version. An object without a CKA_ID is
	// version 0. Any other CKA_ID counts as version 0 and is doubtful.
	VersionID4 VersionRule = "id4"
	// VersionNumber reads a CKA_ID of any length as a big-endian number. An object without a CKA_ID
	// is version 0. A number that does not fit in 4 bytes counts as version 0 and is doubtful.
	VersionNumber VersionRule = "id"
	// VersionNone ignores CKA_ID: every object is version 0.
	VersionNone VersionRule = "none"
)

// VersionRules lists the rules.
func VersionRules() []VersionRule {
	return []VersionRule{VersionID4, VersionNumber, VersionNone}
}

// MaxTrialCandidates is how many objects of a label are tried to decrypt one ciphertext.
const MaxTrialCandidates = 16

// Read returns the version of a CKA_ID, and false if the CKA_ID does not fit the rule.
func (r VersionRule) Read(id []byte) (uint32, bool) {
	if r == VersionNone {
		return 0, true
	}
	digits := id
	if r == VersionNumber {
		digits = bytes.TrimLeft(id, "\x00")
	}
	switch {
	case len(digits) == 0:
		return 0, true
	case len(digits) == 4 || r == VersionNumber && len(digits) < 4:
		var number uint32
		for _, b := range digits {
			number = number<<8 | uint32(b)
		}
		return number, true
	}
	return 0, false
}

// ReadBy returns the object with this version rule. JSON does not contain the rule.
func (o Object) ReadBy(rule VersionRule) Object {
	o.Rule = rule
	return o
}

// ReadBy sets the rule in every object of the slice and returns the slice.
func ReadBy(rule VersionRule, objects []Object) []Object {
	for i := range objects {
		objects[i].Rule = rule
	}
	return objects
}

// Version returns the version of the object by its rule (see ReadBy).
func (o Object) Version() uint32 {
	number, _ := o.Rule.Read(o.ID)
	return number
}

// Doubtful reports whether the CKA_ID does not fit the rule.
func (o Object) Doubtful() bool {
	_, sure := o.Rule.Read(o.ID)
	return !sure
}

// VersionID returns the CKA_ID of an object of this version, 4 bytes big-endian.
func VersionID(version uint32) []byte {
	return binary.BigEndian.AppendUint32(nil, version)
}

// hadVersion reports whether the object has the version by another rule. Data encrypted before the
// rule changed must stay readable.
func (o Object) hadVersion(version uint32) bool {
	for _, rule := range [...]VersionRule{VersionID4, VersionNumber} {
		number, _ := rule.Read(o.ID)
		if number == version {
			return true
		}
	}
	return false
}

// TrialCandidates returns the indexes of the AES-256 objects that may have made a ciphertext of a
// version, the most likely first:
//
//   - those that have the version by their rule;
//
//   - those that have it by another rule, because the rule may have changed;
//
//   - if there are none and the version is 0, all of them: the rule may have been VersionNone.
//
// The objects have the same label. If there are several candidates, only the tag of the ciphertext
// tells which one made it.
func TrialCandidates(objects []Object, version uint32) []int {
	var exact, once, all []int
	for i, o := range objects {
		switch {
		case !o.IsAES256():
			continue
		case o.Version() == version:
			exact = append(exact, i)
		case o.hadVersion(version):
			once = append(once, i)
		}
		all = append(all, i)
	}
	readers := append(exact, once...)
	if len(readers) == 0 && version == 0 {
		readers = all
	}
	slices.SortStableFunc(readers, func(i, j int) int {
		if a, b := objects[i].Version() == version, objects[j].Version() == version; a != b {
			if a {
				return -1
			}
			return 1
		}
		return bytes.Compare(objects[i].ID, objects[j].ID)
	})
	return readers
}

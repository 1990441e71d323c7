package hsm

// Which key version a key object is, and which objects may have made a ciphertext
// that names a version. This is the only place that knows: tokens and groups ask here.

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// VersionRule says how the version of a key object is read from its CKA_ID. All HSMs
// of a group share one rule. The zero value is VersionID4.
type VersionRule string

// The rules.
const (
	// VersionID4: a CKA_ID of 4 bytes is the version, big-endian; without a CKA_ID the version is
	// 0.
	// Any other CKA_ID counts as version 0, and is doubtful.
	VersionID4 VersionRule = "id4"
	// VersionNumber: CKA_ID is a big-endian number of any length; without a CKA_ID the version is
	// 0.
	// A number that does not fit 4 bytes counts as version 0, and is doubtful.
	VersionNumber VersionRule = "id"
	// VersionNone: CKA_ID says nothing; every object is version 0.
	VersionNone VersionRule = "none"
)

// VersionRules lists the rules.
func VersionRules() []VersionRule {
	return []VersionRule{VersionID4, VersionNumber, VersionNone}
}

// MaxTrialCandidates is how many objects of a label are tried for one ciphertext whose version
// several
// of them may have made.
const MaxTrialCandidates = 16

// Read gives the version of a CKA_ID, and false if the rule can only guess it.
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

// ReadBy is the object with its version read by a rule. JSON does not carry the rule.
func (o Object) ReadBy(rule VersionRule) Object {
	o.Rule = rule
	return o
}

// ReadBy sets the rule of objects that belong to the caller.
func ReadBy(rule VersionRule, objects []Object) []Object {
	for i := range objects {
		objects[i].Rule = rule
	}
	return objects
}

// Version is the key version that CKA_ID holds by the object's rule (see ReadBy).
func (o Object) Version() uint32 {
	number, _ := o.Rule.Read(o.ID)
	return number
}

// Doubtful reports whether the object's rule can only guess its version.
func (o Object) Doubtful() bool {
	_, sure := o.Rule.Read(o.ID)
	return !sure
}

// VersionID is the CKA_ID that an object of this version carries.
func VersionID(version uint32) []byte {
	return binary.BigEndian.AppendUint32(nil, version)
}

// hadVersion reports whether the object had a version by another rule: what was encrypted
// before the rule changed names that one, and has to stay readable.
func (o Object) hadVersion(version uint32) bool {
	for _, rule := range [...]VersionRule{VersionID4, VersionNumber} {
		number, _ := rule.Read(o.ID)
		if number == version {
			return true
		}
	}
	return false
}

// TrialCandidates gives the places in objects, all of one label, of the AES-256 keys that may have
// made a
// ciphertext of a version, the likeliest first:
//
//   - those that have the version by their rule;
//   - those that have it by another rule, since the rule may have changed;
//   - if there are none and the version is 0, all: the rule may have been VersionNone.
//
// Where there are several, only the tag of the ciphertext says which of them it was.
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

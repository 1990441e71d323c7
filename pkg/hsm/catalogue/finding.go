package catalogue

// Findings: differences between the HSMs of a group as operators see them (requirement R4). Labels
// are bytes; hsm.ShowLabel makes them printable.

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"xks-proxy/pkg/hsm"
)

// Severity returns how serious findings of this kind are.
func (k FindingKind) Severity() Severity {
	switch k {
	case KeyMissing, VersionMissing, DuplicateVersion, MaterialDiffers, KeyFails:
		return Severe
	case UnusedDiffer:
		return Minor
	}
	return Warning
}

// IsDifference reports whether the kind concerns a difference between HSMs rather than one HSM.
func (k FindingKind) IsDifference() bool {
	return k != VersionDoubtful && k != VersionImplausible && k != DuplicateVersion && k != KeyFails
}

// Except returns the findings of list that are not in others.
func Except(others map[findingID]Finding, list []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(list), func(f Finding) bool {
		_, known := others[f.id()]
		return known
	})
}

// IndexFindings indexes findings by identity, for Except.
func IndexFindings(list []Finding) map[findingID]Finding {
	ids := make(map[findingID]Finding, len(list))
	for _, f := range list {
		ids[f.id()] = f
	}
	return ids
}

// plainFinding is a Finding without its methods.
type plainFinding Finding

type storedFinding struct {
	plainFinding
	LabelBytes []byte `json:"labelBytes,omitempty"`
}

// MarshalJSON implements json.Marshaler. A label that is not UTF-8 is escaped, and "labelBytes"
// holds its bytes.
func (f Finding) MarshalJSON() ([]byte, error) {
	stored := storedFinding{plainFinding: plainFinding(f)}
	stored.Label, stored.LabelBytes = hsm.EncodeLabel(f.Label)
	return json.Marshal(stored)
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *Finding) UnmarshalJSON(data []byte) error {
	var stored storedFinding
	err := json.Unmarshal(data, &stored)
	if err != nil {
		return err
	}
	*f = Finding(stored.plainFinding)
	f.Label = hsm.DecodeLabel(stored.Label, stored.LabelBytes)
	return nil
}

// CompareFindings orders findings by label, version, kind and HSMs.
func CompareFindings(a, b Finding) int {
	return cmp.Or(
		cmp.Compare(a.Label, b.Label),
		cmp.Compare(a.Version, b.Version),
		cmp.Compare(a.Kind, b.Kind),
		slices.Compare(a.HSMs, b.HSMs),
	)
}

// findingID identifies a finding across updates.
type findingID struct {
	kind    FindingKind
	label   string
	version uint32
}

func (f Finding) id() findingID { return findingID{f.Kind, f.Label, f.Version} }

// FindingKind is the kind of a finding.
type FindingKind string

// The kinds of findings (requirement R4).
const (
	KeyMissing         FindingKind = "key missing"              // on some HSM, and not on another
	VersionMissing     FindingKind = "version missing"          // likewise, of a key that both hold
	AttributesDiffer   FindingKind = "attributes differ"        // usage, length, sensitivity, …
	DuplicateVersion   FindingKind = "duplicate version"        // several objects on one HSM
	MaterialDiffers    FindingKind = "key material differs"     // between HSMs
	KeyFails           FindingKind = "key fails"                // on an HSM that works otherwise
	UnusedDiffer       FindingKind = "unused attributes differ" // usages that the proxy never needs
	VersionDoubtful    FindingKind = "doubtful version"         // CKA_ID does not fit the rule
	VersionImplausible FindingKind = "implausible version"      // looks accidental
	NotAnEncryptionKey FindingKind = "not AES-256 everywhere"   // another type on some HSM
)

// Finding is one difference between the HSMs' keys, or one problem with a key on an HSM.
type Finding struct {
	Kind    FindingKind `json:"kind"`
	Label   string      `json:"label"`
	Version uint32      `json:"version,omitempty"` // 0 where the whole key is meant
	HSMs    []string    `json:"hsms"`              // that lack it, or that differ
	Detail  string      `json:"detail"`            // what differs and what to do, one sentence
	Since   time.Time   `json:"since"`
}

package catalogue

// What the HSMs of a group can differ in, as operators see it (requirement R4).
// The label of a finding is bytes, as the label of a key is: see hsm.ShowLabel.

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"xks-proxy/pkg/hsm"
)

// Severity says how much findings of this kind matter.
func (k FindingKind) Severity() Severity {
	switch k {
	case KeyMissing, VersionMissing, DuplicateVersion, MaterialDiffers, KeyFails:
		return Severe
	case UnusedDiffer:
		return Minor
	}
	return Warning
}

// Differs reports whether a kind is about a difference between HSMs, not about one of them.
func (k FindingKind) IsDifference() bool {
	return k != VersionDoubtful && k != VersionImplausible && k != DuplicateVersion && k != KeyFails
}

// NewSince are the findings that are not among others.
func Except(others map[findingID]Finding, list []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(list), func(f Finding) bool {
		_, known := others[f.id()]
		return known
	})
}

// ByID makes findings comparable with those of another moment.
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

// MarshalJSON implements json.Marshaler: a label that is not UTF-8 is shown escaped, with its bytes
// as
// "labelBytes" beside it.
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

// ByPlace orders findings by label, version and kind.
func CompareFindings(a, b Finding) int {
	return cmp.Or(
		cmp.Compare(a.Label, b.Label),
		cmp.Compare(a.Version, b.Version),
		cmp.Compare(a.Kind, b.Kind),
		slices.Compare(a.HSMs, b.HSMs),
	)
}

// findingID says whether two findings are the same one, seen twice.
type findingID struct {
	kind    FindingKind
	label   string
	version uint32
}

func (f Finding) id() findingID { return findingID{f.Kind, f.Label, f.Version} }

// FindingKind is one way in which the HSMs of a group can differ.
type FindingKind string

// The kinds of findings (issue of key parity; requirement R4).
const (
	KeyMissing         FindingKind = "key missing"              // on some HSM, and not on another
	VersionMissing     FindingKind = "version missing"          // likewise, of a key that both hold
	AttributesDiffer   FindingKind = "attributes differ"        // usage, length, sensitivity, …
	DuplicateVersion   FindingKind = "duplicate version"        // two objects for one version on one HSM
	MaterialDiffers    FindingKind = "key material differs"     // one cannot decrypt what the other encrypted
	KeyFails           FindingKind = "key fails"                // on an HSM that works otherwise
	UnusedDiffer       FindingKind = "unused attributes differ" // usages that the proxy never needs: sign, verify, wrap, unwrap, derive
	VersionDoubtful    FindingKind = "doubtful version"         // CKA_ID does not say which version the object is
	VersionImplausible FindingKind = "implausible version"      // so high that it looks like an accident
	NotAnEncryptionKey FindingKind = "not AES-256 everywhere"   // the same label is an AES-256 key on one HSM and something else on another
)

// Finding is one difference between the keys of a group's HSMs.
type Finding struct {
	Kind    FindingKind `json:"kind"`
	Label   string      `json:"label"`
	Version uint32      `json:"version,omitempty"` // 0 where the whole key is meant
	HSMs    []string    `json:"hsms"`              // that lack it, or that differ
	Detail  string      `json:"detail"`            // what differs and what to do, one sentence
	Since   time.Time   `json:"since"`
}

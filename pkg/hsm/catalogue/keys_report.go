package catalogue

// Keys as operators see them: each version, its state, and what each HSM holds of it. It comes from
// the last listing and waits for no HSM.

import (
	"cmp"
	"encoding/hex"
	"slices"
	"strings"

	"xks-proxy/pkg/hsm"
)

// KeyState is the state of a key version in one word.
type KeyState string

// The states of a key version. If several apply, the first in this list counts.
const (
	KeyDiffers   KeyState = "differs"  // key material or attributes differ
	KeyDoubtful  KeyState = "doubtful" // CKA_ID does not say which version it is
	KeyIsMissing KeyState = "missing"  // on an HSM
	KeyUnusable  KeyState = "unusable" // not AES-256
	KeyUnknown   KeyState = "unknown"  // an HSM was never listed, or has an unreadable object
	KeyComplete  KeyState = "complete" // on every HSM, and alike
)

// KeyStates lists the states in that order.
func KeyStates() []KeyState {
	return []KeyState{KeyDiffers, KeyDoubtful, KeyIsMissing, KeyUnusable, KeyUnknown, KeyComplete}
}

// KeyReport is one version of a key, or a key that is not AES-256 and has no versions.
type KeyReport struct {
	Group      string   `json:"group"`
	Label      string   `json:"label"` // escaped if it is not UTF-8; then LabelBytes has it
	LabelBytes []byte   `json:"labelBytes,omitempty"`
	Spec       string   `json:"spec"`
	Version    *uint32  `json:"version,omitempty"` // nil if it is not AES-256
	State      KeyState `json:"state"`
	// Encrypts is true if new ciphertexts are made under this version.
	Encrypts bool `json:"encrypts"`
	// TestKey is true of the proxy's own key, which no key store can use.
	TestKey bool `json:"testKey,omitempty"`
	// Notes say what is wrong and what to do.
	Notes []string `json:"notes,omitempty"`
	// HSMs has an entry for each HSM whose keys are known.
	HSMs []KeyOnHSM `json:"hsms"`
}

// KeyOnHSM is what one HSM holds of a key version: no object if it is missing there, several if
// they have the same version.
type KeyOnHSM struct {
	HSM     string      `json:"hsm"`
	Objects []KeyObject `json:"objects"`
}

// KeyObject is one key object.
type KeyObject struct {
	ID               string   `json:"id"` // CKA_ID in hex; "" if there is none
	Spec             string   `json:"spec"`
	Usage            []string `json:"usage"` // encrypt, decrypt, sign, verify, wrap, unwrap, derive
	Sensitive        bool     `json:"sensitive"`
	AlwaysSensitive  bool     `json:"alwaysSensitive"`
	Extractable      bool     `json:"extractable"`
	NeverExtractable bool     `json:"neverExtractable"`
	Local            bool     `json:"local"` // generated on this HSM
}

// ExactLabel returns the label byte for byte.
func (r *KeyReport) ExactLabel() string { return hsm.DecodeLabel(r.Label, r.LabelBytes) }

// HeldKeys is what one HSM holds, as far as known.
type HeldKeys struct {
	Name       string
	Objects    map[string][]hsm.Object // by label; nil: never listed
	Unreadable map[string]bool         // labels of objects that could not be read
}

// Report returns one report for each version. base holds the fields that are the same for all.
func (k *Key) Report(base KeyReport, held []HeldKeys, findings []Finding) []KeyReport {
	base.Spec = k.Spec
	base.Label, base.LabelBytes = hsm.EncodeLabel(k.Label)
	if len(k.versions) == 0 {
		base.State = KeyUnusable
		base.HSMs = onHSMs(k.Label, held, func(hsm.Object) bool { return true })
		base.Notes = NotesOf(findings, 0, false)
		return []KeyReport{base}
	}
	encrypt, err := k.EncryptVersion()
	var reports []KeyReport
	for i := range k.versions {
		v := &k.versions[i]
		r := base
		r.Version = new(v.number)
		r.Encrypts = err == nil && v.number == encrypt
		r.HSMs = onHSMs(
			k.Label,
			held,
			func(o hsm.Object) bool { return o.IsAES256() && o.Version() == v.number },
		)
		r.State = k.state(v, r.HSMs, findings)
		r.Notes = NotesOf(findings, v.number, true)
		reports = append(reports, r)
	}
	return reports
}

// onHSMs lists what each HSM holds, without the HSMs of which that is not known.
func onHSMs(label string, held []HeldKeys, is func(hsm.Object) bool) []KeyOnHSM {
	list := []KeyOnHSM{}
	for _, h := range held {
		if h.Objects == nil || h.Unreadable[label] {
			continue
		}
		on := KeyOnHSM{HSM: h.Name, Objects: []KeyObject{}}
		for _, o := range h.Objects[label] {
			if is(o) {
				on.Objects = append(on.Objects, keyObject(o))
			}
		}
		list = append(list, on)
	}
	return list
}

func keyObject(o hsm.Object) KeyObject {
	return KeyObject{
		ID: strings.ToUpper(hex.EncodeToString(o.ID)), Spec: o.Spec(), Usage: usageList(o.Usage),
		Sensitive: o.Sensitive, AlwaysSensitive: o.AlwaysSensitive,
		Extractable: o.Extractable, NeverExtractable: o.NeverExtractable, Local: o.Local,
	}
}

// state returns the first state that applies, partly from the findings.
func (k *Key) state(v *Version, held []KeyOnHSM, findings []Finding) KeyState {
	has := func(kinds ...FindingKind) bool {
		return slices.ContainsFunc(
			findings,
			func(f Finding) bool { return f.Version == v.number && slices.Contains(kinds, f.Kind) },
		)
	}
	missing := slices.ContainsFunc(held, func(on KeyOnHSM) bool { return len(on.Objects) == 0 })
	switch {
	case v.diverged, has(MaterialDiffers, AttributesDiffer):
		return KeyDiffers
	case v.ambiguous != 0, has(VersionDoubtful, VersionImplausible):
		return KeyDoubtful
	case missing:
		return KeyIsMissing
	case k.unknownHolder:
		return KeyUnknown
	}
	return KeyComplete
}

// NotesOf returns the findings about a version and about the whole key, the most severe first.
func NotesOf(findings []Finding, version uint32, versioned bool) []string {
	about := slices.DeleteFunc(slices.Clone(findings), func(f Finding) bool {
		whole := f.Kind == KeyMissing || f.Kind == NotAnEncryptionKey && f.Version == 0
		return versioned && f.Version != version && !whole
	})
	slices.SortStableFunc(
		about,
		func(a, b Finding) int { return cmp.Compare(b.Kind.Severity(), a.Kind.Severity()) },
	)
	var notes []string
	for _, f := range about {
		notes = append(notes, string(f.Kind)+": "+f.Detail)
	}
	return notes
}

package catalogue

// Findings grouped for people: one line for the same problem with many keys.

import (
	"cmp"
	"slices"
	"strings"

	"xks-proxy/pkg/hsm"
)

// FindingGroup is one or more findings with the same kind, HSMs and detail.
type FindingGroup struct {
	Finding                // the first; Since is the earliest of all
	Others  []FindingPlace // the other keys and versions, in order
}

// FindingPlace is the key version that a finding concerns.
type FindingPlace struct {
	Label   string
	Version uint32 // 0 where the whole key is meant
}

// Count returns the number of findings in the group.
func (g FindingGroup) Count() int { return 1 + len(g.Others) }

// GroupFindings groups findings, the most severe first. Doubtful and implausible versions are
// grouped although each detail names another CKA_ID.
func GroupFindings(findings []Finding) []FindingGroup {
	type same struct {
		kind         FindingKind
		hsms, detail string
	}
	var groups []FindingGroup
	places := map[same]int{}
	for _, f := range findings {
		key := same{f.Kind, strings.Join(f.HSMs, "\x00"), f.Detail}
		if f.Kind == VersionDoubtful || f.Kind == VersionImplausible {
			key.detail = ""
		}
		i, known := places[key]
		if !known {
			places[key] = len(groups)
			groups = append(groups, FindingGroup{Finding: f})
			continue
		}
		g := &groups[i]
		if len(g.Others) == 0 && key.detail == "" {
			g.Detail = "of the first, " + g.Detail
		}
		g.Others = append(g.Others, FindingPlace{f.Label, f.Version})
		if f.Since.Before(g.Since) {
			g.Since = f.Since
		}
	}
	slices.SortStableFunc(
		groups,
		func(a, b FindingGroup) int { return cmp.Compare(b.Kind.Severity(), a.Kind.Severity()) },
	)
	return groups
}

// Severity is how serious a finding is.
type Severity int

// The severities, in ascending order.
const (
	Minor   Severity = iota // nothing that the proxy does depends on it
	Warning                 // an operator should look at it
	Severe                  // it can cost data or availability when an HSM fails
)

// FindingKinds lists all kinds.
func FindingKinds() []FindingKind {
	return []FindingKind{
		KeyMissing, VersionMissing, AttributesDiffer, UnusedDiffer, DuplicateVersion,
		MaterialDiffers, KeyFails,
		VersionDoubtful, VersionImplausible, NotAnEncryptionKey,
	}
}

// loggedLabels is the number of labels that a log line names.
const loggedLabels = 10

// Labels returns the first labels of the group, for a log line.
func (g FindingGroup) Labels() []string {
	labels := []string{hsm.ShowLabel(g.Label)}
	for _, place := range g.Others[:min(len(g.Others), loggedLabels-1)] {
		labels = append(labels, hsm.ShowLabel(place.Label))
	}
	return labels
}

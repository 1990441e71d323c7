package catalogue

// The difference between two listings of one HSM.

import (
	"slices"

	"xks-proxy/pkg/hsm"
)

// ChangedLabels returns the labels that are new, changed or gone.
func ChangedLabels(before, now map[string][]hsm.Object) []string {
	var changed []string
	for label, objects := range now {
		if !hsm.SameObjects(before[label], objects) {
			changed = append(changed, label)
		}
	}
	for label := range before {
		if len(now[label]) == 0 {
			changed = append(changed, label)
		}
	}
	return changed
}

// ByLabel groups objects by label and sorts each group, so that two listings can be compared.
func ByLabel(list []hsm.Object) map[string][]hsm.Object {
	objects := map[string][]hsm.Object{}
	for _, object := range list {
		objects[object.Label] = append(objects[object.Label], object)
	}
	for _, same := range objects {
		hsm.SortObjects(same)
	}
	return objects
}

// ListingDiff is what changed between two listings of one HSM.
type ListingDiff struct {
	Keys    int      // labels on the HSM now
	First   bool     // its keys were never listed before
	Added   []string // labels, sorted
	Changed []string // with other objects, or objects with other attributes, than before
	Gone    []string
}

// DiffListings compares two listings; before is nil if after is the first.
func DiffListings(before, after map[string][]hsm.Object) ListingDiff {
	r := ListingDiff{Keys: len(after), First: before == nil}
	for _, label := range slices.Sorted(slices.Values(ChangedLabels(before, after))) {
		switch {
		case len(before[label]) == 0:
			r.Added = append(r.Added, label)
		case len(after[label]) == 0:
			r.Gone = append(r.Gone, label)
		default:
			r.Changed = append(r.Changed, label)
		}
	}
	return r
}

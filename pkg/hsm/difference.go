package hsm

// What has changed between two listings of one HSM.

import "slices"

// changedLabels are the keys that are there now and were not, those that are not as they were, and those that are gone.
func changedLabels(before, now map[string][]Object) []string {
	var changed []string
	for label, objects := range now {
		if !sameObjects(before[label], objects) {
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

// byLabel sorts the objects of each label, so that two listings can be compared.
func byLabel(list []Object) map[string][]Object {
	objects := map[string][]Object{}
	for _, object := range list {
		objects[object.Label] = append(objects[object.Label], object)
	}
	for _, same := range objects {
		sorted(same)
	}
	return objects
}

// Refreshed is what a listing has changed.
type Refreshed struct {
	Keys    int      // labels on the HSM now
	First   bool     // its keys were never listed before
	Added   []string // labels, sorted
	Changed []string // with other objects, or objects with other attributes, than before
	Gone    []string
}

// difference is what a listing has changed; before is nil if it was the first.
func difference(before, after map[string][]Object) Refreshed {
	r := Refreshed{Keys: len(after), First: before == nil}
	for _, label := range slices.Sorted(slices.Values(changedLabels(before, after))) {
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

package main

// What differs between two configurations, in whole elements. (A stand-in: another file of this name takes its place.)

import (
	"reflect"
	"strings"
)

// configChange is one key that differs.
type configChange struct {
	Key      string
	Old, New string // "" where there is none
	Restart  bool   // it takes a restart
	Kind     string // "+", "-" or "~"
}

// diffConfigs says what a reload from old to new would change.
func diffConfigs(old, new *config, oldSecrets, newSecrets *secrets) []configChange {
	var changes []configChange
	one := func(key string, a, b any, restart bool) {
		if !reflect.DeepEqual(a, b) {
			changes = append(changes, configChange{Key: key, Old: "old", New: "new", Restart: restart, Kind: "~"})
		}
	}
	o, n := reflect.ValueOf(*old), reflect.ValueOf(*new)
	for i := range o.NumField() {
		f := o.Type().Field(i)
		name := f.Tag.Get("mapstructure")
		switch {
		case name == "" || name == "hsms" || name == "hsm_groups" || name == "key_stores":
		case f.Type.Kind() == reflect.Struct:
			for j := range f.Type.NumField() {
				key := name + "." + f.Type.Field(j).Tag.Get("mapstructure")
				one(key, o.Field(i).Field(j).Interface(), n.Field(i).Field(j).Interface(), needsRestart(key))
			}
		default:
			one(name, o.Field(i).Interface(), n.Field(i).Interface(), needsRestart(name))
		}
	}
	changes = append(changes, diffLists("hsms", old.HSMs, new.HSMs, func(h hsmConfig) string { return h.Name })...)
	changes = append(changes, diffLists("hsm_groups", old.HSMGroups, new.HSMGroups, func(g hsmGroupConfig) string { return g.Name })...)
	changes = append(changes, diffLists("key_stores", old.KeyStores, new.KeyStores, func(k keyStoreConfig) string { return k.Name })...)
	for name, pin := range newSecrets.PINs {
		before, known := oldSecrets.PINs[name]
		if known && before.reveal() != pin.reveal() {
			changes = append(changes, configChange{Key: "hsms[" + name + "].pin", Old: redacted, New: redacted, Kind: "~"})
		}
	}
	for name, keys := range newSecrets.AccessKeys {
		before, known := oldSecrets.AccessKeys[name]
		if known && !reflect.DeepEqual(before, keys) {
			changes = append(changes, configChange{Key: "key_stores[" + name + "].credentials", Old: redacted, New: redacted, Kind: "~"})
		}
	}
	return changes
}

func diffLists[T any](list string, old, new []T, name func(T) string) []configChange {
	before := map[string]T{}
	for _, one := range old {
		before[name(one)] = one
	}
	var changes []configChange
	for _, one := range new {
		key := list + "[" + name(one) + "]"
		was, known := before[name(one)]
		delete(before, name(one))
		switch {
		case !known:
			changes = append(changes, configChange{Key: key, New: strings.TrimSuffix(list, "s"), Kind: "+"})
		case !reflect.DeepEqual(was, one):
			changes = append(changes, configChange{Key: key, Old: "old", New: "new", Kind: "~"})
		}
	}
	for gone := range before {
		changes = append(changes, configChange{Key: list + "[" + gone + "]", Old: strings.TrimSuffix(list, "s"), Kind: "-"})
	}
	return changes
}

package main

// What a reload would change: two configurations compared key by key. Elements of lists are known by what they are
// called, not by their number, so that the order of files does not matter. The schema says how.

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"strings"
	"time"

	"xks-proxy/internal/secret"
)

// The kinds of a configChange.
const (
	added   = "added"   // an element that the old configuration has not
	removed = "removed" // one that the new has not
	changed = "changed"
)

// configChange is one key, or one element of a list as a whole.
type configChange struct {
	Key string `json:"key"` // such as key_stores[payroll].quota.requests_per_second

	// As in the file; secrets as "[redacted]"; "" for an element that is added or removed.
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`

	Restart bool   `json:"restart,omitempty"` // it takes effect at the next start only
	Kind    string `json:"kind"`              // added, removed or changed
}

// sign is + for what is added, - for what is removed, ~ for what changes.
func (c configChange) sign() string {
	switch c.Kind {
	case added:
		return "+"
	case removed:
		return "-"
	}
	return "~"
}

// diffConfigs compares two checked configurations, in the order of the schema and, in lists, of the old configuration and then
// the new. Secrets are compared by value; without them (nil) only where they are from is. Policies are compared by the
// content of their files.
func diffConfigs(old, new *config, oldSecrets, newSecrets *secrets) []configChange {
	d := &differ{old: valuesOf(old, oldSecrets), new: valuesOf(new, newSecrets)}
	d.section(schema, reflect.ValueOf(old).Elem(), reflect.ValueOf(new).Elem(), "", false)
	return d.changes
}

// readValues is what was read beside the configuration itself, by key as a configChange has it.
type readValues struct {
	secrets  map[string]secret.Secret
	policies map[string][sha256.Size]byte
}

func valuesOf(c *config, s *secrets) readValues {
	v := readValues{secrets: map[string]secret.Secret{}, policies: map[string][sha256.Size]byte{}}
	for name, policies := range c.policies {
		if policies != nil {
			v.policies["key_stores["+name+"].policy.files"] = policies.Digest()
		}
	}
	if s == nil {
		return v
	}
	for name, pin := range s.PINs {
		v.secrets["hsms["+name+"].pin"] = pin
	}
	for name, keys := range s.AccessKeys {
		for _, key := range keys {
			v.secrets["key_stores["+name+"].credentials["+key.ID+"].secret_access_key"] = key.Secret
		}
	}
	return v
}

// differ collects the changes.
type differ struct {
	old, new readValues
	changes  []configChange
}

func (d *differ) section(s *setting, old, new reflect.Value, path string, restart bool) {
	for _, f := range s.Fields {
		was, is := old.Field(f.Index), new.Field(f.Index)
		if f.isMapping() || f.Path != "" && f.List || !sameValue(was, is) { // most of a thousand key stores is the same, and needs no path
			d.field(f, was, is, joinPath(path, f.Name), restart || f.Restart)
		}
	}
}

func (d *differ) field(s *setting, old, new reflect.Value, path string, restart bool) {
	switch {
	case s.Kind == section && s.List:
		d.sections(s, old, new, path, restart)
	case s.Kind == section:
		d.section(s, old, new, path, restart)
	case s.Kind == secretKind:
		d.secret(old.Interface().(secret.Ref), new.Interface().(secret.Ref), path, restart)
	case !sameValue(old, new):
		d.change(path, shownValue(s, old), shownValue(s, new), restart)
	case d.old.policies[path] != d.new.policies[path]:
		d.change(path, shownValue(s, old), "content changed", restart)
	}
}

// sameValue compares what is not a section. No list and an empty one are the same.
func sameValue(old, new reflect.Value) bool {
	switch old.Kind() {
	case reflect.String:
		return old.String() == new.String()
	case reflect.Slice:
		return old.Len() == 0 && new.Len() == 0 || reflect.DeepEqual(old.Interface(), new.Interface())
	case reflect.Pointer:
		return reflect.DeepEqual(old.Interface(), new.Interface())
	default:
		return old.Equal(new)
	}
}

// sections compares lists by the identity of their elements.
func (d *differ) sections(s *setting, old, new reflect.Value, path string, restart bool) {
	identity := identityOf(s)
	byName := make(map[string]int, new.Len())
	for i := range new.Len() {
		byName[new.Index(i).Field(identity.Index).String()] = i
	}
	known := make(map[string]bool, old.Len())
	for i := range old.Len() {
		name := old.Index(i).Field(identity.Index).String()
		known[name] = true
		key := path + "[" + name + "]"
		j, stays := byName[name]
		if !stays {
			d.changes = append(d.changes, configChange{Key: key, Restart: restart || identity.Restart, Kind: removed})
			continue
		}
		d.section(s, old.Index(i), new.Index(j), key, restart)
	}
	for i := range new.Len() {
		name := new.Index(i).Field(identity.Index).String()
		if !known[name] {
			d.changes = append(d.changes, configChange{Key: path + "[" + name + "]", Restart: restart || identity.Restart, Kind: added})
		}
	}
}

// identityOf is the key by which elements are known. Every list of sections has one; a test sees to it.
func identityOf(s *setting) *setting {
	for _, f := range s.Fields {
		if f.Identity {
			return f
		}
	}
	return s.Fields[0]
}

// secret tells a secret of another value, or the same from elsewhere.
func (d *differ) secret(old, new secret.Ref, path string, restart bool) {
	switch {
	case d.old.secrets[path].Reveal() != d.new.secrets[path].Reveal():
		d.change(path, secret.Redacted, secret.Redacted, restart)
	case !reflect.DeepEqual(old, new):
		d.change(path, old.String(), new.String(), restart)
	}
}

func (d *differ) change(key, old, new string, restart bool) {
	d.changes = append(d.changes, configChange{Key: key, Old: old, New: new, Restart: restart, Kind: changed})
}

// shownValue is a value as it would stand in the file; "" where there is none.
func shownValue(s *setting, v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return ""
		}
		return shownValue(s, v.Elem())
	case reflect.Slice:
		elements := make([]string, 0, v.Len())
		for i := range v.Len() {
			elements = append(elements, shownValue(s, v.Index(i)))
		}
		return "[" + strings.Join(elements, ", ") + "]"
	case reflect.String:
		if v.String() == "" {
			return `""`
		}
		return v.String()
	}
	if s.Kind == duration {
		return time.Duration(v.Int()).String()
	}
	if s.Hex {
		return fmt.Sprintf("0x%X", v.Uint())
	}
	return fmt.Sprint(v.Interface())
}

package config

// What a reload would change: two configurations compared key by key. Elements of lists are
// compared by name, not by position, so that the order of files does not matter. The schema says
// which key is the name.

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"strings"
	"time"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/secret"
)

// The kinds of a Change.
const (
	Added   = "added"   // an element that the old configuration does not have
	Removed = "removed" // an element that the new one does not have
	Changed = "changed"
)

// Change is one key, or one element of a list as a whole.
type Change struct {
	Key string `json:"key"` // such as key_stores[payroll].quota.requests_per_second

	// As in the file; secrets as "[redacted]"; "" for an element that is added or removed.
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`

	Restart bool   `json:"restart,omitempty"` // it takes effect at the next start only
	Kind    string `json:"kind"`              // added, removed or changed
}

// Sign is + for what is added, - for what is removed, ~ for what changes.
func (c Change) Sign() string {
	switch c.Kind {
	case Added:
		return "+"
	case Removed:
		return "-"
	}
	return "~"
}

// Diff compares two checked configurations. The changes are in the order of the schema and, within
// a list, first in that of the old configuration. Secrets are compared by value, or if they are
// nil, by their references. Policies are compared by the content of their files.
func Diff(old, new *Config, oldSecrets, newSecrets *Secrets) []Change {
	d := &differ{old: valuesOf(old, oldSecrets), new: valuesOf(new, newSecrets)}
	d.section(Schema, reflect.ValueOf(old).Elem(), reflect.ValueOf(new).Elem(), "", false)
	return d.changes
}

// readValues are the secrets and policies of a configuration, by the key as in Change.Key.
type readValues struct {
	secrets  map[string]secret.Secret
	policies map[string][sha256.Size]byte
}

func valuesOf(c *Config, s *Secrets) readValues {
	v := readValues{secrets: map[string]secret.Secret{}, policies: map[string][sha256.Size]byte{}}
	for name, policies := range c.Policies {
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
	changes  []Change
}

func (d *differ) section(s *schema.Setting, old, new reflect.Value, path string, restart bool) {
	for _, f := range s.Fields {
		was, is := old.Field(f.Index), new.Field(f.Index)
		if f.IsMapping() || f.Path != "" && f.List ||
			!SameValue(was, is) { // most of a thousand key stores is the same, and needs no path
			d.field(f, was, is, schema.JoinPath(path, f.Name), restart || f.Restart)
		}
	}
}

func (d *differ) field(s *schema.Setting, old, new reflect.Value, path string, restart bool) {
	switch {
	case s.Kind == schema.Section && s.List:
		d.sections(s, old, new, path, restart)
	case s.Kind == schema.Section:
		d.section(s, old, new, path, restart)
	case s.Kind == schema.SecretKind:
		d.secret(old.Interface().(secret.Ref), new.Interface().(secret.Ref), path, restart)
	case !SameValue(old, new):
		d.change(path, ShownValue(s, old), ShownValue(s, new), restart)
	case d.old.policies[path] != d.new.policies[path]:
		d.change(path, ShownValue(s, old), "content changed", restart)
	}
}

// SameValue compares two values that are not sections. A missing list equals an empty one.
func SameValue(old, new reflect.Value) bool {
	switch old.Kind() {
	case reflect.String:
		return old.String() == new.String()
	case reflect.Slice:
		return old.Len() == 0 && new.Len() == 0 ||
			reflect.DeepEqual(old.Interface(), new.Interface())
	case reflect.Pointer:
		return reflect.DeepEqual(old.Interface(), new.Interface())
	default:
		return old.Equal(new)
	}
}

// sections compares lists by the identity of their elements.
func (d *differ) sections(s *schema.Setting, old, new reflect.Value, path string, restart bool) {
	identity := IdentityOf(s)
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
			d.changes = append(
				d.changes, Change{Key: key, Restart: restart || identity.Restart, Kind: Removed},
			)
			continue
		}
		d.section(s, old.Index(i), new.Index(j), key, restart)
	}
	for i := range new.Len() {
		name := new.Index(i).Field(identity.Index).String()
		if !known[name] {
			d.changes = append(
				d.changes,
				Change{
					Key: path + "[" + name + "]", Restart: restart || identity.Restart, Kind: Added,
				},
			)
		}
	}
}

// IdentityOf returns the key that names the elements of a list of sections. A test checks that
// every such list has one.
func IdentityOf(s *schema.Setting) *schema.Setting {
	for _, f := range s.Fields {
		if f.Identity {
			return f
		}
	}
	return s.Fields[0]
}

// secret adds a change of the value of a secret or of its reference.
func (d *differ) secret(old, new secret.Ref, path string, restart bool) {
	switch {
	case d.old.secrets[path].Reveal() != d.new.secrets[path].Reveal():
		d.change(path, secret.Redacted, secret.Redacted, restart)
	case !reflect.DeepEqual(old, new):
		d.change(path, old.String(), new.String(), restart)
	}
}

func (d *differ) change(key, old, new string, restart bool) {
	d.changes = append(
		d.changes, Change{Key: key, Old: old, New: new, Restart: restart, Kind: Changed},
	)
}

// ShownValue formats a value as in the file. It returns "" for a value that is not set.
func ShownValue(s *schema.Setting, v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return ""
		}
		return ShownValue(s, v.Elem())
	case reflect.Slice:
		elements := make([]string, 0, v.Len())
		for i := range v.Len() {
			elements = append(elements, ShownValue(s, v.Index(i)))
		}
		return "[" + strings.Join(elements, ", ") + "]"
	case reflect.String:
		if v.String() == "" {
			return `""`
		}
		return v.String()
	}
	if s.Kind == schema.Duration {
		return time.Duration(v.Int()).String()
	}
	if s.Hex {
		return fmt.Sprintf("0x%X", v.Uint())
	}
	return fmt.Sprint(v.Interface())
}

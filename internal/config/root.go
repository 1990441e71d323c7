package config

// The schema of this program's configuration, and the rules by which a change of a key loosens
// protection. The tag loosens of a key names its rule; internal/loosening applies it.

import (
	"io"
	"reflect"

	"xks-proxy/internal/config/schema"
)

// The rules about sections, and LoosensNever and LoosensBelow, which have no function.
const (
	LoosensNever  = "never"  // changes here or below do not loosen
	LoosensBelow  = "below"  // the keys below have their own rules
	LoosensAdded  = "added"  // a new element loosens
	LoosensStores = "stores" // a new key store that reaches a key of another one loosens
	LoosensShared = "shared" // a new member that is an HSM of another group loosens
)

// LooseningRules describes each rule for the reference, after the word "Loosens".
var LooseningRules = map[string]string{
	LoosensAdded:  "when an entry is added",
	LoosensStores: "when a new key store reaches a key of another one",
	LoosensShared: "when an HSM of another group is added",
	"any":         "when it changes",
	"emptied":     "when it is removed",
	"another":     "when it becomes that of another HSM",
	"extra":       "when an entry is added, or none is left",
	"more":        "when an entry is added",
	"missing":     "when an entry is removed",
	"to":          "when it becomes that",
	"limit":       "when it is raised or removed",
	"labels":      "when it matches a label that it did not",
	"authorities": "when a CA is added or replaced, or none is left",
	"clients":     "when an entry is added",
	"policies": "when a forbid is removed or changed, " +
		"a permit is added or changed, or no policy is left",
	"named":       "when it changes and the key store has a policy",
	"unenforced":  "when it becomes shadow",
	"confinement": "when it becomes off, or is strict no longer",
}

// Schema is the schema of the main file.
var Schema = schema.CompileSchema(reflect.TypeFor[Config](), LooseningRules)

// storeSchema is what one file of the key store directory holds.
var storeSchema = func() *schema.Setting {
	s, _ := Schema.Field(schema.KeyStoresKey)
	return &schema.Setting{Kind: schema.Section, Fields: s.Fields}
}()

// WriteSchema writes a JSON Schema of the main file or, with ofKeyStore, of a file of the key store
// directory.
func WriteSchema(w io.Writer, ofKeyStore bool) error {
	if ofKeyStore { // its name is by default that of the file
		return schema.WriteJSONSchema(
			w, storeSchema, "A key store of xks-proxy, as a file of key_store_directory", "name",
		)
	}
	return schema.WriteJSONSchema(w, Schema, "The configuration of xks-proxy")
}

// WriteReference writes docs/configuration.md.
func WriteReference(w io.Writer) error { return schema.WriteDocument(w, Schema) }

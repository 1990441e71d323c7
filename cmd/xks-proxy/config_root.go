package main

// The schema of this program's configuration, and the rules by which a change of a key loosens
// protection. The tag loosens of a key names its rule; internal/loosening applies it.

import (
	"io"
	"reflect"
)

// The rules that are about sections, or about nothing.
const (
	loosensNever  = "never"  // no change does, here or below
	loosensBelow  = "below"  // what is below says
	loosensAdded  = "added"  // an element more does
	loosensStores = "stores" // key stores: a new one that reaches a key of another one
	loosensShared = "shared" // members of a group: an HSM of another group
)

// looseningRules are all rules, in words for the reference: "Loosens" and these.
var looseningRules = map[string]string{
	loosensAdded:  "when an entry is added",
	loosensStores: "when a new key store reaches a key of another one",
	loosensShared: "when an HSM of another group is added",
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
	"policies":    "when a forbid is removed or changed, a permit is added or changed, " + "or no policy is left",
	"named":       "when it changes and the key store has a policy",
	"unenforced":  "when it becomes shadow",
	"confinement": "when it becomes off, or is strict no longer",
}

// schema is that of the main file.
var schema = compileSchema(reflect.TypeFor[config](), looseningRules)

// storeSchema is what one file of the key store directory holds.
var storeSchema = func() *setting {
	s, _ := schema.field(keyStoresKey)
	return &setting{Kind: section, Fields: s.Fields}
}()

// writeSchema writes a JSON Schema of the main file or, with ofKeyStore, of a file of the key store
// directory.
func writeSchema(w io.Writer, ofKeyStore bool) error {
	if ofKeyStore { // its name is by default that of the file
		return writeJSONSchema(
			w, storeSchema, "A key store of xks-proxy, as a file of key_store_directory", "name",
		)
	}
	return writeJSONSchema(w, schema, "The configuration of xks-proxy")
}

// writeReference writes docs/configuration.md.
func writeReference(w io.Writer) error { return writeDocument(w, schema) }

// Package schema reads YAML strictly against a schema that it compiles from struct tags, and
// reports every problem with its file, line and column. It also prints the schema: as a reference
// and as JSON Schema. It knows no key of this program.
package schema

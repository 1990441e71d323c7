package main

// The reference of all keys as Markdown, made from the schema: what
// docs/configuration.md holds and `config reference` prints.

import (
	"fmt"
	"io"
	"strings"
)

//go:generate go test -run TestConfigurationReference -update .

const referenceIntro = `# Configuration

<!-- Made from the types in cmd/xks-proxy by "go generate ./cmd/xks-proxy". Do not edit. -->

xks-proxy reads one YAML file. [configs/xks-proxy.yaml](../configs/xks-proxy.yaml) is an example that
explains each key where it stands; this is the list of all keys.

- ` + "`xks-proxy config check FILE`" + ` says whether a file is good, and everything that is wrong with it.
- ` + "`xks-proxy config show FILE`" + ` prints what is in effect: the file, the environment and the defaults together.

The file is read strictly. Unknown, repeated and misplaced keys, values of another type and references to what
does not exist are errors with file, line and column. A key without a default that is not required may be left out.
Relative paths, also of defaults and variables, start at the directory of the file. Durations are written like ` + "`200ms`, `5s`, `1m30s`" + `,
numbers like ` + "`4096` or `0x1087`" + `. YAML anchors and aliases work; ` + "`<<`" + ` and tags do not. The file has at most 1 MiB.

## Environment

Every key that holds a value can be overridden by a variable: ` + "`XKS_`" + ` and the path of the key in capitals, joined with
underscores; entries of a list by their number, from 0: ` + "`XKS_SERVER_LISTEN`, `XKS_HSMS_0_TOKEN`,\n`XKS_KEY_STORES_1_HSM_GROUP`" + `.
The value is plain text; a list of texts or numbers is comma-separated, and the empty text is the empty list. The entries
themselves must be in the file: the environment changes values, it adds no HSM and no key store. Setting
one of the keys of a secret reference replaces the whole reference.

An ` + "`XKS_`" + ` variable that names no key is an error, with three exceptions:

- ` + "`XKS_CONFIG`" + ` names the configuration file for commands that are given none;
- variables that a secret reference (` + "`{env: XKS_…}`" + `) points to;
- what Kubernetes sets for a Service whose name begins with "xks" (` + "`XKS_…_SERVICE_HOST`, `XKS_…_PORT`" + ` and so on).

## Secrets

A PIN or a secret access key never stands in the file. In its place is a reference with exactly one of these keys:

| reference | where the secret is |
|---|---|
| ` + "`{file: pins/hsm-a.pin}`" + ` | a regular file that only its owner can change and only owner and group can read (` + "`chmod 600`" + `; in Kubernetes ` + "`defaultMode: 0400`" + `) |
| ` + "`{env: HSM_A_PIN}`" + ` | an environment variable |
| ` + "`{credential: hsm-a-pin}`" + ` | a systemd credential (` + "`LoadCredential=hsm-a-pin:/path`" + `) |
| ` + "`{command: [vault, kv, get, -field=pin, secret/hsm-a]}`" + ` | what a program prints. It is run without a shell, in the directory of the configuration file, and has 10 seconds |

One line end after the secret is dropped; a secret has one line and at most 4096 bytes. Secrets are read by
` + "`serve` and `config check`" + ` only, and never logged or shown.

## Keys
`

// writeReference writes the whole document.
func writeReference(w io.Writer) error {
	var b strings.Builder
	b.WriteString(referenceIntro)
	referTo(&b, schema, "")
	_, err := io.WriteString(w, b.String())
	return err
}

// referTo writes a table of the keys of a section, then its sections.
func referTo(b *strings.Builder, s *setting, path string) {
	title := path
	if path == "" {
		title = "Top level"
	} else {
		title = "`" + title + "`"
	}
	fmt.Fprintf(b, "\n### %s\n\n", title)
	if s.Doc != "" {
		b.WriteString(escapeTable(s.Doc) + "\n\n")
	}
	b.WriteString("| key | type | default | environment | meaning |\n|---|---|---|---|---|\n")
	for _, f := range s.Fields {
		at := joinPath(path, f.Name)
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", f.Name, f.describeType(), f.describeDefault(), describeVariable(f, at), escapeTable(f.Doc))
	}
	for _, f := range s.Fields {
		if f.Kind != section {
			continue
		}
		at := joinPath(path, f.Name)
		if f.List {
			at += "[]"
		}
		referTo(b, f, at)
	}
}

// describeType is the type with what it allows.
func (s *setting) describeType() string {
	values := make([]string, 0, len(s.OneOf))
	for _, v := range s.OneOf {
		values = append(values, "`"+v+"`")
	}
	switch {
	case len(values) > 0:
		return strings.Join(values, ", ")
	case s.Hex && s.List:
		return s.typeName()
	case s.Min != "" && !s.Hex:
		return fmt.Sprintf("%s, %s to %s", s.typeName(), s.Min, s.Max)
	default:
		return s.typeName()
	}
}

func (s *setting) describeDefault() string {
	switch {
	case s.Default != "" && s.List:
		return "`[\"" + s.Default + "\"]`"
	case s.Default != "":
		return "`" + s.Default + "`"
	case s.Required:
		return "required"
	case s.HasValue && s.List:
		return "`[]`"
	case s.HasValue:
		return "`\"\"`"
	default:
		return ""
	}
}

func describeVariable(s *setting, path string) string {
	switch s.Kind {
	case section:
		return ""
	case secretKind:
		names := make([]string, 0, len(s.Fields))
		for _, f := range s.Fields {
			names = append(names, strings.ToUpper(f.Name))
		}
		return "`" + indexed(path) + "_`" + strings.Join(names, ", ")
	default:
		return "`" + indexed(path) + "`"
	}
}

// indexed is the name of the variable for the first entry of every list.
func indexed(path string) string {
	return environmentName(strings.ReplaceAll(path, "[]", "[0]"))
}

func escapeTable(s string) string {
	return strings.ReplaceAll(s, "|", "\\|")
}

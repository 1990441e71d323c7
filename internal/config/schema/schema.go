package schema

// The schema of a file, compiled once from the tags of its types. Mistakes in the tags are mistakes
// of the program and found by its tests.

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"xks-proxy/internal/secret"
)

// EnvironmentPrefix opens the name of every variable that overrides a key.
const EnvironmentPrefix = "XKS_"

// kind is what the value of a setting must be.
type kind int

// The kinds of values.
const (
	TextKind kind = iota
	Integer
	Boolean
	Duration
	Section
	SecretKind // a section of which exactly one key is given: secret.Ref
)

// Setting is one key of the file, with what is below it.
type Setting struct {
	Name     string
	Kind     kind
	List     bool     // a list of Kind
	Default  string   // as in the file
	HasValue bool     // Default counts, also if it is ""
	Doc      string   // one sentence or two
	Min, Max string   // the range, as in the file; "": any
	OneOf    []string // the values allowed; nil: any
	Required bool
	Path     string // "true": a path; "log": a path, stderr or stdout; "": not a path
	Hex      bool   // shown as 0x…
	Number   bool   // a text that may be a number
	// regular expression of a text, or of each of a list, for editors only: the checks are in Go
	Pattern  string
	Fill     string     // which values placeholders may have here; "": none are filled in
	Short    string     // of a section: what a text in its place is the value of; "": nothing
	Identity bool       // what an element of a list is called
	Restart  bool       // of this and all below it
	Loosens  string     // rule of what may let in what was refused: NAME or NAME:ARGUMENT
	loosens  string     // the rule in words; "" if no change loosens
	Index    int        // of the field in its struct
	Fields   []*Setting // of a section, or of each element of a list of sections
}

// CompileSchema compiles the types of a whole file, from the struct that is its root. rules
// describe the loosening rules that the tags may name, for the reference.
func CompileSchema(t reflect.Type, rules map[string]string) *Setting {
	s := &Setting{Kind: Section, Fields: compileFields(t)}
	s.describeLoosenings(rules)
	return s
}

func compileFields(t reflect.Type) []*Setting {
	fields := make([]*Setting, 0, t.NumField())
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("mapstructure"); name != "" && name != "-" {
			f := compileField(t.Field(i))
			f.Index = i
			fields = append(fields, f)
		}
	}
	return fields
}

func compileField(f reflect.StructField) *Setting {
	s := &Setting{
		Name:     f.Tag.Get("mapstructure"),
		Doc:      f.Tag.Get("doc"),
		Min:      f.Tag.Get("min"),
		Max:      f.Tag.Get("max"),
		Required: f.Tag.Get("required") == "true",
		Path:     f.Tag.Get("path"),
		Hex:      f.Tag.Get("hex") == "true",
		Number:   f.Tag.Get("number") == "true",
		Pattern:  f.Tag.Get("pattern"),
		Fill:     f.Tag.Get("fill"),
		Short:    f.Tag.Get("short"),
		Identity: f.Tag.Get("identity") == "true",
		Restart:  f.Tag.Get("restart") == "true",
		Loosens:  f.Tag.Get("loosens"),
	}
	s.Default, s.HasValue = f.Tag.Lookup("default")
	if values, ok := f.Tag.Lookup("oneof"); ok {
		s.OneOf = strings.Split(values, "|")
	}
	t := f.Type
	if t.Kind() == reflect.Slice {
		s.List = true
		t = t.Elem()
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if s.List && t.Kind() != reflect.Struct && !s.Hex ||
		t.Kind() == reflect.String && s.OneOf == nil {
		s.HasValue = true // "" or [] and no key at all are the same
	}
	switch {
	case t == reflect.TypeFor[time.Duration]():
		s.Kind = Duration
	case t == reflect.TypeFor[secret.Ref]():
		s.Kind = SecretKind
		s.Fields = compileFields(t)
	case t.Kind() == reflect.Struct:
		s.Kind = Section
		s.Fields = compileFields(t)
	case t.Kind() == reflect.String:
		s.Kind = TextKind
	case t.Kind() == reflect.Bool:
		s.Kind = Boolean
	case t.Kind() == reflect.Int, t.Kind() == reflect.Uint32:
		s.Kind = Integer
	default:
		// A mistake in the types of this program: every test that loads a configuration finds it.
		panic(fmt.Sprintf("schema: the key %s has the type %s, which is not supported", s.Name, t))
	}
	return s
}

// describeLoosenings puts the rules of s and all below it into words.
func (s *Setting) describeLoosenings(rules map[string]string) {
	for _, f := range s.Fields {
		f.describeLoosenings(rules)
	}
	name, argument, _ := strings.Cut(s.Loosens, ":")
	doc := rules[name]
	switch {
	case doc == "":
		return
	case name == "to":
		doc = "when it becomes " + argument
	case name == "another" && argument != "":
		doc += ", or is removed"
	}
	s.loosens = "**Loosens** " + doc + "."
}

// Field finds a key of a section.
func (s *Setting) Field(name string) (*Setting, bool) {
	for _, f := range s.Fields {
		if f.Name == name {
			return f, true
		}
	}
	return nil, false
}

func (s *Setting) fieldNames() []string {
	names := make([]string, 0, len(s.Fields))
	for _, f := range s.Fields {
		names = append(names, f.Name)
	}
	return names
}

// IsMapping reports whether a value (an element, for a list) has keys of its own.
func (s *Setting) IsMapping() bool {
	return s.Kind == Section || s.Kind == SecretKind
}

// typeName names the type of the value for the documentation and for errors.
func (s *Setting) typeName() string {
	name := map[kind]string{
		TextKind: "text", Integer: "number", Boolean: "true or false", Duration: "duration",
		Section: "section", SecretKind: "secret reference",
	}[s.Kind]
	if s.Path != "" {
		name = "path"
	}
	if s.Short != "" {
		name = "section or text"
	}
	if s.List {
		if s.Kind == Section {
			return "list of sections"
		}
		return "list of " + name + "s"
	}
	return name
}

// integerForm excludes numbers that YAML and Go read differently (octal) or that are unusual
// (1_000).
var integerForm = regexp.MustCompile(`^-?(0|[1-9][0-9]{0,18}|0x[0-9A-Fa-f]{1,16})$`)

func parseInteger(s string) (int64, error) {
	if !integerForm.MatchString(s) {
		return 0, fmt.Errorf("%q is not a number; write it like 4096 or 0x1000", s)
	}
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number: %w", s, err)
	}
	return n, nil
}

// ParseDuration reads a duration as in the file. The error says how to write one.
func ParseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err == nil {
		return d, nil
	}
	if integerForm.MatchString(s) {
		return 0, fmt.Errorf("%s has no unit; write %sms or %ss", s, s, s)
	}
	return 0, fmt.Errorf("%q is not a duration; write it like 200ms, 5s or 1m30s", s)
}

// checkRange parses value and returns an error unless it lies within Min and Max.
func checkRange[T ~int64](s *Setting, value string, parse func(string) (T, error)) (T, error) {
	n, err := parse(value)
	if err != nil || s.Min == "" {
		return n, err
	}
	least, err := parse(s.Min)
	if err != nil {
		return 0, fmt.Errorf("schema: min of %s: %w", s.Name, err)
	}
	most, err := parse(s.Max)
	if err != nil {
		return 0, fmt.Errorf("schema: max of %s: %w", s.Name, err)
	}
	if n < least || n > most {
		return 0, fmt.Errorf("%s is out of range; it must be from %s to %s", value, s.Min, s.Max)
	}
	return n, nil
}

// EnvironmentName is the variable that overrides the key at a path:
// hsms[0].pin.file -> XKS_HSMS_0_PIN_FILE.
func EnvironmentName(path string) string {
	return EnvironmentPrefix + strings.ToUpper(pathSigns.Replace(path))
}

// pathSigns is made once: a file of a thousand key stores has tens of thousands of paths.
var pathSigns = strings.NewReplacer(".", "_", "[", "_", "]", "")

package config

// The JSON Schema and the examples: both come from one source each, agree with each other, and
// allow and refuse what the program does.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"xks-proxy/configs"
	"xks-proxy/internal/testkit"
)

// compiledSchema is what `config schema` prints, for a library that knows nothing of us.
func compiledSchema(t *testing.T, ofKeyStore bool) *jsonschema.Schema {
	t.Helper()
	var printed bytes.Buffer
	err := WriteSchema(&printed, ofKeyStore)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(&printed)
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	err = compiler.AddResource("schema.json", document)
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("schema.json") // checks it against draft 7 itself
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// asJSON is a YAML document as JSON Schema sees it.
func asJSON(t *testing.T, text []byte) (any, error) {
	t.Helper()
	var value any
	err := yaml.Unmarshal(text, &value)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(data))
}

func validates(t *testing.T, schema *jsonschema.Schema, text []byte) error {
	t.Helper()
	value, err := asJSON(t, text)
	if err != nil {
		return fmt.Errorf("not YAML: %w", err)
	}
	return schema.Validate(value)
}

// What loads without the environment is valid.
func TestJSONSchemaAllowsWhatLoads(t *testing.T) {
	main, keyStore := compiledSchema(t, false), compiledSchema(t, true)
	for _, test := range shownCases(t) {
		err := validates(t, main, []byte(test.text))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		for name, text := range test.stores {
			err := validates(t, keyStore, []byte(text))
			if err != nil {
				t.Errorf("%s: %s: %v", test.name, name, err)
			}
		}
	}
	for _, value := range []string{"0", "\"0\"", "0s", "+5s", "1m3.5s", ".5s", "1.s", "1500µs",
		"1ms1us1ns"} {
		text := testkit.ValidConfig(t, "server: {", "server: {drain_delay: "+value+", ")
		l := parseWith(t, text)
		err := l.Report.Err()
		if err != nil {
			t.Fatal(err)
		}
		err = validates(t, main, []byte(text))
		if err != nil {
			t.Errorf("a duration of %s: %v", value, err)
		}
	}
	err := validates(t, keyStore, configs.KeyStore)
	if err != nil {
		t.Errorf("the example of a key store: %v", err)
	}
}

// oneKeyRules are the bad configurations whose fault lies in one key, by the beginning of their
// names: a schema finds those. It cannot know the range of a duration, that a token with a login
// needs a PIN, nor that 010 is 8 to some and 10 to others.
var oneKeyRules = []string{
	"wrong-type-", "unknown-", "missing-keys", "missing-sections", "number-",
	"duration-without-unit", "secret-literal", "secret-two",
	"hsm-profile", "policy-mode", "group-lost-key", "policy-files-text", "store-access-key-id",
	"store-region.", "store-no-cred",
}

func TestJSONSchemaRefusesWhatIsWrongInOneKey(t *testing.T) {
	main := compiledSchema(t, false)
	seen := map[string]bool{}
	files, err := filepath.Glob("testdata/config/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		for _, rule := range oneKeyRules {
			if !strings.HasPrefix(filepath.Base(file), rule) ||
				filepath.Base(file) == "wrong-type-octal.yaml" {
				continue
			}
			seen[rule] = true
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if validates(t, main, text) == nil {
				t.Errorf("%s is valid", filepath.Base(file))
			}
		}
	}
	if len(seen) != len(oneKeyRules) {
		t.Errorf("no file for some rules: %v", seen)
	}
}

package xks

// The tables of this package, held against the specification: operations and their errors (X2–X4),
// required fields (K3, E1, D1, H3), messages (X1, X6), configuration (U1, A6).

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/sigv4"
)

func TestOperations(t *testing.T) {
	all := []errorName{
		validation, invalidState, authenticationFailed, invalidURIPath, throttling, internal,
		unsupported, dependencyTimeout,
	}
	keys := slices.Concat(all, []errorName{accessDenied, keyNotFound})
	want := map[string]struct {
		path   string
		shed   bool
		errors []errorName
	}{
		"GetKeyMetadata": {"/keys/{externalKeyId}/metadata", true, keys},
		"Encrypt": {
			"/keys/{externalKeyId}/encrypt", true, append(slices.Clone(keys), invalidKeyUsage),
		},
		"Decrypt": {
			"/keys/{externalKeyId}/decrypt", true,
			append(slices.Clone(keys), invalidKeyUsage, invalidCiphertext),
		},
		"GetHealthStatus": {"/health", false, all},
	}
	if len(operations) != len(want) {
		t.Errorf("%d operations", len(operations))
	}
	for _, op := range operations {
		w := want[op.name]
		if op.path != w.path || op.shed != w.shed || op.keyed != strings.Contains(op.path, "{") ||
			len(op.errors) != len(w.errors) {
			t.Errorf("%s: %+v", op.name, op)
		}
		for _, name := range w.errors {
			if !op.errors[name] {
				t.Errorf("%s cannot answer %s", op.name, name)
			}
		}
		var names []string
		for _, f := range op.fields {
			names = append(names, f.name)
		}
		slices.Sort(names)
		indicator := map[string]string{"GetKeyMetadata": "metadata", "Encrypt": "encrypt", "Decrypt": "decrypt", "GetHealthStatus": "health"}[op.name]
		if !slices.Equal(names, requiredMetadata[indicator]) {
			t.Errorf("%s requires %v", op.name, names)
		}
		for name := range statusOf {
			got := op.allowed(failure(name, "x", nil))
			if op.errors[name] && got.name != name || !op.errors[name] && got.name != internal {
				t.Errorf("%s turns %s into %s", op.name, name, got.name)
			}
		}
	}
}

// X2.
func TestStatusOfErrors(t *testing.T) {
	want := map[errorName]int{
		"ValidationException": 400, "InvalidStateException": 400, "InvalidCiphertextException": 400, "InvalidKeyUsageException": 400,
		"AuthenticationFailedException": 401, "AccessDeniedException": 403, "KeyNotFoundException": 404, "InvalidUriPathException": 404,
		"ThrottlingException": 429, "InternalException": 500, "UnsupportedOperationException": 501, "DependencyTimeoutException": 503,
	}
	if len(statusOf) != len(want) {
		t.Errorf("%d error names", len(statusOf))
	}
	for name, status := range want {
		if statusOf[name] != status {
			t.Errorf("%s: %d", name, statusOf[name])
		}
	}
}

// X1, X6: every message in the source is fixed text, printable, and names nothing that is ours.
func TestMessages(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	check := func(e ast.Expr) {
		literal, ok := e.(*ast.BasicLit)
		if !ok {
			return
		}
		message, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		count++
		for _, word := range []string{"hsm", "pkcs", "ckr", "slot", "serial", "polic", "go:", "/", "\\", "%", "panic", "stack"} {
			if strings.Contains(strings.ToLower(message), word) {
				t.Errorf("%q says %q", message, word)
			}
		}
		if !goodMessage(message) ||
			!strings.HasSuffix(strings.TrimSuffix(message, ": "), ".") &&
				!strings.HasSuffix(message, ": ") {
			t.Errorf("%q", message)
		}
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "failure" {
					check(n.Args[1])
				}
			case *ast.KeyValueExpr:
				if f, ok := n.Key.(*ast.Ident); ok && f.Name == "message" {
					check(n.Value)
				}
			}
			return true
		})
	}
	if count < 15 {
		t.Errorf("only %d messages found", count)
	}
	for name := range knownFields {
		if message := missing(name).Error(); !goodMessage(message) {
			t.Errorf("%q", message)
		}
	}
}

// The mistakes that configuration refuses, each with what it says.
func TestConfigValidate(t *testing.T) {
	group := newRig(t).group
	good := func() Config {
		return Config{
			KeyStores: []KeyStoreConfig{
				{
					Name: "s", Group: group, Labels: []string{"*"},
					Credentials: []sigv4.Credential{testCredential},
				},
			},
		}
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	store := func(change func(*KeyStoreConfig)) func(*Config) { return func(c *Config) { change(&c.KeyStores[0]) } }
	for want, spoil := range map[string]func(*Config){
		"no key store":          func(c *Config) { c.KeyStores = nil },
		"below the 65536":       func(c *Config) { c.MaxBody = 65535 },
		"largest plaintext":     func(c *Config) { c.MaxData = 4299 },
		"largest plaintext, 65": func(c *Config) { c.MaxData = hsm.MaxDataSize + 1 },
		"authenticated data, 6": func(c *Config) { c.MaxAAD = 65536 },
		"authenticated data, 8": func(c *Config) { c.MaxAAD = 8191 },
		"budget is negative":    func(c *Config) { c.Budget = -1 },
		"too small":             func(c *Config) { c.MaxBodies = 1000 },
		"fleet size":            func(c *Config) { c.FleetSize = -1 },
		"named":                 func(c *Config) { c.KeyStores = append(c.KeyStores, c.KeyStores[0]) },
		"same path prefix":      func(c *Config) { c.KeyStores = append(c.KeyStores, c.KeyStores[0]); c.KeyStores[1].Name = "t" },
		"no name":               store(func(s *KeyStoreConfig) { s.Name = "" }),
		"no HSM group":          store(func(s *KeyStoreConfig) { s.Group = nil }),
		"labels is empty":       store(func(s *KeyStoreConfig) { s.Labels = nil }),
		"malformed":             store(func(s *KeyStoreConfig) { s.Labels = []string{"[a"} }),
		"does not hold {key_id": store(func(s *KeyStoreConfig) { s.Label = "fixed" }),
		"template \"{key_id}{k": store(func(s *KeyStoreConfig) { s.Label = "{key_id}{key_id}" }),
		"an external key id":    store(func(s *KeyStoreConfig) { s.Disabled = []string{"a b"} }),
		"path prefix":           store(func(s *KeyStoreConfig) { s.PathPrefix = "no-slash" }),
		"empty segment":         store(func(s *KeyStoreConfig) { s.PathPrefix = "/a/" }),
		"no credential":         store(func(s *KeyStoreConfig) { s.Credentials = nil }),
		"access key id":         store(func(s *KeyStoreConfig) { s.Credentials = []sigv4.Credential{{AccessKeyID: "short"}} }),
		"region":                store(func(s *KeyStoreConfig) { s.Regions = []string{"US EAST"} }),
	} {
		c := good()
		spoil(&c)
		err := c.Validate()
		if err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), testCredential.SecretAccessKey) {
			t.Errorf("%v does not say %q", err, want)
		}
		if _, err := NewHandler(c); err == nil {
			t.Errorf("%s: a handler was made", want)
		}
	}
}

package test

// The import rules of docs/design.md ("The house"), over the real import graph.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const ourModule = "xks-proxy"

// listed is one package as `go list -json` describes it.
type listed struct {
	ImportPath string
	Standard   bool
	CgoFiles   []string
	Imports    []string // direct, without those of tests
	Deps       []string // all, transitively
}

// importRule says what a package of ours may import directly.
type importRule struct {
	ours         []string // packages of ours, below the module path
	standardOnly bool     // nothing from outside the standard library
	pure         bool     // no cgo of ours or of others, however deep
}

const (
	miekg     = "github.com/miekg/pkcs11"
	sharedKit = "internal/testkit" // what tests share
)

// noRooms are names that say nothing about what is inside.
var noRooms = []string{"util", "utils", "common", "helper", "helpers", "misc"}

// breaches lists every import that the rules forbid.
func breaches(graph []listed) []string {
	byPath := map[string]listed{}
	for _, p := range graph {
		byPath[p.ImportPath] = p
	}
	var found []string
	for _, p := range graph {
		name, ours := below(p.ImportPath)
		if !ours || p.Standard {
			continue
		}
		if slices.Contains(noRooms, path.Base(name)) {
			found = append(
				found,
				fmt.Sprintf("%s: no package may be called %s", name, path.Base(name)),
			)
		}
		isTest := name == "test" || strings.HasPrefix(name, "test/") // may import what it tests
		rule, known := importRules[name]
		if !known && !isTest {
			found = append(
				found,
				fmt.Sprintf(
					"%s: no import rule; give it a place in importRules and in docs/design.md",
					name,
				),
			)
			continue
		}
		for _, imported := range p.Imports {
			reason := forbidden(name, rule, isTest, imported, byPath[imported].Standard)
			if reason != "" {
				found = append(found, fmt.Sprintf("%s imports %s: %s", name, imported, reason))
			}
		}
		if rule.pure {
			found = append(found, cgoIn(name, p, byPath)...)
		}
	}
	slices.Sort(found)
	return found
}

// forbidden says why a package may not import another; "" if it may.
func forbidden(name string, rule importRule, isTest bool, imported string, standard bool) string {
	other, ours := below(imported)
	switch {
	case ours && strings.HasPrefix(other, "cmd/"):
		return "nothing imports a command"
	case ours && strings.HasSuffix(path.Base(other), "test") && !isTest:
		return "fakes are for tests"
	case other == sharedKit && !isTest:
		return "only tests do"
	case ours && !isTest && !slices.Contains(rule.ours, other):
		return "imports go down only"
	case imported == miekg && name != "pkg/hsm/pkcs11":
		return "only pkg/hsm/pkcs11 does"
	case imported == "testing" && name != "pkg/hsm/hsmtest" && name != sharedKit && !isTest:
		return "only tests do"
	case rule.standardOnly && !standard && !ours:
		return "this package keeps to the standard library"
	}
	return ""
}

// cgoIn lists the packages with C in them that p is built from. The standard
// library is left out: net and os/user choose for themselves.
func cgoIn(name string, p listed, byPath map[string]listed) []string {
	var found []string
	for _, dependency := range append([]string{p.ImportPath}, p.Deps...) {
		d := byPath[dependency]
		if !d.Standard && len(d.CgoFiles) > 0 {
			found = append(
				found,
				fmt.Sprintf("%s is built from %s: it must not need cgo", name, d.ImportPath),
			)
		}
	}
	return found
}

// below is a path within our module.
func below(importPath string) (string, bool) {
	return strings.CutPrefix(importPath, ourModule+"/")
}

// TestImportRules holds them against the real packages.
func TestImportRules(t *testing.T) {
	graph, err := importGraph()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, p := range graph {
		seen[p.ImportPath] = true
	}
	for _, must := range []string{"cmd/xks-proxy", "pkg/xks", "pkg/hsm", "pkg/hsm/pkcs11", "pkg/hsm/worker", "pkg/sigv4"} {
		if !seen[ourModule+"/"+must] {
			t.Errorf("%s is not in the import graph: the check would prove nothing", must)
		}
	}
	for _, breach := range breaches(graph) {
		t.Error(breach)
	}
}

func importGraph() ([]listed, error) {
	// With cgo on, whatever the environment says: without it CgoFiles is always empty.
	cmd := exec.Command(
		"go",
		"list",
		"-deps",
		"-json=ImportPath,Standard,CgoFiles,Imports,Deps",
		"./...",
	)
	cmd.Dir = ".."
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=1")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("go list: %w: %s", err, exit.Stderr)
	}
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var graph []listed
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return graph, nil
		}
		if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		graph = append(graph, p)
	}
}

// TestImportRulesCanFail: a check that never fails is none.
func TestImportRulesCanFail(t *testing.T) {
	standard := []listed{
		{ImportPath: "net", Standard: true, CgoFiles: []string{"cgo.go"}},
		{ImportPath: "testing", Standard: true},
	}
	others := []listed{
		{ImportPath: miekg, CgoFiles: []string{"pkcs11.go"}},
		{ImportPath: "example.org/pure"},
		{ImportPath: ourModule + "/pkg/hsm"},
	}
	for name, c := range map[string]struct {
		broken listed
		want   string // "" for no breach
	}{
		"fine":                   {listed{ImportPath: "xks-proxy/pkg/xks", Imports: []string{"net", "xks-proxy/pkg/hsm", "example.org/pure"}, Deps: []string{"net"}}, ""},
		"miekg where it belongs": {listed{ImportPath: "xks-proxy/pkg/hsm/pkcs11", Imports: []string{miekg}, Deps: []string{miekg}, CgoFiles: []string{"gcm.go"}}, ""},
		"end-to-end tests":       {listed{ImportPath: "xks-proxy/test/load", Imports: []string{"xks-proxy/pkg/hsm", "testing"}}, ""},
		"upwards": {listed{ImportPath: "xks-proxy/pkg/hsm/worker", Imports: []string{"xks-proxy/pkg/xks"}},
			"pkg/hsm/worker imports xks-proxy/pkg/xks: imports go down only"},
		"sideways": {listed{ImportPath: "xks-proxy/pkg/hsm/worker", Imports: []string{"xks-proxy/pkg/hsm/pkcs11"}},
			"pkg/hsm/worker imports xks-proxy/pkg/hsm/pkcs11: imports go down only"},
		"a command": {listed{ImportPath: "xks-proxy/test/load", Imports: []string{"xks-proxy/cmd/xks-proxy"}},
			"test/load imports xks-proxy/cmd/xks-proxy: nothing imports a command"},
		"miekg elsewhere": {listed{ImportPath: "xks-proxy/cmd/xks-proxy", Imports: []string{miekg}},
			"cmd/xks-proxy imports github.com/miekg/pkcs11: only pkg/hsm/pkcs11 does"},
		"a library in sigv4": {listed{ImportPath: "xks-proxy/pkg/sigv4", Imports: []string{"net", "example.org/pure"}},
			"pkg/sigv4 imports example.org/pure: this package keeps to the standard library"},
		"ours in sigv4": {listed{ImportPath: "xks-proxy/pkg/sigv4", Imports: []string{"xks-proxy/pkg/hsm"}},
			"pkg/sigv4 imports xks-proxy/pkg/hsm: imports go down only"},
		"cgo of its own": {listed{ImportPath: "xks-proxy/pkg/xks", CgoFiles: []string{"fast.go"}},
			"pkg/xks is built from xks-proxy/pkg/xks: it must not need cgo"},
		"cgo from far": {listed{ImportPath: "xks-proxy/pkg/xks", Deps: []string{"net", miekg}},
			"pkg/xks is built from github.com/miekg/pkcs11: it must not need cgo"},
		"testing": {listed{ImportPath: "xks-proxy/pkg/xks", Imports: []string{"testing"}},
			"pkg/xks imports testing: only tests do"},
		"a fake": {listed{ImportPath: "xks-proxy/cmd/xks-proxy", Imports: []string{"xks-proxy/pkg/hsm/hsmtest"}},
			"cmd/xks-proxy imports xks-proxy/pkg/hsm/hsmtest: fakes are for tests"},
		"what tests share": {listed{
			ImportPath: "xks-proxy/cmd/xks-proxy", Imports: []string{"xks-proxy/internal/testkit"},
		}, "cmd/xks-proxy imports xks-proxy/internal/testkit: only tests do"},
		"a new package": {listed{ImportPath: "xks-proxy/pkg/cache"},
			"pkg/cache: no import rule; give it a place in importRules and in docs/design.md"},
	} {
		t.Run(name, func(t *testing.T) {
			graph := append(append([]listed{c.broken}, standard...), others...)
			got := strings.Join(breaches(graph), "\n")
			if got != c.want {
				t.Errorf("breaches:\n  %s\nwant:\n  %s", got, c.want)
			}
		})
	}
	got := breaches([]listed{{ImportPath: "xks-proxy/pkg/util"}})
	if !slices.Contains(got, "pkg/util: no package may be called util") {
		t.Errorf("a package called util: %q", got)
	}
}

package cli

// What is shipped as an example, in configs/ and in the documents, is accepted by this program.

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/config"
	"xks-proxy/internal/demo"
	"xks-proxy/internal/testkit"
)

// fence is a block of a document that a reader may copy.
type fence struct {
	place, language, text string
}

// documentFences are those of README.md and docs/, with a language.
func documentFences(t *testing.T) []fence {
	t.Helper()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d documents: %v", len(files), err)
	}
	var found []fence
	for _, file := range append(files, "../../README.md") {
		var open *fence
		indent := ""
		for line := range strings.Lines(testkit.ReadFile(t, file)) {
			trimmed := strings.TrimSpace(line)
			switch {
			case open == nil && strings.HasPrefix(trimmed, "```"):
				open = &fence{place: filepath.Base(file), language: trimmed[3:]}
				indent = line[:strings.Index(line, "```")]
			case open == nil:
			case trimmed == "```":
				if open.language != "" {
					found = append(found, *open)
				}
				open = nil
			default:
				open.text += strings.TrimPrefix(line, indent)
			}
		}
		if open != nil {
			t.Errorf("%s: a block of code does not end:\n%s", file, open.text)
		}
	}
	return found
}

// Most examples show single keys, so that much is missing in them, but what stands there is right.
func TestExamplesOfDocuments(t *testing.T) {
	seen := map[string]int{}
	for _, f := range documentFences(t) {
		seen[f.language]++
		switch f.language {
		case "yaml":
			checkExample(t, f)
		case "cedar":
			policy := filepath.Join(t.TempDir(), "example.cedar")
			testkit.WriteFile(t, policy, f.text, 0o600)
			_, stderr, code := execute(t, "policy", "check", policy)
			if code != 0 {
				t.Errorf("%s: %s\n%s", f.place, stderr, f.text)
			}
		case "json":
			wantJSON(t, f)
		case "sh":
			said, err := exec.Command("sh", "-n", "-c", f.text).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %s\n%s", f.place, said, f.text)
			}
		}
	}
	for language, least := range map[string]int{"yaml": 20, "cedar": 1, "json": 2, "sh": 4} {
		if seen[language] < least {
			t.Errorf("%d examples in %s, there were more", seen[language], language)
		}
	}
}

// otherFile: an example that begins so is a file of another program, or of another form.
var otherFile = regexp.MustCompile(`^# \S+\.ya?ml\n`)

func checkExample(t *testing.T, f fence) {
	t.Helper()
	if otherFile.MatchString(f.text) {
		return
	}
	l := config.Parse("example.yaml", "/etc/xks-proxy", []byte(f.text), nil)
	for _, problem := range l.Report.Problems {
		line := problem.String()
		if !strings.Contains(line, "is missing") && !strings.Contains(line, "there is no") && !strings.Contains(line, "does not exist") &&
			!strings.Contains(line, "the file is empty") { // a comment for editors
			t.Errorf("%s: %s\n%s", f.place, line, f.text)
		}
	}
}

func wantJSON(t *testing.T, f fence) {
	t.Helper()
	values := json.NewDecoder(strings.NewReader(f.text))
	for {
		var value any
		err := values.Decode(&value)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", f.place, err, f.text)
			return
		}
	}
}

// The shipped configuration with the shipped tenant passes config check once the certificate that
// it names is there.
func TestShippedConfiguration(t *testing.T) {
	dir := t.TempDir()
	err := os.CopyFS(dir, os.DirFS("../../configs"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = (&demo.Directory{Path: dir}).EnsureCertificate("localhost", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	tenants := filepath.Join(dir, "key_stores.d")
	err = os.Rename(filepath.Join(tenants, "payroll.yaml.example"), filepath.Join(tenants, "payroll.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, owned := range []string{dir, tenants, filepath.Join(tenants, "payroll.yaml")} { // whatever the umask of the clone was
		err := os.Chmod(owned, 0o700)
		if err != nil {
			t.Fatal(err)
		}
	}
	stdout, stderr, code := execute(t, "config", "check", "--no-secrets", filepath.Join(dir, "xks-proxy.yaml"))
	if code != 0 || !strings.Contains(stdout, "payroll") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

// The shipped policies are good one by one, and together, as a key store may use them.
func TestShippedPolicies(t *testing.T) {
	const shipped = "../../configs/policies"
	files, err := filepath.Glob(shipped + "/*.cedar")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d policies: %v", len(files), err)
	}
	for _, path := range append(files, shipped) {
		wantPolicies(t, path)
	}
}

func wantPolicies(t *testing.T, path string) {
	t.Helper()
	stdout, stderr, code := execute(t, "policy", "check", path)
	if code != 0 || stderr != "" || !strings.Contains(stdout, "ok") {
		t.Errorf("policy check %s: exit code %d\n%s%s", path, code, stdout, stderr)
	}
}

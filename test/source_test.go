package test

// The sizes of source files and of their lines, which CONTRIBUTING.md promises.

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
	"xks-proxy/internal/testkit"
)

const (
	maxFileLines   = 400
	maxLineColumns = 100
	tabColumns     = 4
	// oversizesFile lists what is over, one "columns|lines COUNT PATH" each. It only shrinks.
	oversizesFile = "testdata/oversizes.txt"
)

// sourceEndings are those of files that people write and read as source.
var sourceEndings = []string{".go", ".c", ".h", ".sh"}

// columns is the width of a line as editors show it.
func columns(line string) int {
	tabs := strings.Count(line, "\t")
	return utf8.RuneCountInString(line) + tabs*(tabColumns-1)
}

// tagged finds a field of a struct with a tag, whose text cannot be wrapped.
var tagged = regexp.MustCompile("`[a-z]+:\"[^`]*`")

// oversizesOf counts the lines of a file that are too wide, and its lines if they are too many.
func oversizesOf(path, text string) map[string]int {
	found := map[string]int{}
	lines := 0
	for line := range strings.Lines(text) {
		lines++
		line = strings.TrimSuffix(line, "\n")
		if strings.HasSuffix(path, ".go") && columns(line) > maxLineColumns && !tagged.MatchString(line) {
			found["columns "+path]++
		}
	}
	if lines > maxFileLines {
		found["lines "+path] = lines
	}
	return found
}

// readOversizes reads what the sources of this tree have over, and how many files were looked at.
func readOversizes(t *testing.T) (map[string]int, int) {
	t.Helper()
	found, files := map[string]int{}, 0
	for _, top := range []string{"cmd", "configs", "internal", "pkg", "test"} {
		err := filepath.WalkDir(filepath.Join("..", top), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !slices.Contains(sourceEndings, filepath.Ext(path)) {
				return err
			}
			files++
			name, err := filepath.Rel("..", path)
			if err != nil {
				return err
			}
			maps.Copy(found, oversizesOf(filepath.ToSlash(name), readText(t, path)))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found, files
}

// allowedOversizes reads oversizesFile.
func allowedOversizes(t *testing.T) map[string]int {
	t.Helper()
	allowed := map[string]int{}
	for line := range strings.Lines(readText(t, oversizesFile)) {
		words := strings.Fields(line)
		if len(words) != 3 {
			t.Fatalf("%s: %q is not \"columns|lines COUNT PATH\"", oversizesFile, line)
		}
		count, err := strconv.Atoi(words[1])
		if err != nil {
			t.Fatalf("%s: %v", oversizesFile, err)
		}
		allowed[words[0]+" "+words[2]] = count
	}
	return allowed
}

// oversizeFaults compares what is over with what may be, both ways.
func oversizeFaults(found, allowed map[string]int) []string {
	var faults []string
	for _, key := range slices.Sorted(maps.Keys(found)) {
		kind, path, _ := strings.Cut(key, " ")
		what := fmt.Sprintf("%d lines of more than %d columns", found[key], maxLineColumns)
		if kind == "lines" {
			what = fmt.Sprintf("%d lines, over %d", found[key], maxFileLines)
		}
		if found[key] > allowed[key] {
			faults = append(faults, fmt.Sprintf("%s: %s; allowed are %d", path, what, allowed[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(allowed)) {
		kind, path, _ := strings.Cut(key, " ")
		if found[key] < allowed[key] {
			faults = append(faults, fmt.Sprintf("%s: better than listed (%s %d, listed %d): lower the number in test/%s "+
				"with go test ./test -run TestSourceSizes -update", path, kind, found[key], allowed[key], oversizesFile))
		}
	}
	return faults
}

func total(sizes map[string]int, kind string) int {
	sum := 0
	for key, count := range sizes {
		if strings.HasPrefix(key, kind+" ") {
			sum += count
		}
	}
	return sum
}

// TestSourceSizes holds every file to the limits, or to what is listed for it. With -update the list
// is written anew (files may have moved), but never with more in it than before.
func TestSourceSizes(t *testing.T) {
	found, files := readOversizes(t)
	if files < 500 {
		t.Fatalf("looked at %d files, there are more", files)
	}
	allowed := allowedOversizes(t)
	grows := total(found, "columns") > total(allowed, "columns") || total(found, "lines") > total(allowed, "lines")
	if testkit.Update() && !grows {
		var list strings.Builder
		for _, key := range slices.Sorted(maps.Keys(found)) {
			kind, path, _ := strings.Cut(key, " ")
			fmt.Fprintf(&list, "%s %d %s\n", kind, found[key], path)
		}
		err := os.WriteFile(oversizesFile, []byte(list.String()), 0o644)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, fault := range oversizeFaults(found, allowed) {
		t.Error(fault)
	}
}

func TestSourceSizesFindsThem(t *testing.T) {
	wide := "\t" + strings.Repeat("é", 97) + "\n"
	for name, c := range map[string]struct {
		path, text string
		want       map[string]int
	}{
		"wide":         {"a.go", wide + wide, map[string]int{"columns a.go": 2}},
		"just fits":    {"a.go", "\t" + strings.Repeat("é", 96) + "\n", map[string]int{}},
		"not Go":       {"a.sh", wide, map[string]int{}},
		"a tag":        {"a.go", "\tName string `doc:\"" + strings.Repeat("x", 90) + "\"`\n", map[string]int{}},
		"not a tag":    {"a.go", "\tx = `{\"a\":\"" + strings.Repeat("x", 90) + "\"}`\n", map[string]int{"columns a.go": 1}},
		"long":         {"a.c", strings.Repeat("\n", 401), map[string]int{"lines a.c": 401}},
		"just in time": {"a.c", strings.Repeat("\n", 400), map[string]int{}},
	} {
		got := oversizesOf(c.path, c.text)
		if !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	faults := oversizeFaults(map[string]int{"columns new.go": 1, "columns worse.go": 3, "columns same.go": 2,
		"columns better.go": 1}, map[string]int{"columns worse.go": 2, "columns same.go": 2, "columns better.go": 2,
		"lines gone.c": 401})
	for i, want := range []string{"new.go: 1 lines", "worse.go: 3 lines", "better.go: better", "gone.c: better"} {
		if len(faults) != 4 || !strings.HasPrefix(faults[i], want) {
			t.Fatalf("faults %q, want 4, %d of them beginning with %q", faults, i, want)
		}
	}
}

// TestSourceDirectives: make lint runs nothing that reads the directives of golangci-lint, which would
// only look as if
// something had been switched off.
func TestSourceDirectives(t *testing.T) {
	out, err := exec.Command("grep", "-rnF", "--include=*.go", "//"+"nolint", "../cmd", "../configs",
		"../internal", "../pkg", "../test").CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == 1: // grep found none
	case err != nil:
		t.Fatalf("grep: %v\n%s", err, out)
	default:
		t.Errorf("no linter of make lint reads //%s:\n%s", "nolint", out)
	}
}

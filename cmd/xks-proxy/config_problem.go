package main

// What can be wrong with a configuration: problems with their place, collected so
// that an operator sees all of them at once.

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxProblems bounds what one error reports: it may become a line of the log. config check reports
// them all.
const maxProblems = 20

// origin is where a value comes from: a line of the file, or a variable of the
// environment. The zero origin is a default.
type origin struct {
	Line, Column int
	Variable     string
}

// problem is one thing that is wrong (or, as a warning, dubious) and what to do
// about it. It never quotes what could be a secret.
type problem struct {
	File    string
	Origin  origin
	Path    string // key, such as hsms[0].pin.file; "" for the file as a whole
	Message string
}

// String gives FILE:LINE:COLUMN: KEY: MESSAGE, as editors understand it, or
// VARIABLE: KEY: MESSAGE for a value from the environment.
func (p problem) String() string {
	var b strings.Builder
	switch {
	case p.Origin.Variable != "":
		name := strconv.QuoteToASCII(p.Origin.Variable) // it may hold anything but =
		b.WriteString("environment variable " + name[1:len(name)-1])
	case p.Origin.Line == 0:
		b.WriteString(p.File)
	case p.Origin.Column == 0: // the YAML parser knows no more of some errors
		fmt.Fprintf(&b, "%s:%d", p.File, p.Origin.Line)
	default:
		fmt.Fprintf(&b, "%s:%d:%d", p.File, p.Origin.Line, p.Origin.Column)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// warning is something that works and is probably not meant.
type warning problem

func (w warning) String() string { return problem(w).String() }

// configError is everything wrong with a configuration; Problems is never empty.
type configError struct {
	File     string
	Problems []problem
	More     int // found beyond maxProblems, not kept
}

func (e *configError) Error() string {
	if len(e.Problems) == 1 && e.More == 0 {
		return e.Problems[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s has %d errors:", e.File, len(e.Problems)+e.More)
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\n  and %d more", e.More)
	}
	return b.String()
}

// report collects the problems and warnings of one configuration.
type report struct {
	*source
	problems []problem
	warnings []warning
	failed   map[string]bool // paths that have a problem
	broken   map[string]bool // paths that could not be read at all: what is below them is not known
}

func newReport(s *source) *report {
	return &report{source: s, failed: map[string]bool{}, broken: map[string]bool{}}
}

// errorf adds a problem with the key at path. A key has one problem at most: what
// comes after the first follows from it.
func (r *report) errorf(path, format string, args ...any) {
	if r.failed[path] || r.isBroken(path) {
		return
	}
	r.errorAt(r.origin(path), path, format, args...)
}

// errorAt is errorf for something that is not the value of a known key. at is in the
// file that path is of.
func (r *report) errorAt(at origin, path, format string, args ...any) {
	r.failed[path] = true
	r.problems = append(r.problems, r.problemAt(at, path, fmt.Sprintf(format, args...)))
}

func (r *report) warnf(path, format string, args ...any) {
	r.warnings = append(r.warnings, warning(r.problemAt(r.origin(path), path, fmt.Sprintf(format, args...))))
}

func (r *report) problemAt(at origin, path, message string) problem {
	file, key := r.locate(path)
	return problem{File: file, Origin: at, Path: key, Message: message}
}

func (r *report) isBroken(path string) bool {
	for ; path != ""; path = parentPath(path) {
		if r.broken[path] {
			return true
		}
	}
	return r.broken[""]
}

// err is the first maxProblems problems, in the order of the file, or nil.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	sorted := r.sorted()
	kept := sorted[:min(len(sorted), maxProblems)]
	return &configError{File: r.file, Problems: kept, More: len(sorted) - len(kept)}
}

// sorted are all problems in the order of the file.
func (r *report) sorted() []problem {
	sorted := slices.Clone(r.problems)
	slices.SortStableFunc(sorted, func(a, b problem) int {
		return cmp.Or(
			cmp.Compare(a.Origin.Variable, b.Origin.Variable),
			r.compareFiles(a.File, b.File),
			cmp.Compare(a.Origin.Line, b.Origin.Line),
			cmp.Compare(a.Origin.Column, b.Origin.Column),
		)
	})
	return sorted
}

// plainName is what may be quoted of a key nobody knows: anything else could be a
// value that lost its colon, hence a secret.
var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,63}$`)

// quoteName quotes a name that is surely no secret.
func quoteName(s string) string {
	if plainName.MatchString(s) {
		return `"` + s + `"`
	}
	return "(not shown: it is not a plain name)"
}

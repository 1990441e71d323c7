package schema

// Problems of a configuration with their places, collected so that an operator sees all of them at
// once.

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"xks-proxy/pkg/authz"
)

// maxProblems bounds what one error reports: it may become a line of the log. config check reports
// them all.
const maxProblems = 20

// Origin is where a value comes from: a line of the file, or a variable of the
// environment. The zero origin is a default.
type Origin struct {
	Line, Column int    // from 1; 0 if not known
	Variable     string // of the environment; "" for a value of the file
}

// Problem is one mistake and what to do about it. It never quotes what could be a secret.
type Problem struct {
	File    string // as it was named
	Origin  Origin
	Path    string // key, such as hsms[0].pin.file; "" for the file as a whole
	Message string // what is wrong and what to do
}

// String gives FILE:LINE:COLUMN: KEY: MESSAGE, as editors understand it, or
// VARIABLE: KEY: MESSAGE for a value from the environment.
func (p Problem) String() string {
	var b strings.Builder
	switch {
	case p.Origin.Variable != "":
		name := strconv.QuoteToASCII(p.Origin.Variable) // it may hold anything but =
		b.WriteString("environment variable " + name[1:len(name)-1])
	case p.Origin.Line == 0:
		b.WriteString(p.File)
	case p.Origin.Column == 0: // some errors of the YAML parser have only a line
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

// Warning is something that works and is probably not meant.
type Warning Problem

// String formats a warning like a Problem.
func (w Warning) String() string { return Problem(w).String() }

// Error is the error about a configuration with problems.
type Error struct {
	File     string
	Problems []Problem // at least one
	More     int       // found beyond maxProblems, not kept
}

// Error has one line for each problem.
func (e *Error) Error() string {
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

// Report collects the problems and warnings of one configuration.
type Report struct {
	*Source
	Problems []Problem
	Warnings []Warning
	Failed   map[string]bool // paths that have a problem
	Broken   map[string]bool // paths that could not be read, nor what is below them
}

// NewReport returns an empty report about a configuration.
func NewReport(s *Source) *Report {
	return &Report{Source: s, Failed: map[string]bool{}, Broken: map[string]bool{}}
}

// Errorf adds a problem with the key at path. A key has one problem at most: what
// comes after the first follows from it.
func (r *Report) Errorf(path, format string, args ...any) {
	if r.Failed[path] || r.IsBroken(path) {
		return
	}
	r.ErrorAt(r.Origin(path), path, format, args...)
}

// ErrorAt adds a problem at a place that is not the value of a known key. The place is in the file
// that contains path.
func (r *Report) ErrorAt(at Origin, path, format string, args ...any) {
	r.Failed[path] = true
	r.Problems = append(r.Problems, r.problemAt(at, path, fmt.Sprintf(format, args...)))
}

// Warnf adds a warning about the key at path.
func (r *Report) Warnf(path, format string, args ...any) {
	r.Warnings = append(
		r.Warnings, Warning(r.problemAt(r.Origin(path), path, fmt.Sprintf(format, args...))),
	)
}

func (r *Report) problemAt(at Origin, path, message string) Problem {
	file, key := r.Locate(path)
	return Problem{File: file, Origin: at, Path: key, Message: message}
}

// IsBroken reports whether the key at path, or a section around it, could not be read.
func (r *Report) IsBroken(path string) bool {
	for ; path != ""; path = ParentPath(path) {
		if r.Broken[path] {
			return true
		}
	}
	return r.Broken[""]
}

// Err returns an *Error with the first problems in the order of the file, 20 at most, or nil.
func (r *Report) Err() error {
	if len(r.Problems) == 0 {
		return nil
	}
	sorted := r.Sorted()
	kept := sorted[:min(len(sorted), maxProblems)]
	return &Error{File: r.File, Problems: kept, More: len(sorted) - len(kept)}
}

// Sorted returns all problems in the order of the file.
func (r *Report) Sorted() []Problem {
	sorted := slices.Clone(r.Problems)
	slices.SortStableFunc(sorted, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.Origin.Variable, b.Origin.Variable),
			r.compareFiles(a.File, b.File),
			cmp.Compare(a.Origin.Line, b.Origin.Line),
			cmp.Compare(a.Origin.Column, b.Origin.Column),
		)
	})
	return sorted
}

// PlainName matches an unknown key that may be quoted. Anything else could be a value whose colon
// is missing, hence a secret.
var PlainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,63}$`)

// QuoteName quotes a name unless it could be a secret.
func QuoteName(s string) string {
	if PlainName.MatchString(s) {
		return `"` + s + `"`
	}
	return "(not shown: it is not a plain name)"
}

// PolicyProblem returns a problem of policies, in the policy file or, if it is about the whole set,
// at the key that names the files.
func (r *Report) PolicyProblem(at string, err error) Problem {
	var p authz.Problem
	if !errors.As(err, &p) {
		return r.problemAt(r.Origin(at), at, err.Error())
	}
	place := p
	p.File, p.Line, p.Column = "", 0, 0
	if place.File == "" {
		return r.problemAt(r.Origin(at), at, strings.TrimSpace(p.Error()))
	}
	return Problem{
		File: place.File, Origin: Origin{Line: place.Line, Column: place.Column},
		Message: strings.TrimSpace(p.Error()),
	}
}

// FailedAt reports whether the secret reference at path, or a key of it, has a problem.
func (r *Report) FailedAt(path string) bool {
	for _, place := range []string{"file", "env", "credential", "command"} {
		if r.Failed[JoinPath(path, place)] {
			return true
		}
	}
	return r.Failed[path] || r.IsBroken(path)
}

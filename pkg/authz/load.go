package authz

// Policy files: found, read, parsed, named. A set is loaded as a whole or not at all.

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go"
	xast "github.com/cedar-policy/cedar-go/x/exp/ast"
)

const (
	extension = ".cedar"

	maxFile     = 256 << 10 // bytes of one file
	maxPolicies = 10_000    // in one set
	maxNesting  = 64        // of brackets: the parser and the type checker recurse
	maxProblems = 50        // reported at once
	maxID       = 128       // bytes of an @id
)

// Problem is a finding about a policy file: an error that keeps the set from being loaded, or a
// warning. It implements error.
type Problem struct {
	File         string // as it was named
	Line, Column int    // from 1; 0 where the finding is about the file or the set
	Policy       string // id, where there is one
	Text         string // what is wrong and what to do
}

func (p Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		b.WriteByte(':')
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", p.Line, p.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if p.Policy != "" {
		fmt.Fprintf(&b, "policy %q: ", p.Policy)
	}
	return b.String() + p.Text
}

// Load reads the named files, and the *.cedar files of the named directories without their
// subdirectories, and checks them against the schema. It returns the policies and warnings (Z4), or
// an error that joins one [Problem] for each fault. A file is at most 256 KiB. A set is at least
// one policy and at most 10,000. The id of a policy is its @id annotation, or else "file:line". Ids
// are unique.
func Load(paths ...string) (*Policies, []Problem, error) {
	files, err := policyFiles(paths)
	if err != nil {
		return nil, nil, err
	}
	l := newLoader()
	for _, file := range files {
		document, err := readFile(file)
		if err != nil {
			return nil, nil, err
		}
		l.add(file, document)
	}
	return l.finish()
}

// Parse is Load for one document that is not in a file. Problems give name as its file.
func Parse(name string, document []byte) (*Policies, []Problem, error) {
	l := newLoader()
	l.add(name, document)
	return l.finish()
}

func policyFiles(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("policies: %w", err)
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, fmt.Errorf("policies: %w", err)
		}
		found := 0
		for _, e := range entries {
			if filepath.Ext(e.Name()) == extension && !strings.HasPrefix(e.Name(), ".") {
				files = append(files, filepath.Join(path, e.Name()))
				found++
			}
		}
		if found == 0 {
			return nil, Problem{
				File: path,
				Text: "no *.cedar file in this directory; without a policy every request would " +
					"be denied",
			}
		}
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("policies: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, Problem{File: path, Text: "not a regular file"}
	}
	if info.Size() > maxFile {
		return nil, Problem{
			File: path, Text: fmt.Sprintf("%d bytes; at most %d: split it", info.Size(), maxFile),
		}
	}
	document, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("policies: %w", err)
	}
	return document, nil
}

// loader collects policies, errors and warnings.
type loader struct {
	policies   []*policy
	places     map[string]string // "file:line" by id
	references []reference
	warnings   []Problem
	errors     []Problem
	digest     hash.Hash
}

func newLoader() loader { return loader{places: make(map[string]string), digest: sha256.New()} }

func (l *loader) add(file string, document []byte) {
	l.digest.Write(binary.BigEndian.AppendUint64(nil, uint64(len(document))))
	l.digest.Write(document)
	if len(document) > maxFile {
		l.errors = append(
			l.errors,
			Problem{
				File: file,
				Text: fmt.Sprintf("%d bytes; at most %d: split it", len(document), maxFile),
			},
		)
		return
	}
	if offset := tooDeep(document); offset >= 0 {
		line, column := lineAndColumn(document, offset)
		l.errors = append(
			l.errors,
			Problem{
				File: file, Line: line, Column: column,
				Text: fmt.Sprintf("nested deeper than %d", maxNesting),
			},
		)
		return
	}
	statements, err := cedar.NewPolicyListFromBytes(file, document)
	if err != nil {
		l.errors = append(l.errors, syntaxProblem(file, document, err))
		return
	}
	for i, s := range statements {
		end := len(document)
		if i+1 < len(statements) {
			end = statements[i+1].Position().Offset
		}
		l.addStatement(s, span{document: document, start: s.Position().Offset, end: end})
	}
}

func (l *loader) addStatement(s *cedar.Policy, text span) {
	at := s.Position()
	place := filepath.Base(at.Filename) + ":" + strconv.Itoa(at.Line)
	id, named := s.Annotations()["id"]
	if !named {
		id = cedar.String(place)
	}
	c := checker{
		loader: l, span: text,
		problem: Problem{File: at.Filename, Line: at.Line, Column: at.Column, Policy: string(id)},
	}
	switch other, taken := l.places[string(id)]; {
	case taken:
		c.fail("id", "the id is taken by the policy at "+other+": give each its own @id")
	case len(id) > maxID || !isReadable(string(id)):
		c.problem.Policy = ""
		c.fail("id", fmt.Sprintf("an @id is 1 to %d printable characters", maxID))
	default:
		l.places[string(id)] = place
	}
	tree := (*xast.Policy)(s.AST())
	means, err := meaningOf(tree)
	if err != nil {
		c.fail("id", "cannot be written down: "+err.Error())
		return
	}
	p := newPolicy(cedar.PolicyID(id), tree, means, c.problem)
	c.check(p, tree)
	l.policies = append(l.policies, p)
}

func (l *loader) finish() (*Policies, []Problem, error) {
	slices.SortStableFunc(l.errors, byPlace)
	slices.SortStableFunc(l.warnings, byPlace)
	switch {
	case len(l.errors) > 0:
	case len(l.policies) == 0:
		l.errors = append(l.errors,
			Problem{Text: "policies: none in these files; every request would be denied"})
	case len(l.policies) > maxPolicies:
		text := fmt.Sprintf("policies: %d; at most %d in one set", len(l.policies), maxPolicies)
		l.errors = append(l.errors, Problem{Text: text})
	}
	if len(l.errors) > 0 {
		var all []error
		for _, one := range l.errors[:min(len(l.errors), maxProblems)] {
			all = append(all, one)
		}
		if more := len(l.errors) - maxProblems; more > 0 {
			all = append(all, fmt.Errorf("and %d more", more))
		}
		return nil, nil, errors.Join(all...)
	}
	p := newPolicies(l.policies, l.places, l.references)
	if problem, found := p.tooExpensive(); found {
		return nil, nil, problem
	}
	if !p.Permits("") {
		return nil, nil, Problem{Text: "policies: " + NothingPermitted}
	}
	p.digest = [sha256.Size]byte(l.digest.Sum(nil))
	return p, append(l.warnings, p.warnings()...), nil
}

func byPlace(a, b Problem) int {
	return cmp.Or(
		strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line),
		cmp.Compare(a.Column, b.Column),
	)
}

// warnings returns warnings about the set as a whole.
func (p *Policies) warnings() []Problem {
	var found []Problem
	for i, a := range actions {
		permitted := slices.ContainsFunc(
			p.byAction[i], func(one *policy) bool { return !one.forbids },
		)
		if !permitted {
			found = append(
				found,
				Problem{
					Text: fmt.Sprintf("policies: no permit is for %s: every %s is denied", a, a),
				},
			)
		}
	}
	return found
}

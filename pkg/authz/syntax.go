package authz

// The parser's errors, reworded for policy authors. cedar-go names the token after the unexpected
// one, and uses its own words for what it expected.

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

var (
	parserPosition = regexp.MustCompile(`<input>:(\d+):(\d+):?`)
	parserWanted   = regexp.MustCompile(`(?:exact )?got (.*) want (\S+)$`)
	parserEffect   = regexp.MustCompile(`unexpected effect: (.*)$`)
)

// unexpectedToken is a token that the parser did not expect.
type unexpectedToken struct {
	found, wanted string // "": not known
	message       string // the parser's own words
}

// syntaxProblem turns the parser's error into a Problem: where, what was found, and what to write
// instead.
func syntaxProblem(file string, document []byte, err error) Problem {
	p := Problem{File: file}
	message := strings.TrimPrefix(err.Error(), "parser error: ")
	at := parserPosition.FindStringSubmatchIndex(message)
	if at == nil {
		p.Text = "not Cedar: " + boundedText(message, maxErrorText)
		return p
	}
	p.Line, _ = strconv.Atoi(message[at[2]:at[3]])
	p.Column, _ = strconv.Atoi(message[at[4]:at[5]])
	message = message[:at[0]] + strings.TrimSpace(message[at[1]:])
	message = strings.Replace(message, "parse error at ", "at ", 1)
	o := unexpectedToken{message: message}
	if m := parserWanted.FindStringSubmatch(message); m != nil {
		o.found, o.wanted = m[1], m[2]
	}
	if m := parserEffect.FindStringSubmatch(message); m != nil {
		o.found = m[1]
	}
	before, line, column, ok := tokenBefore(document, p.Line, p.Column)
	if ok && o.isAbout(before) {
		o.found, p.Line, p.Column = before, line, column
	}
	p.Text = "not Cedar: " + boundedText(o.String(), maxErrorText)
	return p
}

// isAbout reports whether the token before the parser's position is the unexpected one.
func (o unexpectedToken) isAbout(before string) bool {
	return o.found == before || o.found == "" && (before == "?" || isOddQuote(before) ||
		(before == "[" || before[0] == '"') && strings.HasSuffix(o.message, "expected ident"))
}

func (o unexpectedToken) String() string {
	what := o.message
	switch {
	case o.wanted != "" && o.found == "":
		what = fmt.Sprintf("the file ends where %s is expected", o.wanted)
	case o.wanted != "":
		what = fmt.Sprintf("found %s where %s is expected", o.found, o.wanted)
	case o.found != "":
		what = fmt.Sprintf("%s is not expected here", o.found)
	}
	hint := o.hint()
	if hint == "" {
		return what
	}
	return what + ": " + hint
}

// hint returns what to write instead, or "" if that is not known.
func (o unexpectedToken) hint() string {
	hint, known := hintsByFound[o.found]
	if known {
		return hint
	}
	hint, known = hintsByWanted[o.wanted]
	switch {
	case o.wanted == ";" && (o.found == "if" || didYouMean(o.found, conditionWords) != ""):
		return "write when or unless"
	case o.found == "[" && strings.HasSuffix(o.message, "expected ident"):
		return "the head names one entity; for several write `when { principal in [ … ] }`"
	case known:
		return hint
	case isOddQuote(o.found):
		return `texts and ids stand in double quotes, "…"`
	case strings.Contains(o.message, "unexpected effect"):
		return "a policy begins with permit or forbid" + didYouMean(o.found, effects)
	case o.wanted == "," && o.found == ")":
		return "the head has three parts, (principal, action, resource)"
	case o.wanted == ",":
		return "a comma is missing before it"
	case strings.Contains(o.message, "literal not terminated"):
		return `a closing double quote is missing`
	case strings.HasSuffix(o.message, "expected ident"):
		return `an entity is its type, two colons and its id in double quotes: User::"arn:…"`
	case strings.HasSuffix(o.message, "expected string literal"):
		return `a text in double quotes belongs here`
	}
	return ""
}

var hintsByFound = map[string]string{
	"=":      "write == to compare",
	"and":    "write &&",
	"&":      "write &&",
	"or":     "write ||",
	"|":      "write ||",
	"not":    "write !",
	"allow":  "write permit",
	"permit": "a policy ends with a semicolon; the one before has none",
	"forbid": "a policy ends with a semicolon; the one before has none",
	"?":      "templates (?principal, ?resource) are not supported; name the entity",
	"deny":   "write forbid",
	"{":      "policies are in Cedar's own syntax, permit (principal, action, resource);",
}

var hintsByWanted = map[string]string{
	";":         "a policy ends with a semicolon",
	"::":        `an entity is its type, two colons and its id in double quotes: Action::"Encrypt"`,
	"{":         "conditions stand in braces: when { … }",
	"}":         "the condition is not closed, or a word in it is not an operator of Cedar",
	"principal": "the head is (principal, action, resource), in this order",
	"action":    "the head is (principal, action, resource), in this order",
	"resource":  "the head is (principal, action, resource), in this order",
}

var (
	effects        = []string{"permit", "forbid"}
	conditionWords = []string{"when", "unless"}
)

func isOddQuote(token string) bool {
	switch token {
	case "'", "`", "“", "”", "‘", "’", "„", "«", "»":
		return true
	}
	return false
}

// tokenBefore returns the token that ends before line and column, and where it begins.
func tokenBefore(document []byte, line, column int) (string, int, int, bool) {
	before, at := "", -1
	end := offsetOf(document, line, column)
	tokens(document, func(offset int, token string) bool {
		if offset >= end {
			return false
		}
		if utf8.RuneStart(token[0]) || at < 0 {
			before, at = token, offset
		} else { // a character of several bytes
			before += token
		}
		return true
	})
	if at < 0 {
		return "", 0, 0, false
	}
	l, c := lineAndColumn(document, at)
	return before, l, c, true
}

// offsetOf is the reverse of lineAndColumn. It returns the end of the document if there is no such
// position.
func offsetOf(document []byte, line, column int) int {
	l, c := 1, 1
	for offset, r := range string(document) {
		if l == line && c == column || l > line {
			return offset
		}
		c++
		if r == '\n' {
			l, c = l+1, 1
		}
	}
	return len(document)
}

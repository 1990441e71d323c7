package authz

// Positions in a policy file. Cedar's syntax tree has only the position where a policy begins.

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// span is the text of one policy in its document.
type span struct {
	document   []byte
	start, end int
}

// find returns the line and column of the first identifier or quoted text that equals name.
func (s span) find(name string) (int, int, bool) {
	if name == "" { // of nothing by name; "" may stand there
		return 0, 0, false
	}
	found := -1
	tokens(s.document[s.start:s.end], func(offset int, token string) bool {
		if strings.Trim(token, `"`) == name {
			found = s.start + offset
		}
		return found < 0
	})
	if found < 0 {
		return 0, 0, false
	}
	line, column := lineAndColumn(s.document, found)
	return line, column, true
}

// tooDeep returns the offset where the document is nested deeper than the parser and the type
// checker, which recurse, may go, or -1. Brackets, if, and runs of ! and of - count.
func tooDeep(document []byte) int {
	depth, run, found := 0, 0, -1
	tokens(document, func(offset int, token string) bool {
		switch token {
		case "!", "-":
			run++
		default:
			run = 0
		}
		switch token {
		case "(", "[", "{", "if":
			depth++
		case ")", "]", "}":
			depth--
		case ";":
			depth = 0
		}
		if depth > maxNesting || run > maxNesting {
			found = offset
		}
		return found < 0
	})
	return found
}

// tokens calls yield with identifiers, quoted texts (with quotes) and single other characters,
// until it returns false. It skips comments and white space.
func tokens(text []byte, yield func(offset int, token string) bool) {
	for i := 0; i < len(text); {
		end := i + 1
		switch c := text[i]; {
		case bytes.HasPrefix(text[i:], []byte("//")):
			i += skipLine(text[i:])
			continue
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			i++
			continue
		case c == '"':
			end = i + quotedLength(text[i:])
		case isAlphanumeric(c) || c == '_':
			for end < len(text) && (isAlphanumeric(text[end]) || text[end] == '_') {
				end++
			}
		}
		if !yield(i, string(text[i:end])) {
			return
		}
		i = end
	}
}

func skipLine(text []byte) int {
	end := bytes.IndexByte(text, '\n')
	if end < 0 {
		return len(text)
	}
	return end
}

func quotedLength(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// lineAndColumn returns the line and column of an offset, counted from 1. Columns are characters.
func lineAndColumn(document []byte, offset int) (int, int) {
	before := document[:offset]
	return bytes.Count(
		before,
		[]byte("\n"),
	) + 1, utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
}

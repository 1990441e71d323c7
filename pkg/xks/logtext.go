package xks

// Text from a caller in a log line: escaped, and bounded by the bytes that it takes there.

import (
	"strconv"
	"unicode/utf8"
)

// shorten escapes what an operator's terminal might obey (the encoder leaves DEL, the C1 controls
// and marks of direction as they are) and cuts the text so that it takes no more than limit bytes
// of the log. What the encoder of JSON adds counts as well: a control character that is sent as
// one byte is written as five. The note about a cut is not counted; it has 20 bytes at most.
func shorten(s string, limit int) string {
	end, plain := plainEnd(s, limit)
	if plain && end == len(s) {
		return s
	}
	text, whole := s[:end], false
	if !plain {
		text, whole = escape(s, limit)
	}
	if whole {
		return text
	}
	return text + "…(" + strconv.Itoa(len(s)) + " bytes)"
}

// plainEnd is how much of s fits into limit bytes, if all of that is printable ASCII.
func plainEnd(s string, limit int) (int, bool) {
	size := 0
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c > '~' {
			return 0, false
		}
		size++
		if c == '"' || c == '\\' {
			size++
		}
		if size > limit {
			return i, true
		}
	}
	return len(s), true
}

// escape escapes as much of s as fits into limit bytes, and reports whether that is all of it.
func escape(s string, limit int) (string, bool) {
	escaped := make([]byte, 0, min(4*len(s), limit))
	var buffer [16]byte // a quoted rune is no longer
	size := 0
	for i := 0; i < len(s); {
		_, width := utf8.DecodeRuneInString(s[i:])
		quoted := strconv.AppendQuoteToGraphic(buffer[:0], s[i:i+width])
		quoted = quoted[1 : len(quoted)-1]
		size += len(quoted)
		for _, c := range quoted {
			if c == '"' || c == '\\' {
				size++ // the encoder escapes the escape
			}
		}
		if size > limit {
			return string(escaped), false
		}
		escaped = append(escaped, quoted...)
		i += width
	}
	return string(escaped), true
}

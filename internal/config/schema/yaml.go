package schema

// From the bytes of a configuration file to one YAML node: everything about YAML
// that has nothing to do with what the keys mean.

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	// MaxConfigSize is the largest configuration file, in bytes. A real one has a few thousand.
	MaxConfigSize = 1 << 20
	// keys and values after aliases are expanded, which can multiply; 1000 key stores
	maxConfigNodes = 30_000
)

// ParseYAML returns the one mapping that data holds, the file at the path at ("" or a key store).
// Problems go to r.
func ParseYAML(r *Report, at string, data []byte) (*yaml.Node, bool) {
	if len(data) > MaxConfigSize {
		r.ErrorAt(Origin{Line: 1, Column: 1}, at, "the file is larger than 1 MiB; it is probably "+
			"not the configuration")
		return nil, false
	}
	bad, ok := firstBadByte(data)
	if !ok {
		r.ErrorAt(bad, at, "a byte here is not text (invalid UTF-8, or a control character); "+
			"save the file as UTF-8")
		return nil, false
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		r.ErrorAt(Origin{Line: 1, Column: 1}, at, "the file is empty; configs/xks-proxy.yaml is "+
			"an example with every key explained")
		return nil, false
	}
	if err != nil {
		reportSyntax(r, at, data, err)
		return nil, false
	}
	root := document.Content[0]
	if root.Kind != yaml.MappingNode {
		r.ErrorAt(place(root), at, "the file must be a list of \"key: value\" lines; "+
			"configs/xks-proxy.yaml is an example")
		return nil, false
	}
	var second yaml.Node
	err = decoder.Decode(&second)
	if err == nil {
		r.ErrorAt(place(&second), at, "a second YAML document begins here; the configuration is "+
			"one document: remove the \"---\" line")
		return nil, false
	}
	if !errors.Is(err, io.EOF) {
		reportSyntax(r, at, data, err)
		return nil, false
	}
	return root, true
}

// firstBadByte finds what is not UTF-8, and control characters other than tab and
// line ends, which YAML does not allow. ok is true if there are none.
func firstBadByte(data []byte) (Origin, bool) {
	at := Origin{Line: 1, Column: 1}
	for rest := data; len(rest) > 0; {
		c, size := utf8.DecodeRune(rest)
		if (c == utf8.RuneError && size == 1) || (c < ' ' && c != '\t' && c != '\n' && c != '\r') ||
			c == 0x7f {
			return at, false
		}
		at.Column++
		if c == '\n' {
			at = Origin{Line: at.Line + 1, Column: 1}
		}
		rest = rest[size:]
	}
	return at, true
}

var (
	syntaxLine = regexp.MustCompile(`^(?:yaml: )?(?:line ([0-9]+): )?(?s:(.*))$`)
	// What the parser, not the scanner, finds. It counts lines from 0, and means the
	// line where the broken construct begins.
	parserFinding = regexp.MustCompile(`^did not find expected (<|node content|key|'-'|',' or)`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '.*' referenced$`)
)

// reportSyntax turns an error of the YAML parser into a problem. The parser quotes
// nothing of the file but the names of anchors, and those are dropped: a PIN that
// begins with * looks like one.
func reportSyntax(r *Report, at string, data []byte, err error) {
	found := syntaxLine.FindStringSubmatch(err.Error())
	message := found[2]
	line, err := strconv.Atoi(found[1])
	if err != nil {
		line = 1
	}
	switch {
	case unknownAnchor.MatchString(message):
		message = "a value that begins with * refers to an anchor, and there is none of that " +
			"name; put quotes around the value"
		line = max(line, firstLineWith(data, "*"))
	case parserFinding.MatchString(message):
		message = "is not YAML: what begins here breaks off further down (" + message +
			"); look at indentation, quotes and brackets"
		if found[1] != "" {
			line++
		}
	case strings.HasPrefix(textOfLine(data, line), "\t"):
		message = "is not YAML: a line begins with a tab; indent with spaces"
	default:
		message = "is not YAML: " + message
	}
	r.ErrorAt(Origin{Line: line}, at, "%s", message)
}

// firstLineWith is the number of the first line that holds a value beginning with
// mark; 1 if there is none.
func firstLineWith(data []byte, mark string) int {
	for i, line := range strings.Split(string(data), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		if strings.Contains(line, ": "+mark) || strings.Contains(line, "- "+mark) {
			return i + 1
		}
	}
	return 1
}

func textOfLine(data []byte, number int) string {
	lines := strings.SplitN(string(data), "\n", number+1)
	if number < 1 || len(lines) < number {
		return ""
	}
	line := lines[number-1]
	return strings.TrimLeft(line, " ")
}

func place(n *yaml.Node) Origin {
	return Origin{Line: max(n.Line, 1), Column: max(n.Column, 1)}
}

package main

// What a request means, read by nobody's HTTP library: the parts that a signature covers, without
// the freedom that HTTP and AWS Signature Version 4 leave in writing them.

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// meaningOf gives one text for all spellings of a request. Header names have no case; blanks around
// a value do not count, nor does how many there are between its words, nor whether lines end in CR
// LF or LF, nor empty lines in front (RFC 9112 section 2.2); the parameters of Authorization have
// no order; an empty query is none. What is not signed means nothing.
func meaningOf(request []byte, signed []string) string {
	head, body := cutHead(bytes.TrimLeft(request, "\r\n"))
	lines := strings.Split(head, "\n")
	words := strings.Split(strings.TrimSuffix(lines[0], "\r"), " ")
	if len(words) != 3 {
		return "not a request"
	}
	values := map[string][]string{}
	last := ""
	for _, line := range lines[1:] {
		line = strings.TrimSuffix(line, "\r")
		if last != "" && (strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")) {
			values[last][len(values[last])-1] += " " + line // a folded line
			continue
		}
		name, value, found := strings.Cut(line, ":")
		if !found {
			return "not a request"
		}
		last = strings.ToLower(name)
		values[last] = append(values[last], value)
	}
	if values["transfer-encoding"] != nil {
		return "another framing"
	}
	length, err := strconv.Atoi(strings.TrimSpace(strings.Join(values["content-length"], ",")))
	if err != nil || length < 0 || length > len(body) {
		return "another framing"
	}
	var b strings.Builder
	b.WriteString(words[0] + "\n" + strings.TrimSuffix(words[1], "?") + "\n")
	for _, name := range signed {
		for i, value := range values[name] {
			values[name][i] = strings.Join(strings.Fields(value), " ")
		}
		b.WriteString(name + ":" + strings.Join(values[name], ",") + "\n")
	}
	b.WriteString(authorizationOf(values["authorization"]) + "\n")
	b.WriteString(strings.Join(strings.Fields(strings.Join(values["x-amz-date"], ",")), " ") + "\n")
	b.Write(body[:length])
	return b.String()
}

// cutHead takes the header and the body apart: at the first empty line.
func cutHead(request []byte) (string, []byte) {
	for from := 0; ; {
		at := bytes.IndexByte(request[from:], '\n')
		if at < 0 {
			return string(request), nil
		}
		from += at + 1
		rest := request[from:]
		for _, end := range []string{"\r\n", "\n"} {
			if bytes.HasPrefix(rest, []byte(end)) {
				return strings.TrimSuffix(string(request[:from]), "\n"), rest[len(end):]
			}
		}
	}
}

// authorizationOf sorts the parameters.
func authorizationOf(values []string) string {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(strings.Join(values, ",")), " ")
	parameters := strings.Split(rest, ",")
	for i := range parameters {
		parameters[i] = strings.TrimSpace(parameters[i])
	}
	slices.Sort(parameters)
	return scheme + " " + strings.Join(parameters, ",")
}

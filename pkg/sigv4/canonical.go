// This file builds the canonical request and the string to sign (AWS General Reference, tasks 1 and
// 2).

package sigv4

import (
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
)

// Request is what a signature covers, as the server received it.
type Request struct {
	Method string
	Path   string // the bytes of the request target up to '?', neither decoded nor cleaned
	Query  string // raw, without '?'
	Host   string // Host or :authority as received, port included
	// Header is that of net/http: canonical names, without Host. Verify reads only signed values,
	// and Authorization, X-Amz-Date and X-Amz-Content-Sha256.
	Header http.Header
	// ContentLength is that of net/http. It replaces a signed content-length if the server removed
	// that header. net/http keeps it, with HTTP/1.1 and HTTP/2.
	ContentLength int64
	Body          []byte // all of it
}

// appendCanonicalRequest appends the canonical request. The canonical query is always empty (U5).
func appendCanonicalRequest(
	dst []byte, r *Request, encodePath bool, signedHeaders string, payloadHash []byte,
) ([]byte, *Failure) {
	dst = append(dst, r.Method...)
	dst = append(dst, '\n')
	dst = appendPath(dst, r.Path, encodePath)
	dst = append(dst, "\n\n"...)
	list, more := signedHeaders, true
	for more {
		var name string
		name, list, more = strings.Cut(list, ";")
		dst = append(dst, name...)
		dst = append(dst, ':')
		var failure *Failure
		dst, failure = appendHeader(dst, r, name)
		if failure != nil {
			return dst, failure
		}
		dst = append(dst, '\n')
	}
	dst = append(dst, '\n')
	dst = append(dst, signedHeaders...)
	dst = append(dst, '\n')
	return append(dst, payloadHash...), nil
}

// appendStringToSign appends the string to sign for a canonical request with this SHA-256.
func appendStringToSign(
	dst []byte, a *authorization, amzDate string, canonicalHash [32]byte,
) []byte {
	dst = append(dst, algorithm+"\n"...)
	dst = append(dst, amzDate...)
	dst = append(dst, '\n')
	dst = append(dst, a.date...)
	dst = append(dst, '/')
	dst = append(dst, a.region...)
	dst = append(dst, '/')
	dst = append(dst, a.service...)
	dst = append(dst, "/"+terminator+"\n"...)
	return hex.AppendEncode(dst, canonicalHash[:])
}

// appendPath appends the canonical URI. AWS's rule is to percent-encode every byte of the path but
// the unreserved ones and '/', whatever the path already holds: a '%' becomes "%25". Dots and
// slashes are not normalised: the path is matched raw (U5), so it is verified raw.
func appendPath(dst []byte, path string, encode bool) []byte {
	if path == "" {
		return append(dst, '/')
	}
	if !encode {
		return append(dst, path...)
	}
	const upperHex = "0123456789ABCDEF"
	for i := range len(path) {
		c := path[i]
		if isPlain(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return dst
}

// isPlain reports whether AWS's rule leaves c as it is. All characters of the API's URIs are plain
// (U1, U3).
func isPlain(c byte) bool {
	return isAlphanumeric(c) || c == '-' || c == '.' || c == '_' || c == '~' || c == '/'
}

// appendHeader appends the canonical value of a signed header: its values, joined by commas.
func appendHeader(dst []byte, r *Request, name string) ([]byte, *Failure) {
	if name == "host" || name == ":authority" {
		if r.Host == "" {
			return dst, fail(
				CauseMissingSignedHeader, "%s is signed, but the request has no host", name,
			)
		}
		return appendValue(dst, name, r.Host)
	}
	var buffer [64]byte
	values := r.Header[string(appendCanonicalName(buffer[:0], name))]
	if len(values) == 0 {
		if name == "content-length" && r.ContentLength > 0 {
			return strconv.AppendInt(dst, r.ContentLength, 10), nil
		}
		return dst, fail(
			CauseMissingSignedHeader, "header %q is signed, but the request does not have it",
			excerpt(name),
		)
	}
	for i, value := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		var failure *Failure
		dst, failure = appendValue(dst, name, value)
		if failure != nil {
			return dst, failure
		}
	}
	return dst, nil
}

// appendCanonicalName appends a lower-case name in net/http's form, such as X-Amz-Date. Unlike
// http.CanonicalHeaderKey, it does not allocate.
func appendCanonicalName(dst []byte, name string) []byte {
	start := true
	for i := range len(name) {
		c := name[i]
		if start && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		dst = append(dst, c)
		start = c == '-'
	}
	return dst
}

// appendValue appends one header value: spaces and tabs trimmed at both ends, runs of spaces
// collapsed to one. A control character would let one header pass for several in the canonical
// request. No HTTP server lets one through; this does not rely on it.
func appendValue(dst []byte, name, value string) ([]byte, *Failure) {
	value = strings.Trim(value, " \t")
	previous := byte(0)
	for i := range len(value) {
		c := value[i]
		if c < ' ' && c != '\t' || c == 0x7f {
			return dst, fail(
				CauseMalformedRequest, "header %q has a control character", excerpt(name),
			)
		}
		if c != ' ' || previous != ' ' {
			dst = append(dst, c)
		}
		previous = c
	}
	return dst, nil
}

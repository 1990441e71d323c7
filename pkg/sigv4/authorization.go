// This file parses the Authorization header: strictly, as bytes, without copying.

package sigv4

import (
	"net/http"
	"strings"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"

	maxAuthorization = 8 << 10 // bytes of the Authorization header; AWS KMS sends about 220
	maxSignedHeaders = 64      // names in SignedHeaders; AWS KMS sends 2
)

// authorization is a well-formed Authorization header. Its strings are parts of the header.
type authorization struct {
	accessKeyID   string // 1 to 128 letters and digits; A6 is not enforced on the wire
	date          string // 8 digits
	region        string
	service       string
	terminator    string
	signedHeaders string // as sent: lower-case names, ascending, separated by ';'
	signature     string // 64 lower-case hexadecimal digits
}

// String returns the header in the form that AWS's clients send. Parsing it returns the same
// authorization.
func (a authorization) String() string {
	scope := a.date + "/" + a.region + "/" + a.service + "/" + a.terminator
	return algorithm + " Credential=" + a.accessKeyID + "/" + scope +
		", SignedHeaders=" + a.signedHeaders + ", Signature=" + a.signature
}

// readAuthorization parses the one Authorization header of a request.
func readAuthorization(header http.Header) (authorization, *Failure) {
	values := header["Authorization"]
	if len(values) == 0 {
		return authorization{}, fail(
			CauseMissingAuthorization, "the request has no Authorization header: it is not signed",
		)
	}
	if len(values) > 1 {
		return authorization{}, fail(
			CauseMalformedAuthorization, "the request has %d Authorization headers", len(values),
		)
	}
	return parseAuthorization(values[0])
}

// parseAuthorization accepts "AWS4-HMAC-SHA256 " and the parameters Credential, SignedHeaders and
// Signature, each once, in any order, separated by a comma and at most one space.
func parseAuthorization(value string) (authorization, *Failure) {
	if len(value) > maxAuthorization {
		return authorization{}, fail(
			CauseMalformedAuthorization, "the Authorization header has %d bytes, more than %d",
			len(value), maxAuthorization,
		)
	}
	scheme, rest, found := strings.Cut(value, " ")
	if !found {
		return authorization{}, fail(
			CauseMalformedAuthorization, "the Authorization header has no parameters",
		)
	}
	if scheme != algorithm {
		return authorization{}, fail(
			CauseUnsupportedAlgorithm, "the Authorization header is not of the scheme %s",
			algorithm,
		)
	}
	var a authorization
	var credential string
	more := true
	for i := 0; more; i++ {
		var parameter string
		parameter, rest, more = strings.Cut(rest, ",")
		if i > 0 {
			parameter = strings.TrimPrefix(parameter, " ")
		}
		name, content, _ := strings.Cut(parameter, "=")
		var field *string
		switch name {
		case "Credential":
			field = &credential
		case "SignedHeaders":
			field = &a.signedHeaders
		case "Signature":
			field = &a.signature
		default:
			return authorization{}, fail(
				CauseMalformedAuthorization,
				"the Authorization header has a parameter other than Credential, SignedHeaders "+
					"and Signature",
			)
		}
		if content == "" || *field != "" {
			return authorization{}, fail(
				CauseMalformedAuthorization, "the Authorization header has %s empty or twice", name,
			)
		}
		*field = content
	}
	if credential == "" || a.signedHeaders == "" || a.signature == "" {
		return authorization{}, fail(
			CauseMalformedAuthorization,
			"the Authorization header lacks one of Credential, SignedHeaders and Signature",
		)
	}
	if !a.splitCredential(credential) {
		return authorization{}, fail(
			CauseMalformedAuthorization,
			"Credential in the Authorization header is not id/yyyymmdd/region/service/%s",
			terminator,
		)
	}
	if !isLowerHex64(a.signature) {
		return authorization{}, fail(
			CauseMalformedAuthorization,
			"Signature in the Authorization header is not 64 lower-case hexadecimal digits",
		)
	}
	failure := checkSignedHeaders(a.signedHeaders)
	if failure != nil {
		return authorization{}, failure
	}
	return a, nil
}

// splitCredential separates the access key id and the scope, and returns false if they are not
// well-formed.
func (a *authorization) splitCredential(credential string) bool {
	var parts [5]string
	more := true
	for i := range parts {
		if !more {
			return false
		}
		parts[i], credential, more = strings.Cut(credential, "/")
	}
	if more {
		return false
	}
	a.accessKeyID, a.date, a.region = parts[0], parts[1], parts[2]
	a.service, a.terminator = parts[3], parts[4]
	return len(a.accessKeyID) >= 1 && len(a.accessKeyID) <= 128 &&
		all(a.accessKeyID, isAlphanumeric) &&
		len(a.date) == 8 && all(a.date, isDigit) &&
		IsRegion(a.region) &&
		isService(a.service) &&
		len(a.terminator) >= 1 &&
		len(a.terminator) <= 64 &&
		all(a.terminator, isWord)
}

// checkSignedHeaders requires lower-case header names in ascending order without duplicates, among
// them x-amz-date and host or :authority (A1).
func checkSignedHeaders(list string) *Failure {
	var host, date bool
	previous := ""
	more := true
	for count := 1; more; count++ {
		var name string
		name, list, more = strings.Cut(list, ";")
		if count > maxSignedHeaders {
			return fail(
				CauseMalformedAuthorization, "SignedHeaders has more than %d names",
				maxSignedHeaders,
			)
		}
		if name != ":authority" && (name == "" || !all(name, isLowerToken)) {
			return fail(
				CauseMalformedAuthorization,
				"SignedHeaders has something that is not a lower-case header name",
			)
		}
		if name <= previous {
			return fail(
				CauseMalformedAuthorization,
				"SignedHeaders is not in ascending order without duplicates",
			)
		}
		previous = name
		host = host || name == "host" || name == ":authority"
		date = date || name == "x-amz-date"
	}
	if !host {
		return fail(CauseMissingSignedHeader, "neither host nor :authority is signed")
	}
	if !date {
		return fail(CauseMissingSignedHeader, "x-amz-date is not signed")
	}
	return nil
}

// all reports whether every byte of s is of the class. A byte outside ASCII is of none.
func all(s string, class func(byte) bool) bool {
	for i := range len(s) {
		if !class(s[i]) {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isAlphanumeric(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func isWord(c byte) bool { return isAlphanumeric(c) || c == '_' }

// isLowerToken reports whether c may be in an HTTP header name (RFC 9110 section 5.6.2), upper case
// excluded.
func isLowerToken(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'z' || strings.IndexByte("-!#$%&'*+.^_`|~", c) >= 0
}

func isLowerHex64(s string) bool {
	return len(s) == 64 && all(s, func(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'f' })
}

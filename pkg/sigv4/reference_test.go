// This file is a second, independent implementation of the rules: simple and slow. Tests sign with
// it and compare Verify with it.

package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// reference accepts what a Verifier of the same configuration must accept.
type reference struct {
	service string
	regions []string
	secrets map[string]string
	skew    time.Duration
}

var (
	refCredential = regexp.MustCompile(
		`^([A-Za-z0-9]{1,128})/([0-9]{8})/([a-z0-9-]{1,32})/([a-z0-9-]{1,64})/([A-Za-z0-9_]{1,64})$`,
	)
	refSignature = regexp.MustCompile(`^[0-9a-f]{64}$`)
	refName      = regexp.MustCompile("^(:authority|[a-z0-9!#$%&'*+.^_`|~-]+)$")
	refControl   = regexp.MustCompile("[\x00-\x08\x0a-\x1f\x7f]")
	refBlank     = regexp.MustCompile("[\x00-\x20\x7f]")
	refSpaces    = regexp.MustCompile(" +")
)

// meaning is all that a request says to a verifier, in one normal form. Two requests mean the same
// if, and only if,
//   - method, path, query and body are equal byte for byte;
//
// - the same headers are signed, and each has the same value, after trimming, collapsing and
// joining (so an unsigned header means nothing, nor
//
//	does the letter case of a header's name, which net/http has canonicalised);
//
// - Authorization has the same three parameters, however they are ordered and whether or not a
// space follows a comma;
//   - x-amz-date and x-amz-content-sha256 are equal, byte for byte.
type meaning struct {
	method, path, query, body   string
	id, date, region, service   string
	terminator, signature       string
	names                       []string
	values                      []string
	amzDate, contentHash        string
	repeatedDate, repeatedShaHd bool
}

// meaningOf gives false for what no verifier may even try to check.
func meaningOf(r *Request) (meaning, bool) {
	m := meaning{method: r.Method, path: r.Path, query: r.Query, body: string(r.Body)}
	authorizations := r.Header.Values("Authorization")
	if len(authorizations) != 1 || len(authorizations[0]) > 8192 {
		return m, false
	}
	parameters, found := strings.CutPrefix(authorizations[0], "AWS4-HMAC-SHA256 ")
	if !found {
		return m, false
	}
	got := map[string]string{}
	for i, parameter := range strings.Split(parameters, ",") {
		if i > 0 && strings.HasPrefix(parameter, " ") {
			parameter = parameter[1:]
		}
		name, value, found := strings.Cut(parameter, "=")
		_, twice := got[name]
		if !found || twice {
			return m, false
		}
		got[name] = value
	}
	scope := refCredential.FindStringSubmatch(got["Credential"])
	if len(got) != 3 || scope == nil || !refSignature.MatchString(got["Signature"]) {
		return m, false
	}
	m.id, m.date, m.region, m.service, m.terminator, m.signature = scope[1], scope[2], scope[3], scope[4], scope[5], got["Signature"]
	m.names = strings.Split(got["SignedHeaders"], ";")
	if len(m.names) > 64 || !slices.IsSorted(m.names) ||
		len(slices.Compact(slices.Clone(m.names))) != len(m.names) {
		return m, false
	}
	for _, name := range m.names {
		if !refName.MatchString(name) {
			return m, false
		}
		values := r.Header.Values(name)
		if name == "host" || name == ":authority" {
			values = []string{r.Host}
			if r.Host == "" {
				return m, false
			}
		}
		if len(values) == 0 {
			return m, false
		}
		var clean []string
		for _, value := range values {
			if refControl.MatchString(value) {
				return m, false
			}
			clean = append(clean, refSpaces.ReplaceAllString(strings.Trim(value, " \t"), " "))
		}
		m.values = append(m.values, strings.Join(clean, ","))
	}
	m.amzDate = r.Header.Get("X-Amz-Date")
	m.repeatedDate = len(r.Header.Values("X-Amz-Date")) != 1
	m.contentHash = r.Header.Get("X-Amz-Content-Sha256")
	m.repeatedShaHd = len(r.Header.Values("X-Amz-Content-Sha256")) > 1
	return m, true
}

func (ref reference) accepts(r *Request, now time.Time) bool {
	m, ok := meaningOf(r)
	if !ok || m.query != "" || m.repeatedDate || m.repeatedShaHd ||
		refBlank.MatchString(m.method) ||
		refBlank.MatchString(m.path) {
		return false
	}
	signedAt, err := time.Parse("20060102T150405Z", m.amzDate)
	if err != nil || signedAt.Format("20060102T150405Z") != m.amzDate ||
		signedAt.Format("20060102") != m.date {
		return false
	}
	if now.Sub(signedAt).Abs() > ref.skew {
		return false
	}
	_, hasHash := r.Header["X-Amz-Content-Sha256"]
	if hasHash && m.contentHash != hexSHA256(m.body) {
		return false
	}
	if m.service != ref.service || m.terminator != "aws4_request" ||
		len(ref.regions) > 0 && !slices.Contains(ref.regions, m.region) {
		return false
	}
	if !slices.Contains(m.names, "x-amz-date") ||
		!slices.Contains(m.names, "host") && !slices.Contains(m.names, ":authority") {
		return false
	}
	secret, known := ref.secrets[m.id]
	if !known {
		return false
	}
	return m.signature == ref.signature(m, secret, percentEncode(m.path)) ||
		m.signature == ref.signature(m, secret, m.path)
}

func (ref reference) signature(m meaning, secret, path string) string {
	if path == "" {
		path = "/"
	}
	lines := []string{m.method, path, ""}
	for i, name := range m.names {
		lines = append(lines, name+":"+m.values[i])
	}
	lines = append(lines, "", strings.Join(m.names, ";"), hexSHA256(m.body))
	scope := strings.Join([]string{m.date, m.region, m.service, m.terminator}, "/")
	toSign := strings.Join(
		[]string{"AWS4-HMAC-SHA256", m.amzDate, scope, hexSHA256(strings.Join(lines, "\n"))}, "\n",
	)
	key := []byte("AWS4" + secret)
	for _, part := range []string{m.date, m.region, m.service, m.terminator, toSign} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}

// sign sets X-Amz-Date and Authorization as a client would, with the path encoded by AWS's rule.
func (ref reference) sign(r *Request, id, region string, at time.Time, names ...string) {
	amzDate := at.UTC().Format("20060102T150405Z")
	r.Header.Set("X-Amz-Date", amzDate)
	head := "AWS4-HMAC-SHA256 Credential=" + id + "/" + amzDate[:8] + "/" + region + "/" + ref.service +
		"/aws4_request, SignedHeaders=" + strings.Join(
		names,
		";",
	) + ", Signature="
	r.Header.Set("Authorization", head+strings.Repeat("0", 64))
	m, ok := meaningOf(r)
	if !ok {
		return // the caller wants something that cannot be signed
	}
	r.Header.Set("Authorization", head+ref.signature(m, ref.secrets[id], percentEncode(r.Path)))
}

func percentEncode(path string) string {
	encoded := ""
	for _, c := range []byte(path) {
		if strings.IndexByte(
			"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/", c,
		) >= 0 {
			encoded += string(rune(c))
		} else {
			encoded += fmt.Sprintf("%%%02X", c)
		}
	}
	return encoded
}

func hexSHA256(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// What most tests use: one key store with two credentials.
const (
	oldID     = "OLDACCESSKEYIDFORTESTS2345"
	newID     = "NEWACCESSKEYIDFORTESTS2345"
	oldSecret = "8Rj3tq9ZsVxW0bLm5Nc7Yp2KdFhGu4eAoXiTrQvBzM1"
	newSecret = "uE4w/1hXn+Q7cT9yRbV2pLkJ6gMfDs8aZoW5tNiGxC0="
)

var (
	testNow       = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	testReference = reference{
		service: DefaultService, secrets: map[string]string{oldID: oldSecret, newID: newSecret},
		skew: MaxSkew,
	}
	testConfig = Config{
		Service: DefaultService, Credentials: []Credential{{oldID, oldSecret}, {newID, newSecret}},
	}
)

// testRequest is an Encrypt as AWS KMS sends it, not yet signed.
func testRequest() *Request {
	return &Request{
		Method: "POST",
		Path:   "/tenant/kms/xks/v1/keys/key-1/encrypt",
		Host:   "xks.example.com",
		Header: http.Header{"Content-Type": {"application/json"}, "User-Agent": {"test"}},
		Body:   []byte(`{"plaintext":"SGVsbG8=","encryptionAlgorithm":"AES_GCM"}`),
	}
}

// signedRequest is testRequest, signed with the old credential.
func signedRequest() *Request {
	r := testRequest()
	testReference.sign(r, oldID, "us-east-1", testNow, "content-type", "host", "x-amz-date")
	return r
}

// This file fuzzes what reads bytes from strangers.

package sigv4

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// FuzzParseAuthorization: what parses, formats to a header of the same parameters, and parses to
// the same again.
func FuzzParseAuthorization(f *testing.F) {
	valid := signedRequest().Header.Get("Authorization")
	for _, seed := range []string{
		valid, strings.ReplaceAll(valid, ", ", ","), reverseParameters(valid), valid + ",", "", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 ", "Basic Zm9v",
		strings.Replace(valid, "host", ":authority", 1), strings.Replace(valid, "us-east-1", "", 1), strings.Replace(valid, "=", "==", 1),
		strings.Replace(valid, "2026", "２026", 1), valid + ", Signature=" + strings.Repeat("0", 64),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		a, failure := parseAuthorization(value)
		if failure != nil {
			checkHarmless(t, failure)
			return
		}
		formatted := a.String()
		again, failure := parseAuthorization(formatted)
		if failure != nil {
			t.Fatalf("%q does not parse: %v", formatted, failure)
		}
		if again != a {
			t.Fatalf("%+v became %+v", a, again)
		}
		if !slices.Equal(parametersOf(value), parametersOf(formatted)) {
			t.Fatalf("%q became %q", value, formatted)
		}
	})
}

// parametersOf takes away what has no meaning: the order and the space after a comma.
func parametersOf(authorization string) []string {
	scheme, rest, _ := strings.Cut(authorization, " ")
	parameters := strings.Split(rest, ",")
	for i := 1; i < len(parameters); i++ {
		parameters[i] = strings.TrimPrefix(parameters[i], " ")
	}
	slices.Sort(parameters)
	return append([]string{scheme}, parameters...)
}

// FuzzVerify: Verify never panics, and accepts exactly what the reference accepts. headers is one
// "name:value" a line. mode says who signs: nobody, a client with the given names of signed
// headers, or a client whose Authorization is then changed by XOR-ing one byte.
func FuzzVerify(f *testing.F) {
	add := func(r *Request, mode byte, names string) {
		var headers []string
		for name, values := range r.Header {
			for _, value := range values {
				headers = append(headers, name+":"+value)
			}
		}
		slices.Sort(headers)
		f.Add(
			r.Method, r.Path, r.Query, r.Host, strings.Join(headers, "\n"), r.Body, mode, names,
			uint16(0),
		)
	}
	for _, r := range mutationOriginals() {
		add(r, 0, "")
	}
	for mode := range byte(3) {
		add(testRequest(), mode, "host;x-amz-date")
		add(testRequest(), mode, ":authority;content-type;x-amz-date;x-many")
	}
	utf8 := testRequest()
	utf8.Path = "/ሴ/a b/%2F"
	add(utf8, 1, "host;x-amz-date")
	v := newTestVerifier(f)
	f.Fuzz(
		func(t *testing.T, method, path, query, host, headers string, body []byte, mode byte, names string, at uint16) {
			r := &Request{
				Method: method, Path: path, Query: query, Host: host, Header: http.Header{},
				Body: body, ContentLength: -1,
			}
			for line := range strings.SplitSeq(headers, "\n") {
				name, value, found := strings.Cut(line, ":")
				if found {
					r.Header.Add(name, value)
				}
			}
			if mode%3 > 0 {
				testReference.sign(r, oldID, "us-east-1", testNow, strings.Split(names, ";")...)
			}
			if mode%3 == 2 {
				authorization := []byte(r.Header.Get("Authorization"))
				authorization[int(at)%len(authorization)] ^= byte(at >> 8)
				r.Header.Set("Authorization", string(authorization))
			}
			identity, err := v.Verify(r, testNow)
			if accepts := testReference.accepts(r, testNow); accepts != (err == nil) {
				t.Fatalf("the reference says %t, Verify %v: %+v", accepts, err, r)
			}
			if err != nil {
				checkHarmless(t, err)
				return
			}
			if identity.AccessKeyID != oldID && identity.AccessKeyID != newID {
				t.Fatalf("accepted for %q", identity.AccessKeyID)
			}
		},
	)
}

// This file checks the rules one by one: each has a request that breaks only it.

package sigv4

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func newTestVerifier(t testing.TB) *Verifier {
	t.Helper()
	v, err := New(testConfig)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerifyAccepts(t *testing.T) {
	sign := func(edit func(r *Request), names ...string) *Request {
		r := testRequest()
		edit(r)
		testReference.sign(r, newID, "eu-west-1", testNow, names...)
		return r
	}
	tests := map[string]*Request{
		"A1 as KMS signs on HTTP/1.1":    sign(func(*Request) {}, "host", "x-amz-date"),
		"A1 as KMS signs on HTTP/2":      sign(func(*Request) {}, ":authority", "x-amz-date"),
		"both host and :authority":       sign(func(*Request) {}, ":authority", "host", "x-amz-date"),
		"A1 port in the host":            sign(func(r *Request) { r.Host = "xks.example.com:8443" }, "host", "x-amz-date"),
		"header present and empty":       sign(func(r *Request) { r.Header["X-Empty"] = []string{""} }, "host", "x-amz-date", "x-empty"),
		"header with several values":     sign(func(r *Request) { r.Header["X-Many"] = []string{" a  b ", "", "\tc"} }, "host", "x-amz-date", "x-many"),
		"A2 content hash, signed":        sign(func(r *Request) { setContentHash(r) }, "host", "x-amz-content-sha256", "x-amz-date"),
		"A2 content hash, unsigned":      sign(func(r *Request) { setContentHash(r) }, "host", "x-amz-date"),
		"no body":                        sign(func(r *Request) { r.Body = nil }, "host", "x-amz-date"),
		"empty path":                     sign(func(r *Request) { r.Path = "" }, "host", "x-amz-date"),
		"content-length from net/http":   sign(func(r *Request) { r.Header.Set("Content-Length", "55") }, "content-length", "host", "x-amz-date"),
		"64 signed headers":              sign(func(r *Request) { addHeaders(r, 62) }, append([]string{"host"}, append(headerNames(62), "x-amz-date")...)...),
		"unsigned security token":        sign(func(r *Request) { r.Header.Set("X-Amz-Security-Token", "x") }, "host", "x-amz-date"),
		"parameters without space":       rewrite(signedRequest(), func(s string) string { return strings.ReplaceAll(s, ", ", ",") }),
		"parameters in another order":    rewrite(signedRequest(), reverseParameters),
		"A5 the other credential":        signedRequest(),
		"percent in the path, encoded":   sign(func(r *Request) { r.Path = "/a%20b" }, "host", "x-amz-date"),
		"a header of 100 KiB":            sign(func(r *Request) { r.Header["X-Huge"] = []string{strings.Repeat("a", 100<<10)} }, "host", "x-amz-date", "x-huge"),
		"bytes outside ASCII in a value": sign(func(r *Request) { r.Header["X-Word"] = []string{"grün"} }, "host", "x-amz-date", "x-word"),
	}
	for name, request := range tests {
		t.Run(name, func(t *testing.T) {
			identity, err := newTestVerifier(t).Verify(request, testNow)
			if err != nil {
				t.Fatal(err)
			}
			if !identity.Time.Equal(testNow) || identity.Region == "" || !strings.Contains(request.Header.Get("Authorization"), identity.AccessKeyID) {
				t.Fatalf("identity is %+v", identity)
			}
			if !testReference.accepts(request, testNow) {
				t.Fatal("the reference refuses it")
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	// broken is a valid request with one thing changed after signing; authorization changes its Authorization header.
	broken := func(edit func(r *Request)) *Request {
		r := signedRequest()
		edit(r)
		return r
	}
	authorization := func(old, new string) *Request {
		return rewrite(signedRequest(), func(s string) string { return strings.Replace(s, old, new, 1) })
	}
	// resigned is changed before signing, so that only the rule in question stands in its way.
	resigned := func(id, region string, at time.Time, names string, edit func(r *Request)) *Request {
		r := testRequest()
		edit(r)
		testReference.sign(r, id, region, at, strings.Split(names, ";")...)
		return r
	}
	keep := func(*Request) {}
	tests := []struct {
		name    string
		cause   Cause
		request *Request
	}{
		{"no Authorization", CauseMissingAuthorization, testRequest()},
		{"two Authorizations", CauseMalformedAuthorization, broken(func(r *Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) })},
		{"empty Authorization", CauseMalformedAuthorization, broken(func(r *Request) { r.Header.Set("Authorization", "") })},
		{"algorithm only", CauseMalformedAuthorization, broken(func(r *Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256") })},
		{"another algorithm", CauseUnsupportedAlgorithm, authorization("SHA256", "SHA512")},
		{"asymmetric algorithm", CauseUnsupportedAlgorithm, authorization("AWS4-HMAC", "AWS4-ECDSA-P256")},
		{"algorithm in lower case", CauseUnsupportedAlgorithm, authorization("AWS4", "aws4")},
		{"basic", CauseUnsupportedAlgorithm, broken(func(r *Request) { r.Header.Set("Authorization", "Basic Zm9v") })},
		{"too long", CauseMalformedAuthorization, rewrite(signedRequest(), func(s string) string { return s + strings.Repeat("0", 8192) })},
		{"two spaces after the algorithm", CauseMalformedAuthorization, authorization("SHA256 ", "SHA256  ")},
		{"two spaces after a comma", CauseMalformedAuthorization, authorization(", ", ",  ")},
		{"tab after a comma", CauseMalformedAuthorization, authorization(", ", ",\t")},
		{"trailing comma", CauseMalformedAuthorization, rewrite(signedRequest(), func(s string) string { return s + "," })},
		{"unknown parameter", CauseMalformedAuthorization, rewrite(signedRequest(), func(s string) string { return s + ", Extra=1" })},
		{"parameter name in lower case", CauseMalformedAuthorization, authorization("Signature=", "signature=")},
		{"Signature twice", CauseMalformedAuthorization, rewrite(signedRequest(), func(s string) string { return s + s[strings.LastIndex(s, ","):] })},
		{"no Signature", CauseMalformedAuthorization, rewrite(signedRequest(), func(s string) string { return s[:strings.LastIndex(s, ",")] })},
		{"empty Signature", CauseMalformedAuthorization, rewrite(signedRequest(), func(s string) string { return s[:strings.LastIndex(s, "=")+1] })},
		{"Signature in upper case", CauseMalformedAuthorization, rewrite(signedRequest(), func(s string) string { return s[:strings.LastIndex(s, "=")+1] + strings.Repeat("A", 64) })},
		{"Signature of 63 digits", CauseMalformedAuthorization, rewrite(signedRequest(), func(s string) string { return s[:len(s)-1] })},
		{"four parts in Credential", CauseMalformedAuthorization, authorization("/us-east-1", "")},
		{"six parts in Credential", CauseMalformedAuthorization, authorization("/us-east-1", "/us-east-1/x")},
		{"empty access key id", CauseMalformedAuthorization, authorization(oldID, "")},
		{"access key id outside ASCII", CauseMalformedAuthorization, authorization("OLDACCESS", "ＯLDACCESS")},
		{"date of digits outside ASCII", CauseMalformedAuthorization, authorization("20260701/", "２0260701/")},
		{"date of 7 digits", CauseMalformedAuthorization, authorization("20260701/", "2026071/")},
		{"region in upper case", CauseMalformedAuthorization, authorization("us-east-1", "US-EAST-1")},
		{"region outside ASCII", CauseMalformedAuthorization, authorization("us-east-1", "us-eaſt-1")},
		{"signed headers not sorted", CauseMalformedAuthorization, authorization("content-type;host;x-amz-date", "host;content-type;x-amz-date")},
		{"signed header twice", CauseMalformedAuthorization, authorization("host;", "host;host;")},
		{"signed header in upper case", CauseMalformedAuthorization, authorization("host;", "Host;")},
		{"signed header with empty name", CauseMalformedAuthorization, authorization("content-type;", ";content-type;")},
		{"signed header that is no token", CauseMalformedAuthorization, authorization("content-type;", ":path;content-type;")},
		{"65 signed headers", CauseMalformedAuthorization, resigned(oldID, "us-east-1", testNow, "host;"+strings.Join(headerNames(63), ";")+";x-amz-date", func(r *Request) { addHeaders(r, 63) })},
		{"A1 host not signed", CauseMissingSignedHeader, resigned(oldID, "us-east-1", testNow, "content-type;x-amz-date", keep)},
		{"A1 x-amz-date not signed", CauseMissingSignedHeader, resigned(oldID, "us-east-1", testNow, "content-type;host", keep)},
		{"signed header absent", CauseMissingSignedHeader, broken(func(r *Request) { r.Header.Del("Content-Type") })},
		{"x-amz-date absent", CauseMissingSignedHeader, broken(func(r *Request) { r.Header.Del("X-Amz-Date") })},
		{"no host", CauseMissingSignedHeader, broken(func(r *Request) { r.Host = "" })},
		{"content-length unknown", CauseMissingSignedHeader, authorization("content-type;", "content-length;content-type;")},
		{"line break in a header", CauseMalformedRequest, broken(func(r *Request) { r.Header.Set("Content-Type", "a\nhost:b") })},
		{"line break in the host", CauseMalformedRequest, broken(func(r *Request) { r.Host = "a\nb" })},
		{"line break in the path", CauseMalformedRequest, broken(func(r *Request) { r.Path += "\n" })},
		{"space in the method", CauseMalformedRequest, broken(func(r *Request) { r.Method = "POST " })},
		{"U5 query", CauseQueryNotEmpty, broken(func(r *Request) { r.Query = "a=b" })},
		{"another service", CauseWrongScope, authorization("kms-xks-proxy", "kms")},
		{"another terminator", CauseWrongScope, authorization("aws4_request", "aws4_other")},
		{"two dates", CauseMalformedDate, broken(func(r *Request) { r.Header.Add("X-Amz-Date", r.Header.Get("X-Amz-Date")) })},
		{"not a date", CauseMalformedDate, broken(func(r *Request) { r.Header.Set("X-Amz-Date", "20260231T120000Z") })},
		{"second 60", CauseMalformedDate, broken(func(r *Request) { r.Header.Set("X-Amz-Date", "20260701T120060Z") })},
		{"date of another form", CauseMalformedDate, broken(func(r *Request) { r.Header.Set("X-Amz-Date", "2026-07-01T12:00") })},
		{"date with a fraction", CauseMalformedDate, broken(func(r *Request) { r.Header.Set("X-Amz-Date", "20260701T12000.Z") })},
		{"date without zone", CauseMalformedDate, broken(func(r *Request) { r.Header.Set("X-Amz-Date", "20260701T120000z") })},
		{"date outside ASCII", CauseMalformedDate, broken(func(r *Request) { r.Header.Set("X-Amz-Date", "２0260701T1200Z") })},
		{"A3 scope of another day", CauseDateMismatch, authorization("20260701/", "20260702/")},
		{"A3 too old", CauseClockSkew, resigned(oldID, "us-east-1", testNow.Add(-5*time.Minute-time.Second), "host;x-amz-date", keep)},
		{"A3 from the future", CauseClockSkew, resigned(oldID, "us-east-1", testNow.Add(5*time.Minute+time.Second), "host;x-amz-date", keep)},
		{"A3 from long ago", CauseClockSkew, resigned(oldID, "us-east-1", time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), "host;x-amz-date", keep)},
		{"A2 content hash of another body", CausePayloadHashMismatch, broken(func(r *Request) { r.Header.Set("X-Amz-Content-Sha256", hexSHA256("other")) })},
		{"A2 unsigned payload", CausePayloadHashMismatch, resigned(oldID, "us-east-1", testNow, "host;x-amz-content-sha256;x-amz-date", func(r *Request) { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") })},
		{"A2 content hash empty", CausePayloadHashMismatch, broken(func(r *Request) { r.Header["X-Amz-Content-Sha256"] = []string{""} })},
		{"A2 content hash twice", CausePayloadHashMismatch, broken(func(r *Request) { setContentHash(r); r.Header.Add("X-Amz-Content-Sha256", hexSHA256(string(r.Body))) })},
		{"unknown access key", CauseUnknownAccessKey, authorization(oldID, "STRANGERACCESSKEYID2345")},
		{"A5 the other credential's id", CauseSignatureMismatch, authorization(oldID, newID)},
		{"method", CauseSignatureMismatch, broken(func(r *Request) { r.Method = "PUT" })},
		{"path", CauseSignatureMismatch, broken(func(r *Request) { r.Path = strings.Replace(r.Path, "key-1", "key-2", 1) })},
		{"path, one more slash", CauseSignatureMismatch, broken(func(r *Request) { r.Path += "/" })},
		{"path, encoded", CauseSignatureMismatch, broken(func(r *Request) { r.Path = strings.Replace(r.Path, "key", "%6Bey", 1) })},
		{"host", CauseSignatureMismatch, broken(func(r *Request) { r.Host = "xks.example.org" })},
		{"host of 100 KiB", CauseSignatureMismatch, broken(func(r *Request) { r.Host = strings.Repeat("a", 100<<10) })},
		{"port", CauseSignatureMismatch, broken(func(r *Request) { r.Host += ":443" })},
		{"body", CauseSignatureMismatch, broken(func(r *Request) { r.Body = r.Body[1:] })},
		{"signed header", CauseSignatureMismatch, broken(func(r *Request) { r.Header.Set("Content-Type", "text/json") })},
		{"time, within the skew", CauseSignatureMismatch, broken(func(r *Request) { r.Header.Set("X-Amz-Date", "20260701T120001Z") })},
		{"region", CauseSignatureMismatch, authorization("us-east-1", "us-east-2")},
	}
	v := newTestVerifier(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := v.Verify(test.request, testNow)
			var failure *Failure
			if !errors.As(err, &failure) {
				t.Fatalf("error is %v", err)
			}
			if failure.Cause != test.cause {
				t.Fatalf("refused for %v, not for %s", err, test.cause)
			}
			if failure.AccessKeyID != "" && !IsAccessKeyID(failure.AccessKeyID) {
				t.Fatalf("reports the access key id %q", failure.AccessKeyID)
			}
			checkHarmless(t, err)
			if testReference.accepts(test.request, testNow) {
				t.Fatal("the reference accepts it")
			}
		})
	}
}

// checkHarmless holds an error against X6 and "no secret in any log".
func checkHarmless(t *testing.T, err error) {
	t.Helper()
	text := err.Error()
	if len(text) > 1000 {
		t.Fatalf("the error has %d bytes", len(text))
	}
	for _, secret := range []string{oldSecret, newSecret} {
		if strings.Contains(text, secret) {
			t.Fatalf("the error holds a secret: %s", text)
		}
	}
	for _, c := range text {
		if c < ' ' || c == 0x7f {
			t.Fatalf("the error has a control character: %q", text)
		}
	}
}

// TestSecretInTheWrongField: a client that sends its secret as its access key id does not get it logged.
func TestSecretInTheWrongField(t *testing.T) {
	secret := strings.NewReplacer("/", "", "+", "", "=", "").Replace(newSecret)
	r := rewrite(signedRequest(), func(s string) string { return strings.Replace(s, oldID, secret, 1) })
	_, err := newTestVerifier(t).Verify(r, testNow)
	var failure *Failure
	if !errors.As(err, &failure) || failure.Cause != CauseUnknownAccessKey {
		t.Fatalf("error is %v", err)
	}
	if strings.Contains(fmt.Sprintf("%+v", *failure), secret) {
		t.Fatal("the secret is in the failure")
	}
}

// TestSkew covers A3: five minutes either way, inclusive.
func TestSkew(t *testing.T) {
	r := signedRequest()
	v := newTestVerifier(t)
	for _, test := range []struct {
		offset time.Duration
		accept bool
	}{
		{0, true}, {5 * time.Minute, true}, {-5 * time.Minute, true},
		{5*time.Minute + 1, false}, {-5*time.Minute - 1, false}, {24 * time.Hour, false}, {-24 * time.Hour, false},
	} {
		_, err := v.Verify(r, testNow.Add(test.offset))
		if (err == nil) != test.accept {
			t.Errorf("at %s: %v", test.offset, err)
		}
	}
}

// TestRegions covers A1: a key store may list the regions it accepts.
func TestRegions(t *testing.T) {
	config := testConfig
	config.Regions = []string{"eu-central-1", "us-east-1"}
	v, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	for region, accept := range map[string]bool{"us-east-1": true, "eu-central-1": true, "eu-central-2": false} {
		r := testRequest()
		testReference.sign(r, oldID, region, testNow, "host", "x-amz-date")
		_, err := v.Verify(r, testNow)
		var failure *Failure
		if accept != (err == nil) || err != nil && (!errors.As(err, &failure) || failure.Cause != CauseRegionNotAccepted) {
			t.Errorf("%s: %v", region, err)
		}
	}
}

// TestReplay covers A9: KMS repeats a request after a network timeout, and the repetition must pass.
func TestReplay(t *testing.T) {
	v := newTestVerifier(t)
	for range 3 {
		_, err := v.Verify(signedRequest(), testNow)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestConcurrent: one Verifier, many goroutines, credentials, regions and days; meant for -race.
func TestConcurrent(t *testing.T) {
	v := newTestVerifier(t)
	var wait sync.WaitGroup
	for worker := range 8 {
		wait.Go(func() {
			for i := range 150 {
				id := []string{oldID, newID}[i%2]
				at := testNow.AddDate(0, 0, i%3)
				r := testRequest()
				testReference.sign(r, id, fmt.Sprintf("region-%d", (i+worker)%20), at, "host", "x-amz-date")
				identity, err := v.Verify(r, at)
				if err != nil || identity.AccessKeyID != id {
					t.Errorf("%v, %v", identity, err)
					return
				}
				r.Body = nil
				_, err = v.Verify(r, at)
				if err == nil {
					t.Error("accepted without its body")
					return
				}
				_ = v.LastUsed()
			}
		})
	}
	wait.Wait()
}

// rewrite changes the Authorization header.
func rewrite(r *Request, change func(string) string) *Request {
	r.Header.Set("Authorization", change(r.Header.Get("Authorization")))
	return r
}

func reverseParameters(authorization string) string {
	scheme, rest, _ := strings.Cut(authorization, " ")
	p := strings.Split(rest, ", ")
	return scheme + " " + p[2] + "," + p[1] + ", " + p[0]
}

func setContentHash(r *Request) { r.Header.Set("X-Amz-Content-Sha256", hexSHA256(string(r.Body))) }

func headerNames(count int) []string {
	var names []string
	for i := range count {
		names = append(names, fmt.Sprintf("x-%02d", i))
	}
	return names
}

func addHeaders(r *Request, count int) {
	for _, name := range headerNames(count) {
		r.Header[http.CanonicalHeaderKey(name)] = []string{"value"}
	}
}

package test

// The rows about authentication and the certificate: A1 to A10, C1, C2.

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"
)

func authenticationRequirements() []requirement {
	return []requirement{
		{number: "A1", status: met,
			says: "SigV4 with the scope `kms-xks-proxy/aws4_request`; `host` or `:authority` and x-amz-date are signed, and whatever else is named; a key store may list its regions",
			checks: []check{
				{"the AWS SDK's signer and one that signs `:authority` are accepted", overEveryWay(checkSigners)},
				{"another service, terminator, algorithm or region, an unsigned host or date, a changed signed header are 401", overEveryWay(checkBadSignatures)},
			},
			also: []string{"TestCurlSignature"}},
		{number: "A2", status: met,
			says: "The payload hash is of the bytes received; a different `x-amz-content-sha256` is a failure",
			checks: []check{
				{"a right header, signed or not, is accepted; a wrong or repeated one and a changed body are 401", overEveryWay(checkPayloadHash)},
			}},
		{number: "A3", status: met,
			says:   "Timestamp within 5 minutes, scope date equal to the date in x-amz-date",
			checks: []check{{"4:50 off is accepted, 5:10 off is 401, before and after; another scope date and malformed dates are 401", overEveryWay(checkTimestamps)}}},
		{number: "A4", status: met,
			says: "Any failure is 401 AuthenticationFailedException with the same body; the cause goes to the log",
			checks: []check{
				{"unknown access key, wrong secret, clock skew, no header, malformed headers answer the same bytes, and the log names each cause", overEveryWay(checkOneBodyForAll)},
			},
			also: []string{"pkg/sigv4: TestMutants"}},
		{number: "A5", status: met,
			says:   "Several credentials for each key store, changed without a restart and never valid at another; the last use of each is recorded; the same id twice is a configuration error",
			checks: []check{{"both credentials of a store work at once, the log says which was used, and neither works at another store", overEveryWay(checkTwoCredentials)}},
			also:   []string{"TestRotation", "TestLastUseSurvivesARestart", "TestReloadTriggers", "TestTenants", "TestThousandKeyStores", "internal/config: TestBadConfigurations"}},
		{number: "A6", status: met,
			says:   "Access key id of 20 to 30 `A-Z2-7`, secret of 43 to 64 `A-Z a-z 0-9 / + =`: enforced in the configuration, not on the wire",
			checks: []check{{"an id of another form on the wire is 401 like any unknown one", refuses(oddAccessKeyRefusals)}},
			also:   []string{"internal/config: TestBadConfigurations", "internal/config: TestWarnings"}},
		{number: "A7", status: met,
			says: "mTLS may be configured, for each port: CA bundle, subjects compared exactly, usages; a handshake with another certificate, or none, ends",
			also: []string{"TestClientCertificatePort", "TestCertificateIsRenewed", "internal/server: TestClientCertificates", "internal/server: TestSessionEndsWithItsCA", "internal/server: TestSessionsDoNotCross"}},
		{number: "A8", status: met,
			says:   "Order of checks: path, size, authentication, JSON and fields, blocked key store, key, secondary authorization, state and usage, cryptography",
			checks: []check{{"of two faults in one request the one that is checked first is answered, for each neighbouring pair", refuses(orderRefusals)}},
			also:   []string{"TestPolicies", "pkg/xks: TestOrderOfChecks"}},
		{number: "A9", status: met,
			says:   "The 5 minutes are the whole replay protection; nothing assumes that kmsRequestId is unique",
			checks: []check{{"the same signed bytes are served twice; Decrypt and Encrypt share a kmsRequestId", overEveryWay(checkReplay)}}},
		{number: "A10", status: met, says: "A command writes the file that AWS's console imports, mode 0600",
			also: []string{"TestRotation", "internal/cli: TestCredentialsExport", "internal/cli: TestCredentialsNewForAKeyStore"}},
		{number: "C1", status: met,
			says:   "The certificate that KMS wants, intermediates served; several by SNI; reload without a restart; the end of each as a metric and in `status`, told in the log by its lifetime: a quarter left (at most 30 days), a tenth (at most 10)",
			checks: []check{{"the intermediate of the configured file is served, and a client that knows the root only is content", checkChain}},
			also: []string{"TestCertificatesByName", "TestCertificateIsRenewed", "internal/server: TestBadCertificates", "internal/server: TestCertificateIsChosenByName",
				"internal/server: TestCertificatesAreReplacedUnderLoad", "internal/server: TestEndsOfCertificatesAreTold", "internal/cli: TestPrintStatus"}},
		{number: "C2", status: notYet, but: "no `doctor` yet", says: "`doctor` checks name, chain, expiry, port, TLS versions and a round trip"},
	}
}

func checkSigners(t *testing.T, c *client) {
	c.fleet(t) // signed by the SDK
	k := c.call(healthURI, encode(healthBody()))
	c.mustDo(t, c.signedBy(k, func(s *signature) { s.headers = []string{":authority", "x-amz-date"} })).wantOK(t, new(object))
	k = c.call(healthURI, encode(healthBody()))
	k.header = http.Header{"X-Custom": {"a  b", "c"}, "Content-Type": {"application/json"}}
	c.mustDo(t, k).wantOK(t, new(object)) // the SDK signs all headers
}

func (c *client) wantUnauthenticated(t *testing.T, name string, k *call) {
	t.Helper()
	r := c.mustDo(t, k)
	err := r.checkError(401, "AuthenticationFailedException")
	if err != nil {
		t.Errorf("%s: %v; log line:\n%s", name, err, r.line())
	}
}

func checkBadSignatures(t *testing.T, c *client) {
	for name, edit := range map[string]func(*signature){
		"service":       func(s *signature) { s.service = "kms" },
		"service case":  func(s *signature) { s.service = "KMS-XKS-PROXY" },
		"terminator":    func(s *signature) { s.terminator = "aws5_request" },
		"unsigned host": func(s *signature) { s.headers = []string{"x-amz-date"} },
		"unsigned date": func(s *signature) { s.headers = []string{"host"} },
		"other path":    func(s *signature) { s.path += "x" },
		"other method":  func(s *signature) { s.method = "PUT" },
		"other host":    func(s *signature) { s.host = "elsewhere" },
		"absent header": func(s *signature) { s.headers = append(s.headers, "x-absent") },
	} {
		c.wantUnauthenticated(t, name, c.signedBy(c.call(healthURI, encode(healthBody())), edit))
	}
	regional := c.as(c.proxy.world.Regional).at(regionalPrefix)
	regional.wantUnauthenticated(t, "region", regional.call(healthURI, encode(healthBody()))) // us-east-1 is not on its list
	k := c.call(healthURI, encode(healthBody()))
	k.afterSign = func(r *http.Request) { r.Header.Set("Content-Type", "application/JSON") } // the SDK signed it
	c.wantUnauthenticated(t, "changed header", k)
	k = c.call(healthURI, encode(healthBody()))
	k.afterSign = func(r *http.Request) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "SHA256", "SHA512", 1))
	}
	c.wantUnauthenticated(t, "algorithm", k)
}

func checkPayloadHash(t *testing.T, c *client) {
	body := encode(healthBody())
	for _, signedToo := range []bool{true, false} {
		k := c.call(healthURI, body)
		add := func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", hexHash(body)) }
		if signedToo {
			k.header = http.Header{"X-Amz-Content-Sha256": {hexHash(body)}}
		} else {
			k.afterSign = add
		}
		c.mustDo(t, k).wantOK(t, new(object))
	}
	for name, values := range map[string][]string{
		"of another body": {hexHash([]byte("x"))}, "UNSIGNED-PAYLOAD": {"UNSIGNED-PAYLOAD"}, "upper case": {strings.ToUpper(hexHash(body))}, "twice": {hexHash(body), hexHash(body)}, "empty": {""},
	} {
		k := c.call(healthURI, body)
		k.afterSign = func(r *http.Request) { r.Header["X-Amz-Content-Sha256"] = values }
		c.wantUnauthenticated(t, name, k)
	}
	k := c.call(healthURI, body)
	text := c.bytes(t, k)
	r := c.proxy.exchange(t, replaceOnce(t, text, "KmsHealthCheck", "KmsHealthChecK"))
	if r == nil || r.status != 401 {
		t.Errorf("a changed body: %v", r)
	}
}

func checkTimestamps(t *testing.T, c *client) {
	for _, off := range []time.Duration{-290 * time.Second, 290 * time.Second} {
		k := c.call(healthURI, encode(healthBody()))
		k.at = time.Now().Add(off)
		c.mustDo(t, k).wantOK(t, new(object))
	}
	for _, off := range []time.Duration{-310 * time.Second, 310 * time.Second, -24 * time.Hour, 365 * 24 * time.Hour} {
		k := c.call(healthURI, encode(healthBody()))
		k.at = time.Now().Add(off)
		c.wantUnauthenticated(t, off.String(), k)
	}
	for _, date := range []string{"", "20260101", "2026-01-01T00:00:00Z", "Thu, 01 Jan 2026 00:00:00 GMT", "99999999T999999Z", "20260101T000000z"} {
		c.wantUnauthenticated(t, date, c.signedBy(c.call(healthURI, encode(healthBody())), func(s *signature) { s.date = date }))
	}
	for _, date := range []string{"20200101", "2026", "00000000"} {
		c.wantUnauthenticated(t, "scope of "+date, c.signedBy(c.call(healthURI, encode(healthBody())), func(s *signature) { s.scopeDate = date }))
	}
}

// checkOneBodyForAll: who guesses learns nothing from the reply; who operates learns all from the log.
func checkOneBodyForAll(t *testing.T, c *client) {
	w := c.proxy.world
	wrong := w.Main
	wrong.SecretAccessKey = w.Other.SecretAccessKey
	unknown := w.Main
	unknown.AccessKeyID = "XKSNOBODYKNOWSTHISID2345"
	old := c.call(healthURI, encode(healthBody()))
	old.at = time.Now().Add(-time.Hour)
	none := c.call(healthURI, encode(healthBody()))
	none.unsigned = true
	malformed := c.call(healthURI, encode(healthBody()))
	malformed.afterSign = func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 nonsense") }
	basic := c.call(healthURI, encode(healthBody()))
	basic.afterSign = func(r *http.Request) { r.SetBasicAuth("user", "password") }
	secretKey := c.call(encryptURI("nothing"), encode(encryptBody(nil, nil)))
	secretKey.who = &wrong
	const body = `{"errorName":"AuthenticationFailedException","errorMessage":"The request could not be authenticated."}`
	for cause, one := range map[string]struct {
		c *client
		k *call
	}{
		"signature_mismatch": {c.as(wrong), c.call(healthURI, encode(healthBody()))}, "unknown_access_key": {c.as(unknown), c.call(healthURI, encode(healthBody()))},
		"clock_skew": {c, old}, "missing_authorization": {c, none}, "malformed_authorization": {c, malformed}, "unsupported_algorithm": {c, basic},
	} {
		mark := c.proxy.log.mark()
		r := one.c.mustDo(t, one.k)
		if r.status != 401 || string(r.body) != body {
			t.Errorf("%s: %d %s", cause, r.status, r.body)
		}
		if !c.proxy.logged(mark, `"authentication_failure":"`+cause+`"`) {
			t.Errorf("the log does not say %s:\n%s", cause, c.proxy.log.tail(3))
		}
	}
	if r := c.mustDo(t, secretKey); string(r.body) != body {
		t.Errorf("a key that is not there: %s", r.body)
	}
}

// logged waits for a line after mark that holds text: the log is buffered for a moment.
func (p *proxy) logged(mark int, text string) bool {
	for range 100 {
		for _, line := range p.log.since(mark) {
			if strings.Contains(line, text) {
				return true
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

func checkTwoCredentials(t *testing.T, c *client) {
	w := c.proxy.world
	for _, credential := range []*client{c.as(w.Main), c.as(w.Second)} {
		r := credential.post(t, healthURI, healthBody())
		r.wantOK(t, new(object))
		if line := r.line(); !strings.Contains(line, `"access_key_id":"`+credential.credential.AccessKeyID+`"`) {
			t.Errorf("the log does not say which credential was used: %s", line)
		}
		other := credential.at(otherPrefix)
		other.wantUnauthenticated(t, "at another key store", other.call(healthURI, encode(healthBody())))
	}
	mixed := w.Main
	mixed.SecretAccessKey = w.Second.SecretAccessKey
	swapped := c.call(healthURI, encode(healthBody()))
	swapped.who = &mixed
	c.wantUnauthenticated(t, "one's id and the other's secret", swapped)
}

func oddAccessKeyRefusals(t testing.TB, w *world) []refusal {
	var cases []refusal
	for _, id := range []string{"A", "short", strings.Repeat("A", 128), strings.Repeat("A", 5000), "with-dash", "ÄÖÜ", "a/b"} {
		credential := w.Main
		credential.AccessKeyID = id
		cases = append(cases, refusal{id, healthURI, healthBody(), func(k *call) { k.who = &credential }, 401, "AuthenticationFailedException"})
	}
	return cases
}

func orderRefusals(t testing.TB, w *world) []refusal {
	unsigned := func(k *call) { k.unsigned = true }
	wrong := w.Main
	wrong.SecretAccessKey = w.Other.SecretAccessKey
	forged := func(k *call) { k.who = &wrong }
	noType := func(k *call) { k.header = http.Header{"Content-Type": nil} }
	huge := strings.Repeat("x", 140_000)
	tampered := seal(t, randomBytes(32), 1, 12, []byte("x"), nil)
	badDecrypt := decryptBody(tampered, nil)
	return []refusal{
		{"path before size and authentication", "/nowhere", huge, unsigned, 404, "InvalidUriPathException"},
		{"method before size and authentication", healthURI, huge, func(k *call) { k.method, k.unsigned = "PUT", true }, 405, "UnsupportedOperationException"},
		{"size before authentication", healthURI, huge, unsigned, 501, "UnsupportedOperationException"},
		{"authentication before content type", healthURI, healthBody(), func(k *call) { forged(k); noType(k) }, 401, "AuthenticationFailedException"},
		{"authentication before JSON", encryptURI("key-1"), "{", forged, 401, "AuthenticationFailedException"},
		{"authentication before fields", encryptURI("key-1"), "{}", unsigned, 401, "AuthenticationFailedException"},
		{"authentication before key", encryptURI("nothing"), encryptBody(nil, nil), forged, 401, "AuthenticationFailedException"},
		{"authentication before key state", encryptURI("disabled-key"), encryptBody(nil, nil), forged, 401, "AuthenticationFailedException"},
		{"content type before JSON", encryptURI("nothing"), "{", noType, 400, "ValidationException"},
		{"JSON before key", encryptURI("nothing"), "{", nil, 400, "ValidationException"},
		{"fields before key", encryptURI("nothing"), "{}", nil, 400, "ValidationException"},
		{"authentication before blocked key store", encryptURI("key-1"), encryptBody(nil, nil), func(k *call) { forged(k); w.blocked(k) }, 401, "AuthenticationFailedException"},
		{"fields before blocked key store", encryptURI("key-1"), "{}", w.blocked, 400, "ValidationException"},
		{"blocked key store before key", encryptURI("nothing"), encryptBody(nil, nil), w.blocked, 400, "InvalidStateException"},
		{"algorithm before key", encryptURI("nothing"), with(encryptBody(nil, nil), "encryptionAlgorithm", "ROT13"), nil, 501, "UnsupportedOperationException"},
		{"key before cryptography", decryptURI("nothing"), badDecrypt, nil, 404, "KeyNotFoundException"},
		{"state before cryptography", decryptURI("disabled-key"), badDecrypt, nil, 400, "InvalidStateException"},
		{"usage before cryptography", decryptURI("encrypt-only"), badDecrypt, nil, 400, "InvalidKeyUsageException"},
		{"cryptography last", decryptURI("key-1"), badDecrypt, nil, 400, "InvalidCiphertextException"},
	}
}

// blocked sends a call to the blocked key store.
func (w *world) blocked(k *call) {
	k.path = strings.Replace(k.path, mainPrefix, blockedPrefix, 1)
	if k.who == nil {
		k.who = &w.Blocked
	}
}

func checkReplay(t *testing.T, c *client) {
	k := c.call(encryptURI("key-1"), encode(encryptBody([]byte("x"), nil)))
	k.at = time.Now().Add(-time.Minute)
	var first, second sealed
	c.mustDo(t, k).wantOK(t, &first)
	c.mustDo(t, k).wantOK(t, &second)
	if string(first.InitializationVector) == string(second.InitializationVector) {
		t.Error("one IV twice")
	}
	id := newRequestID()
	decrypt := withMetadata(withMetadata(decryptBody(&first, nil), "kmsRequestId", id), "kmsOperation", "ReEncrypt")
	plaintext := c.post(t, decryptURI("key-1"), decrypt).wantPlaintext(t)
	c.post(t, encryptURI("key-2"), withMetadata(withMetadata(encryptBody(plaintext, nil), "kmsRequestId", id), "kmsOperation", "ReEncrypt")).wantOK(t, new(sealed))
}

func checkChain(t *testing.T) {
	p := sharedProxy(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c, err := tls.Dial("tcp", p.Listen, way{tls: version}.tlsConfig(p))
		if err != nil {
			t.Fatal(err)
		}
		served := c.ConnectionState().PeerCertificates
		c.Close()
		if len(served) != 2 || served[0].Subject.CommonName != "localhost" || served[1].Subject.CommonName != "intermediate" {
			t.Errorf("%d certificates served", len(served))
		}
	}
}

package test

// The rows about GetHealthStatus, errors and the log: H1 to H5, X1 to X7, L1 to L3.

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

func healthRequirements() []requirement {
	return []requirement{
		{number: "H1", status: met,
			says:   "Answers xksProxyFleetSize, xksProxyVendor, xksProxyModel, ekmVendor and 1 to 10 ekmFleetDetails of id, model and healthStatus",
			checks: []check{{"exactly these fields, one entry for each HSM, also for each key store, and what the configuration names", overEveryWay(checkHealthAnswer)}}},
		{number: "H2", status: met,
			says: "Every HSM really encrypts and decrypts with a test key that no key store reaches, in the background; the answer is cached, and quick while an HSM hangs",
			also: []string{"TestHealthOfAHungHSM", "pkg/xks: TestTestKeyIsOutOfReach"}},
		{number: "H3", status: met,
			says:   "No policy and no quota, shed last; requires kmsRequestId and kmsOperation",
			checks: []check{{"without one of the two, or null: 400 ValidationException; all else is optional", requiredMetadata(healthURI, func() object { return object{"requestMetadata": requestMetadata("KmsHealthCheck")} }, "kmsOperation", "kmsRequestId")}},
			also:   []string{"TestQuota", "TestPolicies", "pkg/xks: TestMaxInFlight", "pkg/xks: TestPolicyHealth"}},
		{number: "H4", status: met, says: "If no HSM can serve: 200 with every entry UNAVAILABLE; readiness is 503", also: []string{"TestBothHSMsGone"}},
		{number: "H5", status: met,
			says:   "`GET /healthz/ready` is 200 while the proxy can serve and 503 when not or draining, `/healthz/live` beside it, over plain HTTP on a port of its own and over HTTPS; the answer names nothing",
			checks: []check{{"200 and the exact bytes on both listeners, with no signature", overEveryWay(checkHealthz)}},
			also:   []string{"TestBothHSMsGone", "TestDrain"}},
	}
}

func checkHealthAnswer(t *testing.T, c *client) {
	var answer object
	r := c.post(t, healthURI, healthBody())
	r.wantOK(t, &answer)
	if fields := keysOf(answer); fields != "ekmFleetDetails ekmVendor xksProxyFleetSize xksProxyModel xksProxyVendor" {
		t.Errorf("fields: %s", fields)
	}
	if answer["xksProxyFleetSize"] != 1.0 || answer["xksProxyVendor"] != "xks-proxy" || answer["ekmVendor"] != "SoftHSM project" {
		t.Errorf("%s", r.body)
	}
	if model, _ := answer["xksProxyModel"].(string); !strings.HasPrefix(model, "xks-proxy ") {
		t.Errorf("xksProxyModel %q names no version", model)
	}
	details, _ := answer["ekmFleetDetails"].([]any)
	for i, want := range []string{"hsm-a", "hsm-b"} {
		if len(details) != 2 || keysOf(details[i].(object)) != "healthStatus id model" || details[i].(object)["id"] != want || details[i].(object)["healthStatus"] != "ACTIVE" {
			t.Errorf("%s", r.body)
		}
	}
}

func checkHealthz(t *testing.T, c *client) {
	for _, base := range []string{"https://" + c.proxy.Listen, "http://" + c.proxy.Health} {
		for path, want := range map[string]string{"/healthz/live": `{"status":"live"}`, "/healthz/ready": `{"status":"ready"}`} {
			status, body := c.proxy.get(t, c, base+path)
			if status != 200 || body != want {
				t.Errorf("%s: %d %q", base+path, status, body)
			}
		}
	}
}

// get is an unsigned GET; over plain HTTP it is on a connection of its own.
func (p *proxy) get(t testing.TB, c *client, url string) (int, string) {
	t.Helper()
	client := c.http
	if strings.HasPrefix(url, "http:") {
		client = &http.Client{Timeout: clientLimit, Transport: &http.Transport{DisableKeepAlives: true}}
	}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// ready asks the plain listener whether the proxy can serve.
func (p *proxy) ready(t testing.TB) int {
	t.Helper()
	status, _ := p.get(t, p.client(t, http1), "http://"+p.Health+"/healthz/ready")
	return status
}

func errorRequirements() []requirement {
	return []requirement{
		{number: "X1", status: met,
			says: "`{\"errorName\": …, \"errorMessage\": …}`, the message under 512 characters of printable ASCII",
			checks: []check{{"every error reply that any test here expects has this form; the two fields and no other", overEveryWay(func(t *testing.T, c *client) {
				var body object
				r := c.post(t, encryptURI("nothing"), encryptBody([]byte("x"), nil))
				if err := r.checkError(404, "KeyNotFoundException"); err != nil {
					t.Error(err)
				}
				if err := decodeInto(r.body, &body); err != nil || keysOf(body) != "errorMessage errorName" {
					t.Errorf("%s", r.body)
				}
			})}},
			also: []string{"pkg/xks: TestGolden", "pkg/xks: TestMessages"}},
		{number: "X2", status: met,
			says:   "The table of names and status codes",
			checks: []check{{"Validation, InvalidState, InvalidCiphertext, InvalidKeyUsage, AuthenticationFailed, KeyNotFound, InvalidUriPath and UnsupportedOperation with their codes", refuses(eachErrorName)}},
			also:   []string{"TestPolicies", "TestQuota", "TestUnknownKeyFlood", "TestKeyNotFoundOnlyIfAllSaySo", "TestBudget", "pkg/xks: TestStatusOfErrors"}},
		{number: "X3", status: met, says: "GetHealthStatus answers only its own errors, and ValidationException for missing metadata",
			checks: []check{{"ValidationException for missing metadata and no JSON", refuses(func(testing.TB, *world) []refusal {
				return []refusal{
					{"no metadata", healthURI, object{}, nil, 400, "ValidationException"},
					{"no JSON", healthURI, "x", nil, 400, "ValidationException"},
				}
			})}},
			also: []string{"pkg/xks: TestOperations"}},
		{number: "X4", status: met, says: "InvalidCiphertext only from Decrypt; InvalidKeyUsage only from Encrypt and Decrypt", also: []string{"pkg/xks: TestOperations"}},
		{number: "X5", status: met,
			says: "Encrypt and Decrypt with a disabled key, and every API of a blocked key store: InvalidStateException. Blocked by the configuration, or by an operator for the next request on and through restarts",
			checks: []check{{"all four of a blocked key store", refuses(func(_ testing.TB, w *world) []refusal {
				return []refusal{
					{"encrypt", encryptURI("key-1"), encryptBody([]byte("x"), nil), w.blocked, 400, "InvalidStateException"},
					{"decrypt", decryptURI("key-1"), decryptBody(&sealed{Ciphertext: []byte{}, InitializationVector: make([]byte, 12), AuthenticationTag: make([]byte, 16)}, nil), w.blocked, 400, "InvalidStateException"},
					{"metadata", metadataURI("key-1"), keyMetadataBody(), w.blocked, 400, "InvalidStateException"},
					{"health", healthURI, healthBody(), w.blocked, 400, "InvalidStateException"},
				}
			})}, {"both with a disabled key", refuses(func(t testing.TB, w *world) []refusal {
				s := seal(t, w.Values[keyID{"disabled-key", 1}], 1, 12, []byte("x"), nil)
				return []refusal{
					{"encrypt", encryptURI("disabled-key"), encryptBody([]byte("x"), nil), nil, 400, "InvalidStateException"},
					{"decrypt", decryptURI("disabled-key"), decryptBody(s, nil), nil, 400, "InvalidStateException"},
				}
			})}},
			also: []string{"TestBlockKeyStore", "TestBlockKey", "TestBlockUnderLoad", "TestDamagedBlocks", "TestBlockedByConfiguration", "pkg/xks: TestKillSwitchForAKeyStore", "pkg/xks: TestKillSwitchByLabel", "pkg/xks: TestBlockedKeyStore"}},
		{number: "X6", status: met,
			says: "No error message carries secrets, paths, HSM names, serials, PKCS#11 codes, policy text or other key stores' names",
			checks: []check{{"every error reply that any test here expects is searched for names of HSMs, tokens and key stores, slashes, hexadecimal codes, CKR and key ids", func(t *testing.T) {
				bad := reply{status: 400, header: http.Header{"Content-Type": {"application/json"}}}
				for _, message := range []string{"hsm-a is away", "no /etc/x", "code 0x30", "CKR_GENERAL_ERROR", strings.Repeat("x", 600), "Ünprintable"} {
					if bad.checkErrorForm(message) == nil {
						t.Errorf("the search does not find %q", message)
					}
				}
			}}},
			also: []string{"pkg/xks: TestFaultsAreInTheLogOnly", "pkg/xks: TestMessages"}},
		{number: "X7", status: met,
			says: "KeyNotFoundException only when every HSM that can answer, and at least one, did not find the key; while one that might hold it is away, InternalException",
			also: []string{"TestKeyNotFoundOnlyIfAllSaySo", "TestDeletedKey", "pkg/xks: TestErrorsOfHSMs"}},
		{number: "L1", status: met,
			says: "Every API request is logged: kmsRequestId, requestMetadata with unknown fields, bounded and escaped, key store, key, version, operation, outcome, error name, HSM, attempts, time. No secret at any level. Of requests that nobody authenticated, those beyond a rate are counted by reason",
			checks: []check{
				{"one line for each request with the fields that apply, served and refused", overEveryWay(checkLogLines)},
				{"huge and hostile metadata is one bounded line of JSON", overEveryWay(checkHostileMetadata)},
			},
			also: []string{"TestNoSecretAnywhere", "TestStrangersDoNotFillTheLog", "TestLogRotation", "internal/logging: TestFullDiskForLong", "pkg/xks: TestNothingSecretIsLogged"}},
		{number: "L2", status: notYet, but: "there is no audit log yet", says: "The audit log's integrity is protected"},
		{number: "L3", status: met,
			says: "Several records may carry one kmsRequestId",
			checks: []check{{"three requests with one id are three lines", overEveryWay(func(t *testing.T, c *client) {
				id := newRequestID()
				mark := c.proxy.log.mark()
				for range 3 {
					c.post(t, healthURI, withMetadata(healthBody(), "kmsRequestId", id)).wantOK(t, new(object))
				}
				if got := c.proxy.linesAbout(t, mark, id, 3); len(got) != 3 {
					t.Errorf("%d lines", len(got))
				}
			})}}},
	}
}

func eachErrorName(t testing.TB, w *world) []refusal {
	wrong := w.Main
	wrong.SecretAccessKey = w.Other.SecretAccessKey
	s := seal(t, randomBytes(32), 2, 12, []byte("x"), nil)
	good := encryptBody([]byte("x"), nil)
	return []refusal{
		{"validation", encryptURI("key-1"), "{}", nil, 400, "ValidationException"},
		{"state", encryptURI("disabled-key"), good, nil, 400, "InvalidStateException"},
		{"ciphertext", decryptURI("key-1"), decryptBody(s, nil), nil, 400, "InvalidCiphertextException"},
		{"usage", encryptURI("impotent"), good, nil, 400, "InvalidKeyUsageException"},
		{"authentication", encryptURI("key-1"), good, func(k *call) { k.who = &wrong }, 401, "AuthenticationFailedException"},
		{"key", encryptURI("nothing"), good, nil, 404, "KeyNotFoundException"},
		{"path", "/keys", good, nil, 404, "InvalidUriPathException"},
		{"unsupported", encryptURI("key-1"), with(good, "encryptionAlgorithm", "RSA"), nil, 501, "UnsupportedOperationException"},
	}
}

// linesAbout waits until there are n lines about a request id.
func (p *proxy) linesAbout(t testing.TB, mark int, id string, n int) []string {
	t.Helper()
	var found []string
	eventually(t, startLimit, func() error {
		found = nil
		for _, line := range p.log.since(mark) {
			if strings.Contains(line, id) {
				found = append(found, line)
			}
		}
		if len(found) < n {
			return fmt.Errorf("%d lines about %s, want %d", len(found), id, n)
		}
		return nil
	})
	return found
}

func checkLogLines(t *testing.T, c *client) {
	s := c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	unreadable := "key-" + newRequestID()
	for _, one := range []struct {
		uri  string
		body object
		want object
	}{
		{encryptURI("key-1"), encryptBody([]byte("x"), nil), object{"operation": "Encrypt", "status": 200.0, "outcome": "ok", "key": "key-1", "key_version": 2.0, "attempts": 1.0}},
		{decryptURI("key-1"), decryptBody(s, nil), object{"operation": "Decrypt", "status": 200.0, "outcome": "ok", "key": "key-1", "key_version": 2.0, "attempts": 1.0}},
		{metadataURI("key-1"), keyMetadataBody(), object{"operation": "GetKeyMetadata", "status": 200.0, "outcome": "ok", "key": "key-1"}},
		{healthURI, object{"requestMetadata": requestMetadata("KmsHealthCheck")}, object{"operation": "GetHealthStatus", "status": 200.0, "outcome": "ok"}},
		{encryptURI("nothing"), encryptBody([]byte("x"), nil), object{"operation": "Encrypt", "status": 404.0, "outcome": "error", "error_name": "KeyNotFoundException", "key": "nothing"}},
		{encryptURI("disabled-key"), encryptBody([]byte("x"), nil), object{"operation": "Encrypt", "status": 400.0, "outcome": "error", "error_name": "InvalidStateException"}},
		{encryptURI(unreadable), with(encryptBody([]byte("x"), nil), "plaintext", "?"), object{"status": 400.0, "error_name": "ValidationException", "key": unreadable}},
	} {
		mark, about := c.proxy.log.mark(), unreadable // a body that could not be read has no metadata
		if one.want["key"] != unreadable {
			about = requestIDOf(encode(one.body))
			for name, field := range map[string]string{
				"kmsRequestId": "kms_request_id", "kmsOperation": "kms_operation", "awsPrincipalArn": "aws_principal_arn", "kmsKeyArn": "kms_key_arn",
				"kmsViaService": "kms_via_service", "awsSourceVpc": "aws_source_vpc", "awsSourceVpce": "aws_source_vpce",
			} {
				one.want[field] = one.body["requestMetadata"].(object)[name]
			}
		}
		one.want["key_store"], one.want["region"], one.want["access_key_id"] = "main", signedRegion, c.credential.AccessKeyID
		c.post(t, one.uri, withMetadata(one.body, "awsNew", "marker "+one.uri))
		lines := c.proxy.linesAbout(t, mark, about, 1)
		if len(lines) != 1 {
			t.Errorf("%d lines about one request", len(lines))
		}
		line := parseLine(t, lines[0])
		for field, want := range one.want {
			if line[field] != want {
				t.Errorf("%s: %s is %v, want %v: %s", one.uri, field, line[field], want, lines[0])
			}
		}
		if one.want["key_version"] != nil && line["hsm"] != "hsm-a" && line["hsm"] != "hsm-b" || line["duration_ms"] == nil {
			t.Errorf("%s", lines[0])
		}
		if one.want["kms_operation"] != nil && !strings.Contains(fmt.Sprint(line["request_metadata_other"]), "marker") {
			t.Errorf("the unknown field is not logged: %s", lines[0])
		}
	}
}

func checkHostileMetadata(t *testing.T, c *client) {
	body := withMetadata(healthBody(), "awsPrincipalArn", "\x1b[31m\r\n{\"level\":\"error\"}\u2028\u0000"+strings.Repeat("A", 20_000))
	body = withMetadata(body, "awsNew", object{"x": strings.Repeat("B", 50_000), "y": "\n\u0007"})
	mark := c.proxy.log.mark()
	r := c.post(t, healthURI, body)
	r.wantOK(t, new(object))
	line := c.proxy.linesAbout(t, mark, requestIDOf(encode(body)), 1)[0]
	if parseLine(t, line); len(line) > 16_000 {
		t.Errorf("a line of %d bytes", len(line))
	}
	for _, b := range []byte(line) {
		if b < ' ' || b == 0x7f {
			t.Errorf("byte %#x in the log", b)
		}
	}
}

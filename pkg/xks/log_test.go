package xks

// The log line of each request (requirement L1): what must be in it, and what must never be.

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/sigv4"
)

func TestLogLine(t *testing.T) {
	r := newRig(t)
	request := encryptFields([]byte("x")).with("ciphertextDataIntegrityValueAlgorithm", "SHA_256").
		withMetadata("awsSourceVpc", "vpc-1").
		withMetadata("awsSourceVpce", "vpce-2").
		withMetadata("kmsNewField", fields{"a": []int{1}}).withMetadata("Other", 7)
	r.encrypt(goodKey, request).wantOK(t)
	line := r.lastLine()
	for name, want := range map[string]any{
		"status": int64(200), "outcome": "ok", "operation": "Encrypt", "key_store": "store-one", "key": goodKey, "key_version": uint32(2),
		"access_key_id": testCredential.AccessKeyID, "region": "us-east-1", "attempts": int64(2), "new_connection": false, "protocol": "HTTP/1.1",
		"kms_request_id": "4112f4d6-db54-4af4-ae30-c55a22a8dfae", "kms_operation": "Encrypt", "aws_principal_arn": "arn:aws:iam::123456789012:user/Alice",
		"kms_key_arn":     "arn:aws:kms:us-east-2:123456789012:/key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"kms_via_service": "ebs", "aws_source_vpc": "vpc-1", "aws_source_vpce": "vpce-2", "request_metadata_other": `{\"Other\":7,\"kmsNewField\":{\"a\":[1]}}`,
	} {
		got := line[name]
		if text, ok := got.(string); ok {
			got = strings.ReplaceAll(text, `"`, `\"`)
		}
		if got != want {
			t.Errorf("%s is %v, want %v", name, line[name], want)
		}
	}
	for _, name := range []string{"duration_ms", "remote", "hsm", "verified_by"} {
		if line[name] == nil || line[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
}

// L1: refused requests have a line too, with all that is known, and the reason.
func TestLogLineOfRefusals(t *testing.T) {
	r := newRig(t, compared)
	const id = "4112f4d6-db54-4af4-ae30-c55a22a8dfae"
	for _, c := range []struct {
		name string
		p    func() reply
		want map[string]any
	}{
		{"404", func() reply { return r.send("/nowhere/at?all=1", "") },
			map[string]any{"status": int64(404), "error_name": "InvalidUriPathException", "path": "/nowhere/at?all=1", "method": "POST"}},
		{"405", func() reply { return r.send(prefixURI+"/health", "", func(q *http.Request) { q.Method = "PUT" }) },
			map[string]any{"status": int64(405), "error_name": "UnsupportedOperationException", "method": "PUT"}},
		{"401", func() reply {
			return r.send(prefixURI+"/health", metadataOnly("x"), func(q *http.Request) { q.Header.Set("X-Amz-Content-Sha256", "0") })
		}, map[string]any{"status": int64(401), "authentication_failure": string(sigv4.CausePayloadHashMismatch), "claimed_access_key_id": testCredential.AccessKeyID, "access_key_id": nil, "key_store": "store-one",
			"kms_request_id": id, "authenticated": false}},
		{"bad field", func() reply { return r.encrypt(goodKey, encryptFields(nil).with("plaintext", "?")) },
			map[string]any{"status": int64(400), "error_name": "ValidationException", "kms_request_id": id, "key": goodKey}},
		{"missing field", func() reply { return r.encrypt(goodKey, encryptFields(nil).without("plaintext")) },
			map[string]any{"error_name": "ValidationException", "kms_request_id": id}},
		{"no key", func() reply { return r.metadata("no-such-key") },
			map[string]any{"error_name": "KeyNotFoundException", "kms_request_id": id, "key": "no-such-key", "outcome": "error"}},
		{"bad ciphertext", func() reply {
			return r.decrypt(goodKey, encryptGood(r).decryptFields().with("ciphertext", "QQ=="))
		}, map[string]any{"error_name": "InvalidCiphertextException", "key_version": uint32(2), "attempts": int64(1)}},
	} {
		c.p()
		line := r.lastLine()
		for name, want := range c.want {
			if line[name] != want {
				t.Errorf("%s: %s is %v, want %v", c.name, name, line[name], want)
			}
		}
		if line["reason"] == "" || line["outcome"] != "error" {
			t.Errorf("%s: %v", c.name, line)
		}
	}
}

// L1: the detail of a fault is in the log, and only there (X6).
func TestFaultsAreInTheLogOnly(t *testing.T) {
	r := newRig(t)
	r.setHooks(fails(hsm.ErrUnavailable))
	p := encryptGood(r)
	for _, secret := range []string{"hsm-a", "hsm-b", "slot", "4711", "C_Encrypt", "CKR", goodKey, "store-one"} {
		if strings.Contains(string(p.body), secret) {
			t.Errorf("%q in %s", secret, p.body)
		}
	}
	faults, _ := r.lastLine()["hsm_faults"].([]any)
	if len(faults) != 2 || !strings.Contains(r.logText(), "CKR_DEVICE_ERROR (0x30)") ||
		!strings.Contains(r.logText(), "serial 4711") {
		t.Errorf("%v", r.lastLine())
	}
	r.setHooks(nil)
	r.a.SetHook(fails(hsm.ErrUnavailable))
	for range 2 { // one of the two begins with hsm-a
		encryptGood(r).wantOK(t)
	}
}

// L1: plaintext, AAD and secrets are at no level, in no form, whatever happens.
func TestNothingSecretIsLogged(t *testing.T) {
	r := newRig(t)
	secret, aad := []byte("MARKER-plaintext-0123456789"), []byte("MARKER-aad-abcdefghijklm")
	good := encryptFields(secret).with("additionalAuthenticatedData", b64(aad))
	sealed := r.encrypt(goodKey, good)
	opened := sealed.decryptFields().with("additionalAuthenticatedData", b64(aad))
	requests := []func() reply{
		func() reply { return r.encrypt(goodKey, good) },
		func() reply { return r.encrypt(goodKey, good.with("ciphertextDataIntegrityValueAlgorithm", "SHA_256")) },
		func() reply { return r.encrypt(goodKey, good.without("requestMetadata")) },
		func() reply { return r.encrypt(goodKey, good.with("plaintext", string(secret))) },           // not Base64
		func() reply { return r.encrypt(goodKey, good.with("encryptionAlgorithm", string(secret))) }, // swapped
		func() reply { return r.encrypt(goodKey, good.with("plaintext", []string{string(secret)})) }, // not a string
		func() reply { return r.encrypt(goodKey, string(encode(t, good))+"x") },                      // not JSON
		func() reply { return r.encrypt(goodKey, good.with("plain", string(secret))) },               // not a field
		func() reply {
			return r.send(
				keyURI(goodKey, "encrypt"), good,
				func(q *http.Request) { q.Header.Del("X-Amz-Date") },
			)
		},
		func() reply { return r.decrypt(goodKey, opened) },
		func() reply { return r.decrypt(goodKey, opened.with("authenticationTag", "QQ==")) },
		func() reply { return r.decrypt("no-such-key", opened) },
	}
	for _, hook := range []func(){
		func() { r.setHooks(nil) },
		func() { r.setHooks(fails(hsm.ErrUnavailable)) },
		func() { r.setHooks(flips("encrypt", 1)) },
		func() { r.setHooks(flips("decrypt", 1)) },
	} {
		hook()
		for _, request := range requests {
			request()
		}
	}
	text := r.logText()
	for _, marker := range [][]byte{secret, aad} {
		for shift := range 3 { // the three ways that Base64 can show it
			encoded := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), marker...))
			encoded = encoded[(shift*4+2)/3 : len(encoded)-3]
			if strings.Contains(text, encoded) {
				t.Errorf("the log holds %s in Base64", marker)
			}
		}
		if strings.Contains(text, string(marker)) || strings.Contains(text, string(marker[7:])) {
			t.Errorf("the log holds %s", marker)
		}
	}
	if strings.Contains(text, "Signature=") || strings.Contains(text, "AWS4-HMAC") {
		t.Error("the log holds an Authorization header")
	}
}

// L1: what a caller sends cannot break a line, nor an operator's terminal, nor fill a disk.
func TestLogLineIsHarmless(t *testing.T) {
	r := newRig(t)
	evil := "a\x00\x1b[2Jb\r\n\x7fc\u009b1md\u202ee\u2028f\"\\\U000e0041"
	r.metadataWith(t, "awsPrincipalArn", evil)
	r.metadataWith(t, "unknown\u009b\u202e", fields{evil: evil})
	r.send("/\u009b31m\u202e/\xff\xfe", "")
	text := r.logText()
	for _, c := range text {
		if c < ' ' && c != '\n' || c == 0x7f || c >= 0x80 && c < 0xa0 || c == '\u202e' ||
			c == '\u2028' ||
			c == '\U000e0041' {
			t.Errorf("%U stands in the log: %q", c, text)
			break
		}
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) != 3 {
		t.Errorf("%d lines for 3 requests", len(lines))
	}
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %q", line)
		}
	}

	long := strings.Repeat("x", 60000)
	for _, name := range []string{"awsPrincipalArn", "kmsKeyArn", "kmsRequestId", "awsSourceVpc", "unknown"} {
		r.metadataWith(t, name, long)
	}
	r.send("/"+long, "")
	r.send(keyURI(long, "metadata"), metadataOnly("x"))
	for _, entry := range r.logs.All() {
		for name, value := range entry.ContextMap() {
			if s, ok := value.(string); ok && len(s) > maxLoggedOther+100 {
				t.Errorf("%s has %d bytes", name, len(s))
			}
		}
	}
	for s, want := range map[string]string{"short": "short", strings.Repeat("y", 12): "yyyyyyyyyy…(12 bytes)", "é": "é", "ééééé\u00e9": "ééééé…(12 bytes)"} {
		if got := shorten(s, 10); got != want {
			t.Errorf("%q becomes %q", s, got)
		}
	}
}

func (r *rig) metadataWith(t *testing.T, name string, value any) {
	t.Helper()
	r.send(keyURI(goodKey, "metadata"), metadataOnly("x").withMetadata(name, value)).wantOK(t)
}

// U12, L1: a reply that does not reach its client is in the log.
func TestReplyNotSent(t *testing.T) {
	r := newRig(t)
	r.served.Add(1)
	request := httptest.NewRequest(http.MethodGet, prefixURI+"/health", nil)
	r.handler.ServeHTTP(brokenWriter{httptest.NewRecorder()}, request)
	if r.lastLine()["reply_not_sent"] != "broken pipe" {
		t.Errorf("%v", r.lastLine())
	}
}

type brokenWriter struct{ *httptest.ResponseRecorder }

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

package xks

// Fuzzing of what anyone can send: the body, and the body and path of a signed request.

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"xks-proxy/pkg/authz"
)

func seedBodies(f *testing.F) []string {
	good := encryptFields([]byte("Hello World!")).with("additionalAuthenticatedData", "YWFk").
		with("ciphertextDataIntegrityValueAlgorithm", "SHA_256")
	text := string(encode(f, good))
	return []string{
		text, `{}`, `[]`, `null`, ``, `{"requestMetadata":null}`, `{"requestMetadata":{"kmsRequestId":"a","kmsOperation":"b","x":{"y":[1,2.5e3,true,null,"\u00e9"]}}}`,
		`{"plaintext":"QR=="}`, `{"plaintext":"\u0051Q\u003d="}`, `{"plaintext":"QQ==\n"}`, `{"a":1,"a":2}`, `{"a":{"b":1,"\u0062":2}}`, "{\"a\":\"\xff\"}",
		`{"a":"\ud800"}`, `{"Plaintext":5}`, text + "x", text + text, "\ufeff" + text, strings.ReplaceAll(text, "/", `\/`), strings.Repeat(`{"a":`, 100),
		`{"ciphertext":"","ciphertextMetadata":"AQAAAAI=","initializationVector":"AAAAAAAAAAAAAAAA","authenticationTag":"AAAAAAAAAAAAAAAAAAAAAA=="}`,
	}
}

// FuzzParseRequest: what parseRequest accepts, encoding/json reads in the same way, and it is one
// object without a field twice; what it refuses is refused in the API's words.
func FuzzParseRequest(f *testing.F) {
	for _, seed := range seedBodies(f) {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		r, err := parseRequest(body)
		metadataOf(body)
		if !bytes.Equal(before, body) {
			t.Fatal("the body was changed")
		}
		if err != nil {
			var e *apiError
			if !errors.As(err, &e) || e.name != validation || !goodMessage(e.message) {
				t.Fatalf("%v", err)
			}
			return
		}
		if !utf8.Valid(body) || !json.Valid(body) {
			t.Fatalf("accepted: %q", body)
		}
		if bytes.TrimLeft(body, " \t\r\n")[0] == 'n' {
			return // null: every field is missing
		}
		checkDuplicates(t, json.NewDecoder(bytes.NewReader(body)))
		var raw, metadata map[string]json.RawMessage
		if json.Unmarshal(body, &raw) != nil ||
			raw["requestMetadata"] != nil &&
				json.Unmarshal(raw["requestMetadata"], &metadata) != nil {
			t.Fatalf("accepted: %q", body)
		}
		for name, got := range map[string][]byte{
			"plaintext": r.Plaintext, "ciphertext": r.Ciphertext, "additionalAuthenticatedData": r.AAD, "ciphertextMetadata": r.CiphertextMetadata,
			"initializationVector": r.InitializationVector, "authenticationTag": r.AuthenticationTag,
		} {
			want := stringOf(t, raw[name])
			if (want == nil) != (got == nil) ||
				want != nil &&
					base64.StdEncoding.EncodeToString(
						got,
					) != *want { // equality is canonical form (U10)
				t.Fatalf("%s is %q in %q", name, got, body)
			}
		}
		sameString(t, r.EncryptionAlgorithm, raw["encryptionAlgorithm"])
		sameString(t, r.CDIVAlgorithm, raw["ciphertextDataIntegrityValueAlgorithm"])
		if (r.Metadata == nil) != (metadata == nil) {
			t.Fatalf("requestMetadata of %q", body)
		}
		if m := r.Metadata; m != nil {
			for name, got := range map[string]*string{
				"awsPrincipalArn": m.AWSPrincipalARN, "awsSourceVpc": m.AWSSourceVPC, "awsSourceVpce": m.AWSSourceVPCE, "kmsKeyArn": m.KMSKeyARN,
				"kmsOperation": m.KMSOperation, "kmsRequestId": m.KMSRequestID, "kmsViaService": m.KMSViaService,
			} {
				sameString(t, got, metadata[name])
				delete(metadata, name)
			}
			var other map[string]json.RawMessage
			if len(m.Other) > 0 && json.Unmarshal(m.Other, &other) != nil ||
				len(other) != len(metadata) {
				t.Fatalf("unknown fields %q of %q", m.Other, body)
			}
		}
	})
}

// stringOf is the string that stands there; nil for none and for null.
func stringOf(t *testing.T, raw json.RawMessage) *string {
	var s *string
	if raw != nil && json.Unmarshal(raw, &s) != nil {
		t.Fatalf("accepted %q where a string belongs", raw)
	}
	return s
}

func sameString(t *testing.T, got *string, raw json.RawMessage) {
	want := stringOf(t, raw)
	if (want == nil) != (got == nil) || want != nil && *want != *got {
		t.Fatalf("%v, not %q", got, raw)
	}
}

// checkDuplicates walks over the tokens of encoding/json, which lets duplicates pass.
func checkDuplicates(t *testing.T, d *json.Decoder) {
	token, err := d.Token()
	if err != nil {
		t.Fatal(err)
	}
	switch token {
	case json.Delim('{'):
		seen := map[string]bool{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				t.Fatal(err)
			}
			if seen[name.(string)] {
				t.Fatalf("accepted %q twice", name)
			}
			seen[name.(string)] = true
			checkDuplicates(t, d)
		}
	case json.Delim('['):
		for d.More() {
			checkDuplicates(t, d)
		}
	default:
		return
	}
	if _, err := d.Token(); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// FuzzHandler: whatever is signed and sent, the reply is one of the API's (U12, X1–X4); serve
// checks its form.
func FuzzHandler(f *testing.F) {
	for i, seed := range seedBodies(f) {
		operation := [...]string{"/health", "/keys/key-1/encrypt", "/keys/key-1/decrypt", "/keys/key-1/metadata"}[i%4]
		f.Add(prefixURI+operation, []byte(seed), i%2 == 0)
		f.Add(prefixURI+"/keys/key-1/encrypt", []byte(seed), true)
	}
	for _, path := range []string{"/", "*", "", "//", "/a/../b", prefixURI + "/health?x", prefixURI + "/keys/%2e/encrypt", "https://a/b", prefixURI + "/keys/\xff/decrypt"} {
		f.Add(path, []byte("{}"), true)
	}
	r := newRig(f)
	r.config.Log = nil // lines would pile up
	handler, err := NewHandler(r.config)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string, body []byte, signed bool) {
		request := httptest.NewRequest(
			http.MethodPost, "https://xks.example.com/", bytes.NewReader(body),
		)
		request.RequestURI = path
		request.Header.Set("Content-Type", "application/json")
		if signed {
			sign(request, path, body, testCredential, "us-east-1", time.Now())
		}
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		p := reply{recorder.Code, recorder.Header(), recorder.Body.Bytes()}
		checkReply(t, p)
		switch name := p.errorName(t); {
		case name == "" && !signed,
			name == internal,
			name == accessDenied,
			name == invalidCiphertext && !strings.HasSuffix(path, "/decrypt"):
			t.Errorf("%q %q: %s", path, body, p.body)
		}
		if handler.all.inFlight.Load() != 0 || handler.bodies.Load() != 0 {
			t.Error("something is still counted")
		}
	})
}

// FuzzPolicyRequest: whatever the metadata of a signed request, the policies of one account let no
// principal in that is not of it, and nothing is a fault of ours (Z3).
func FuzzPolicyRequest(f *testing.F) {
	for _, seed := range []string{"arn:aws:iam::123456789012:user/Alice", "arn:aws:sts::123456789012:assumed-role/a/b", "AWS Internal", "", "arn:aws:iam::123456789012:", "\xff\x00", "x:123456789012:y"} {
		f.Add(
			seed, "arn:aws:kms:us-east-2:123456789012:key/1234", "rds.eu-west-1.amazonaws.com",
			"vpce-1",
		)
		f.Add(seed, seed, seed, seed)
	}
	r := newRig(
		f,
		withPolicies(
			f,
			onlyAccount+`forbid (principal, action, resource) when { context has vpce && context.vpce like "*evil*" };`,
			authz.ModeEnforce,
		),
	)
	r.config.Log = nil // lines would pile up
	handler, err := NewHandler(r.config)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, principal, keyARN, via, vpce string) {
		body := encode(
			t,
			encryptFields(nil).withMetadata("awsPrincipalArn", principal).
				withMetadata("kmsKeyArn", keyARN).
				withMetadata("kmsViaService", via).
				withMetadata("awsSourceVpce", vpce),
		)
		path := keyURI(goodKey, "encrypt")
		request := httptest.NewRequest(
			http.MethodPost, "https://xks.example.com/", bytes.NewReader(body),
		)
		request.RequestURI = path
		request.Header.Set("Content-Type", "application/json")
		sign(request, path, body, testCredential, "us-east-1", time.Now())
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		p := reply{recorder.Code, recorder.Header(), recorder.Body.Bytes()}
		checkReply(t, p)
		switch {
		case p.status == http.StatusOK && (!strings.Contains(principal, ":123456789012:") || strings.Contains(vpce, "evil")):
			t.Errorf("%q %q is let in", principal, vpce)
		case p.status != http.StatusOK && p.errorName(t) != accessDenied && p.errorName(t) != validation:
			t.Errorf("%q %q %q %q: %s", principal, keyARN, via, vpce, p.body)
		}
	})
}

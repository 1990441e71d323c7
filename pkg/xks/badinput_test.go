package xks

// Bad input: what is no Base64, no JSON, no request of the API (requirements U6, U9, U10, U11, E1,
// D1, K3, H3).

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// sample is a good request of each operation.
func (r *rig) samples() map[string]fields {
	return map[string]fields{
		"encrypt": encryptFields(
			[]byte("Hello World!"),
		).with("additionalAuthenticatedData", b64([]byte("aad"))).
			with("ciphertextDataIntegrityValueAlgorithm", "SHA_256"),
		"decrypt": r.encrypt(goodKey, encryptFields([]byte("Hello World!")).with("additionalAuthenticatedData", b64([]byte("aad")))).
			decryptFields().
			with("additionalAuthenticatedData", b64([]byte("aad"))),
		"metadata": metadataOnly("CreateKey"),
		"health":   metadataOnly("KmsHealthCheck"),
	}
}

func (r *rig) at(operation string, body any) reply {
	if operation == "health" {
		return r.send(prefixURI+"/health", body)
	}
	return r.send(keyURI(goodKey, operation), body)
}

// required says which fields an operation cannot do without; bytes which are Base64.
var (
	required = map[string][]string{
		"encrypt": {"requestMetadata", "plaintext", "encryptionAlgorithm"},
		"decrypt": {
			"requestMetadata", "ciphertext", "encryptionAlgorithm", "initializationVector",
			"authenticationTag",
		},
		"metadata": {"requestMetadata"},
		"health":   {"requestMetadata"},
	}
	requiredMetadata = map[string][]string{
		"encrypt":  {"awsPrincipalArn", "kmsKeyArn", "kmsOperation", "kmsRequestId"},
		"decrypt":  {"awsPrincipalArn", "kmsKeyArn", "kmsOperation", "kmsRequestId"},
		"metadata": {"awsPrincipalArn", "kmsOperation", "kmsRequestId"},
		"health":   {"kmsOperation", "kmsRequestId"},
	}
	optionalMetadata = []string{
		"awsSourceVpc", "awsSourceVpce", "kmsViaService", "awsPrincipalArn", "kmsKeyArn",
	}
	byteFields = []string{
		"plaintext", "ciphertext", "additionalAuthenticatedData", "initializationVector",
		"authenticationTag", "ciphertextMetadata",
	}
	wrongTypes = []any{
		1, -1.5e300, true, false, []any{}, []any{"a"}, fields{}, fields{"a": "b"},
		json.RawMessage("123456789012345678901234567890"),
	}
)

// E1, D1, K3, H3, U11: each field of each operation missing, null, and of each wrong type.
func TestFieldMatrix(t *testing.T) {
	r := newRig(t)
	for operation, good := range r.samples() {
		r.at(operation, good).wantOK(t)
		check := func(what string, request fields, want errorName) {
			t.Helper()
			p := r.at(operation, request)
			if p.errorName(t) != want {
				t.Errorf("%s, %s: %d %s, want %q", operation, what, p.status, p.body, want)
			}
		}
		for name := range good {
			want := errorName("")
			if slices.Contains(required[operation], name) {
				want = validation
			}
			if operation == "decrypt" && want == "" {
				want = invalidCiphertext // without AAD or metadata it is another ciphertext
			}
			check(name+" missing", good.without(name), want)
			check(name+" null", good.with(name, nil), want)
			check(
				name+" in capitals", good.without(name).with(strings.ToUpper(name), good[name]),
				want,
			) // U11
			for _, wrong := range wrongTypes {
				if _, isObject := wrong.(fields); name == "requestMetadata" && isObject {
					continue
				}
				check(fmt.Sprintf("%s %v", name, wrong), good.with(name, wrong), validation)
			}
			if name != "requestMetadata" && !slices.Contains(byteFields, name) {
				check(name+" empty", good.with(name, ""), unsupported) // "" is present (U11, E1)
			}
		}
		for _, name := range append(optionalMetadata, requiredMetadata[operation]...) {
			want := errorName("")
			if slices.Contains(requiredMetadata[operation], name) {
				want = validation
			}
			metadata := good["requestMetadata"].(fields)
			check(name+" missing", good.with("requestMetadata", metadata.without(name)), want)
			check(name+" null", good.withMetadata(name, nil), want)
			check(name+" empty", good.withMetadata(name, ""), "")
			check(name+" any text", good.withMetadata(name, "AWS Internal \u00e4 \u0001 ☃"), "")
			check(
				name+" of 3000", good.withMetadata(name, strings.Repeat("a", 3000)), "",
			) // U9, U11
			check(
				name+" in other letters",
				good.with(
					"requestMetadata", metadata.without(name).with(strings.ToLower(name), "x"),
				),
				want,
			)
			for _, wrong := range wrongTypes {
				check(fmt.Sprintf("%s %v", name, wrong), good.withMetadata(name, wrong), validation)
			}
		}
		check(
			"unknown fields",
			good.with("new", fields{"a": []any{1, nil, "x"}}).
				withMetadata("newer", fields{"b": 1e300}),
			"",
		)
		check("unknown kmsOperation", good.withMetadata("kmsOperation", "BulkEverything"), "")
	}
}

// U10.
func TestBase64(t *testing.T) {
	r := newRig(t)
	bad := map[string]string{
		"URL-safe":              "__-_",
		"no padding":            "QUI",
		"half the padding":      "QQ=",
		"too much padding":      "QUJD=",
		"padding alone":         "====",
		"padding inside":        "QQ==QUJD",
		"newline inside":        "QU\nJD",
		"newline after":         "QUJD\n",
		"carriage return":       "QUJD\r\n",
		"space":                 "QU JD",
		"space before":          " QUJD",
		"tab":                   "QUJD\t",
		"NUL":                   "QUJD\x00",
		"trailing bits, one":    "QR==",
		"trailing bits, two":    "QUJ=",
		"one character":         "Q",
		"outside ASCII":         "QUJÄ",
		"full-width digits":     "１２３４",
		"quote":                 `"QUJD"`,
		"hexadecimal":           "41:42:43",
		"good, then bad, large": b64(pattern(3000)) + "!",
	}
	for operation, good := range r.samples() {
		for _, name := range byteFields {
			if _, own := good[name]; !own {
				continue
			}
			for what, text := range bad {
				p := r.at(operation, good.with(name, text))
				if p.errorName(t) != validation {
					t.Errorf("%s, %s, %s: %s", operation, name, what, p.body)
				}
				if strings.Contains(string(p.body), text) && len(text) > 2 {
					t.Errorf(
						"%s, %s, %s: the reply quotes the request: %s", operation, name, what,
						p.body,
					)
				}
			}
		}
	}
	// Escapes are JSON's business, not Base64's.
	for _, text := range []string{`"+\/+\/"`, `"\u002b/+/"`, `"+/+/"`, `"\u002B\u002F\u002B\u002F"`} {
		request := strings.Replace(
			string(encode(t, encryptFields(nil))), `"plaintext":""`, `"plaintext":`+text, 1,
		)
		p := r.encrypt(goodKey, request)
		p.wantOK(t)
		answer := r.decrypt(goodKey, p.decryptFields())
		if got := answer.fields(t)["plaintext"]; got != "+/+/" {
			t.Errorf("%s: %s", text, answer.body)
		}
	}
	request := strings.Replace(
		string(encode(t, encryptFields(nil))), `"plaintext":""`, `"plaintext":"QUJD\n"`, 1,
	)
	r.encrypt(goodKey, request).want(t, validation) // an escaped newline is a newline
}

// U11: what is no JSON, or JSON of another shape.
func TestJSON(t *testing.T) {
	r := newRig(t)
	good := string(encode(t, encryptFields([]byte("x"))))
	inObject := func(extra string) string { return good[:len(good)-1] + "," + extra + "}" }
	inMetadata := func(extra string) string {
		return strings.Replace(good, `"requestMetadata":{`, `"requestMetadata":{`+extra+",", 1)
	}
	for what, body := range map[string]string{
		"nothing": "", "spaces": "   ", "null": "null", "string": `"a"`, "number": "1", "true": "true", "array": "[]", "array around": "[" + good + "]",
		"empty object": "{}", "cut": good[:len(good)-1], "object after": good + "{}", "letter after": good + "x", "NUL after": good + "\x00",
		"second object": good + good, "brace after": good + "}", "byte order mark": "\ufeff" + good, "UTF-16": "\xff\xfe{\x00}\x00",
		"comma": good[:len(good)-1] + ",}", "comment": "/* a */" + good, "single quotes": strings.ReplaceAll(good, `"`, "'"),
		"invalid UTF-8, known field":      strings.Replace(good, "Alice", "Al\xffce", 1),
		"invalid UTF-8, unknown field":    inObject("\"x\":\"\xc0\xaf\""),
		"invalid UTF-8, name":             inObject("\"\xed\xa0\x80\":1"),
		"lone surrogate":                  strings.Replace(good, "Alice", `\ud800`, 1),
		"bad escape":                      strings.Replace(good, "Alice", `\x41`, 1),
		"raw newline in a string":         strings.Replace(good, "Alice", "Al\nice", 1),
		"twice: plaintext":                inObject(`"plaintext":"QQ=="`),
		"twice: plaintext, null":          inObject(`"plaintext":null`),
		"twice: plaintext, escaped name":  inObject(`"pl\u0061intext":"QQ=="`),
		"twice: requestMetadata":          inObject(`"requestMetadata":{}`),
		"twice: unknown field":            inObject(`"a":1,"a":1`),
		"twice: in an unknown object":     inObject(`"a":{"b":1,"b":2}`),
		"twice: deep in unknown arrays":   inObject(`"a":[[{"c":[{"b":1,"b":2}]}]]`),
		"twice: kmsRequestId":             inMetadata(`"kmsRequestId":"other"`),
		"twice: unknown in metadata":      inMetadata(`"a":1,"a":2`),
		"twice: object unknown in there":  inMetadata(`"a":{"b":1,"b":2}`),
		"nested 10001 deep":               inObject(`"a":` + strings.Repeat("[", 10001) + strings.Repeat("]", 10001)),
		"60000 levels that never close":   inObject(`"a":` + strings.Repeat("[", 60000)),
		"60000 objects that never close":  inObject(`"a":` + strings.Repeat(`{"":`, 15000)),
		"NaN":                             inObject(`"a":NaN`),
		"leading zero":                    inObject(`"a":01`),
		"number with two points":          inObject(`"a":1.1.1`),
		"requestMetadata as an array":     strings.Replace(good, `"requestMetadata":{`, `"requestMetadata":[{`, 1),
		"field names without their quote": `{requestMetadata:{}}`,
	} {
		p := r.encrypt(goodKey, body)
		if p.errorName(t) != validation {
			t.Errorf("%s: %d %.300s", what, p.status, p.body)
		}
	}
	for what, body := range map[string]string{
		"spaces around": " \r\n\t" + good + " \n", "spaces inside": strings.ReplaceAll(good, ":{", " :\n{ "),
		"nested 9000 deep": inObject(`"a":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000)),
		"huge numbers":     inObject(`"a":1e999999999,"b":-` + strings.Repeat("9", 5000) + `,"c":1E-400`),
		"other letters":    inObject(`"Plaintext":7,"PLAINTEXT":null,"requestmetadata":[]`),
		"escaped name":     strings.Replace(good, `"plaintext"`, `"pl\u0061intext"`, 1),
		"escaped slashes":  strings.ReplaceAll(good, "/", `\/`),
		"surrogate pair":   strings.Replace(good, "Alice", `\ud83d\ude00`, 1),
		"empty name":       inObject(`"":1`),
		"NUL in a string":  strings.Replace(good, "Alice", `\u0000`, 1),
	} {
		p := r.encrypt(goodKey, body)
		if p.status != http.StatusOK {
			t.Errorf("%s: %d %.300s", what, p.status, p.body)
		}
	}
}

// U9: at each limit, and one past it.
func TestSizes(t *testing.T) {
	r := newRig(t)
	aad := func(n int) fields { return encryptFields(nil).with("additionalAuthenticatedData", b64(pattern(n))) }
	padded := func(n int) string {
		good := string(encode(t, encryptFields([]byte("x"))))
		return good + strings.Repeat(" ", n-len(good))
	}
	opened := encryptGood(r).decryptFields()
	for _, c := range []struct {
		what string
		p    reply
		want errorName
	}{
		{"plaintext at the limit", r.encrypt(goodKey, encryptFields(pattern(8192))), ""},
		{"plaintext past it", r.encrypt(goodKey, encryptFields(pattern(8193))), unsupported},
		{"plaintext far past it", r.encrypt(goodKey, encryptFields(pattern(90000))), unsupported},
		{"AAD at the limit", r.encrypt(goodKey, aad(65535)), ""},
		{"AAD past it", r.encrypt(goodKey, aad(65536)), unsupported},
		{"AAD that would wrap to one byte", r.encrypt(goodKey, aad(65537)), unsupported},
		{"ciphertext at the limit", r.decrypt(goodKey, opened.with("ciphertext", b64(pattern(8192)))), invalidCiphertext},
		{"ciphertext past it", r.decrypt(goodKey, opened.with("ciphertext", b64(pattern(8193)))), unsupported},
		{"AAD of decrypt past it", r.decrypt(goodKey, opened.with("additionalAuthenticatedData", b64(pattern(65536)))), unsupported},
		{"body at the limit", r.encrypt(goodKey, padded(defaultMaxBody)), ""},
		{"body past it", r.encrypt(goodKey, padded(defaultMaxBody+1)), unsupported},
		{"body of a megabyte", r.encrypt(goodKey, padded(1<<20)), unsupported},
		{"body past it, length not said", r.send(keyURI(goodKey, "encrypt"), padded(defaultMaxBody+1), func(q *http.Request) { q.ContentLength = -1 }), unsupported},
		{"body at the limit, length not said", r.send(keyURI(goodKey, "encrypt"), padded(defaultMaxBody), func(q *http.Request) { q.ContentLength = -1 }), ""},
	} {
		if got := c.p.errorName(t); got != c.want {
			t.Errorf("%s: %d %s", c.what, c.p.status, c.p.body)
		}
	}
	if base64.StdEncoding.EncodedLen(MaxAAD)+base64.StdEncoding.EncodedLen(
		defaultMaxData,
	)+7*maxLoggedText > defaultMaxBody {
		t.Error("a request with everything at its limit does not fit into the body cap")
	}
}

// U6.
func TestContentType(t *testing.T) {
	r := newRig(t)
	for value, want := range map[string]errorName{
		"application/json": "", "Application/JSON": "", "application/json;charset=utf-8": "", "application/json ; a=b; c=\"d\"": "", "application/json;": "",
		"": validation, "text/json": validation, "application/jsonp": validation, "application/x-amz-json-1.1": validation,
		"text/plain; application/json": validation, "application/json, text/plain": validation, "*/*": validation,
	} {
		p := r.send(
			keyURI(goodKey, "encrypt"), encryptFields(nil),
			func(q *http.Request) { q.Header.Set("Content-Type", value) },
		)
		if p.errorName(t) != want {
			t.Errorf("%q: %s", value, p.body)
		}
	}
	twice := r.send(
		keyURI(goodKey, "encrypt"), encryptFields(nil),
		func(q *http.Request) { q.Header.Add("Content-Type", "application/json") },
	)
	twice.want(t, validation)
}

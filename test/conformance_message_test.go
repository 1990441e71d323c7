package test

// The rows about what stands in a request: U9 to U12.

import (
	"encoding/json"
	"strings"
	"testing"
)

func messageRequirements() []requirement {
	return []requirement{
		{number: "U9", status: met,
			says: "ARNs to 2048 characters, plaintext and ciphertext to 4300 bytes at least, AAD to 8192 bytes at least. Beyond our maximum: 501 UnsupportedOperationException, never a wrap-around",
			checks: []check{
				{"ARNs of 2048 and of 10,000 characters are taken", overEveryWay(checkLongARNs)},
				{"bodies beyond 131072 bytes are 501, before authentication", refuses(oversizeRefusals)},
			},
			also: []string{"TestSizes", "TestTooLarge", "TestHugeBodies"}},
		{number: "U10", status: met,
			says: "Standard Base64 with padding; anything else is ValidationException",
			checks: []check{
				{"`\\/` and other escapes inside a Base64 string are read", overEveryWay(checkEscapedBase64)},
				{"URL-safe, unpadded, over-padded, broken and non-canonical Base64 and line breaks are 400 in every field", refuses(base64Refusals)},
			}},
		{number: "U11", status: met,
			says: "Unknown fields are ignored; names are case-sensitive; null is absent; `\"\"` is present; a field twice, bytes after the object or invalid UTF-8 are ValidationException; no value of requestMetadata is checked for its form",
			checks: []check{
				{"unknown fields of any type, null in optional fields, empty strings, odd principals, ARNs and operations are taken", overEveryWay(checkTolerance)},
				{"twice the same field, trailing bytes, invalid UTF-8, no object, wrong types, names in other case are 400", refuses(strictnessRefusals)},
			}},
		{number: "U12", status: met,
			says: "Every reply to a request that reaches our handler is JSON with a name of the API; what net/http refuses before is listed below",
			checks: []check{
				{"`OPTIONS *`, CONNECT, a request target with scheme and host, a body that ends too soon or is badly chunked get JSON", checkOddRequestsGetJSON},
			},
			also: []string{"TestNetHTTPRefusals", "TestDribblingBody"}},
	}
}

func checkLongARNs(t *testing.T, c *client) {
	for _, n := range []int{2048, 10_000} {
		body := withMetadata(encryptBody([]byte("x"), nil), "awsPrincipalArn", "arn:aws:iam::123456789012:user/"+strings.Repeat("a", n-31))
		body = withMetadata(body, "kmsKeyArn", "arn:aws:kms:"+strings.Repeat("k", n-12))
		c.encrypt(t, "key-1", body)
	}
}

func oversizeRefusals(testing.TB, *world) []refusal {
	body := with(healthBody(), "padding", strings.Repeat("x", 131072))
	unsigned := func(k *call) { k.unsigned = true }
	return []refusal{
		{"health", healthURI, body, nil, 501, "UnsupportedOperationException"},
		{"unsigned", healthURI, body, unsigned, 501, "UnsupportedOperationException"},
		{"encrypt", encryptURI("key-1"), with(encryptBody(nil, nil), "padding", strings.Repeat("x", 1<<20)), nil, 501, "UnsupportedOperationException"},
		{"a key that is not there", encryptURI("nothing"), body, unsigned, 501, "UnsupportedOperationException"},
	}
}

func checkEscapedBase64(t *testing.T, c *client) {
	plaintext := []byte{0xff, 0xff, 0xff, 0xfe} // "/////g=="
	text := string(encode(encryptBody(plaintext, nil)))
	for _, escaped := range []string{`\/\/\/\/\/g==`, `\u002f////g\u003D=`} {
		var s sealed
		c.post(t, encryptURI("key-1"), strings.Replace(text, "/////g==", escaped, 1)).wantOK(t, &s)
		if got := s.open(t, c.proxy.world.Values[keyID{"key-1", 2}], nil); string(got) != string(plaintext) {
			t.Fatalf("%s was read as %x", escaped, got)
		}
	}
}

func base64Refusals(t testing.TB, w *world) []refusal {
	bad := map[string]any{
		"URL-safe": "_-8=", "unpadded": "QQ", "half padded": "QQ=", "over-padded": "QQ===", "padding alone": "=", "padding inside": "QQ==QQ==", "blank": "QUI= ",
		"line break": "QUJD\nQUJD", "carriage return": "QUJD\r\n", "not canonical": "QR==", "not ASCII": "ＱＱ==", "a number": 5, "a list": []int{1}, "an object": object{}, "true": true,
	}
	value := w.Values[keyID{"key-1", 2}]
	decrypt := decryptBody(seal(t, value, 2, 12, []byte("x"), nil), nil)
	encrypt := encryptBody([]byte("x"), nil)
	var cases []refusal
	for name, text := range bad {
		for _, field := range []string{"plaintext", "additionalAuthenticatedData"} {
			cases = append(cases, refusal{field + " " + name, encryptURI("key-1"), with(encrypt, field, text), nil, 400, "ValidationException"})
		}
		for _, field := range []string{"ciphertext", "additionalAuthenticatedData", "ciphertextMetadata", "initializationVector", "authenticationTag"} {
			cases = append(cases, refusal{field + " " + name, decryptURI("key-1"), with(decrypt, field, text), nil, 400, "ValidationException"})
		}
	}
	return cases
}

func checkTolerance(t *testing.T, c *client) {
	encrypt := encryptBody([]byte("x"), nil)
	for name, body := range map[string]object{
		"unknown fields":    with(with(encrypt, "zzz", object{"a": []any{1, nil, "x"}}), "é", 1.5e300),
		"unknown metadata":  withMetadata(withMetadata(encrypt, "awsNew", "x"), "awsNewList", []string{"a"}),
		"null where it may": with(with(with(encrypt, "additionalAuthenticatedData", nil), "ciphertextDataIntegrityValueAlgorithm", nil), "ciphertextMetadata", nil),
		"null metadata":     withMetadata(withMetadata(encrypt, "kmsViaService", nil), "awsSourceVpc", nil),
		"empty AAD":         with(encrypt, "additionalAuthenticatedData", ""),
		"empty plaintext":   with(encrypt, "plaintext", ""),
		"empty metadata":    withMetadata(withMetadata(withMetadata(encrypt, "awsPrincipalArn", ""), "kmsKeyArn", ""), "kmsOperation", ""),
		"service principal": withMetadata(encrypt, "awsPrincipalArn", "ec2.amazonaws.com"),
		"AWS Internal":      withMetadata(encrypt, "awsPrincipalArn", "AWS Internal"),
		"malformed key ARN": withMetadata(encrypt, "kmsKeyArn", "arn:aws:kms:us-east-2:111122223333:/key/1234"),
		"odd operation":     withMetadata(encrypt, "kmsOperation", "NeverHeardOf\u0000\n\u202e"),
		"other case beside": with(encrypt, "Plaintext", 7),
	} {
		r := c.post(t, encryptURI("key-1"), body)
		if r.status != 200 {
			t.Errorf("%s: %d %s; log line:\n%s", name, r.status, r.body, r.line())
		}
	}
}

func strictnessRefusals(testing.TB, *world) []refusal {
	good := string(encode(encryptBody([]byte("x"), nil)))
	bodies := map[string]string{
		"twice the same field": strings.Replace(good, `"plaintext":`, `"plaintext":"eA==","plaintext":`, 1),
		"twice by an escape":   strings.Replace(good, `"plaintext":`, `"plaintext":"eA==","pl\u0061intext":`, 1),
		"twice in metadata":    strings.Replace(good, `"kmsOperation":`, `"kmsOperation":"x","kmsOperation":`, 1),
		"twice unknown":        strings.Replace(good, `{`, `{"a":1,"a":2,`, 1),
		"a byte after":         good + "x",
		"an object after":      good + "{}",
		"invalid UTF-8":        strings.Replace(good, "Alice", "Al\xffce", 1),
		"overlong UTF-8":       strings.Replace(good, "Alice", "Al\xc0\xafce", 1),
		"surrogate":            strings.Replace(good, "Alice", `Al\ud800ce`, 1),
		"BOM":                  "\ufeff" + good,
		"UTF-16":               strings.Join(strings.Split(good, ""), "\x00"),
		"no object":            `[` + good + `]`, "a string": `"x"`, "null": `null`, "nothing": ``, "blank": ` `, "cut": good[:len(good)-1],
		"comment": good[:1] + "/* */" + good[1:], "trailing comma": good[:len(good)-1] + ",}", "single quotes": strings.ReplaceAll(good, `"`, `'`), "deep": strings.Repeat(`[`, 60_000),
		"deep unknown": strings.Replace(good, "{", `{"a":`+strings.Repeat(`[`, 20_000)+strings.Repeat(`]`, 20_000)+`,`, 1),
	}
	var cases []refusal
	for name, body := range bodies {
		cases = append(cases, refusal{name, encryptURI("key-1"), body, nil, 400, "ValidationException"})
	}
	encrypt := encryptBody([]byte("x"), nil)
	for name, body := range map[string]object{
		"metadata a string": with(encrypt, "requestMetadata", "x"), "metadata null": with(encrypt, "requestMetadata", nil), "principal a number": withMetadata(encrypt, "awsPrincipalArn", 5),
		"request id an object": withMetadata(encrypt, "kmsRequestId", object{}), "required null": withMetadata(encrypt, "kmsOperation", nil), "algorithm a number": with(encrypt, "encryptionAlgorithm", 1),
		"other case": with(with(encrypt, "plaintext", removed{}), "Plaintext", "eA=="),
	} {
		cases = append(cases, refusal{name, encryptURI("key-1"), body, nil, 400, "ValidationException"})
	}
	return cases
}

func checkOddRequestsGetJSON(t *testing.T) {
	p := sharedProxy(t)
	c := p.client(t, http1)
	good := c.bytes(t, c.call(healthURI, encode(healthBody())))
	host, length := headerLine(t, good, "Host"), headerLine(t, good, "Content-Length")
	head, _, _ := strings.Cut(replaceOnce(t, good, length, "Transfer-Encoding: chunked\r\n"), "\r\n\r\n")
	for name, text := range map[string]string{
		"OPTIONS *":       "OPTIONS * HTTP/1.1\r\n" + host + "\r\n",
		"CONNECT":         "CONNECT localhost:443 HTTP/1.1\r\n" + host + "\r\n",
		"absolute target": replaceOnce(t, good, "POST /demo", "POST https://localhost/demo"),
		"double slash":    replaceOnce(t, good, "POST /demo", "POST //demo"),
		"bad chunk":       head + "\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
		"chunk extension": head + "\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("a", 1000)+"\r\nx\r\n", 100) + "0\r\n\r\n",
		"HTTP/2 preface":  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		r := p.exchange(t, text)
		if r == nil || !json.Valid([]byte(r.body)) || !strings.Contains(r.body, `"errorName":"`) {
			t.Errorf("%s: %v", name, r)
		}
	}
}

package test

// The rows about GetKeyMetadata and Encrypt: K1 to K3, E1 to E6.

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func keyRequirements() []requirement {
	return []requirement{
		{number: "K1", status: met,
			says: "keySpec, keyUsage (what every version on every HSM allows), keyStatus; a key that is no AES-256 key answers its honest spec, and Encrypt and Decrypt with it are InvalidKeyUsageException",
			checks: []check{
				{"the exact bytes for keys of each usage, for one with two versions and for AES_128", overEveryWay(checkKeyMetadata)},
				{"Encrypt and Decrypt with an AES_128 key are 400 InvalidKeyUsageException", refuses(foreignKeyRefusals)},
			},
			also: []string{"pkg/xks: TestGetKeyMetadata"}},
		{number: "K2", status: met,
			says:   "keyStatus is ENABLED or DISABLED; a key that is blocked, or missing on one HSM of the group, is not ENABLED",
			checks: []check{{"a disabled key and one that only one HSM has answer 200 with DISABLED", overEveryWay(checkKeyStatus)}},
			also:   []string{"TestKeyOnOneHSMOnly", "TestNewVersion", "TestBlockKey"}},
		{number: "K3", status: met,
			says:   "GetKeyMetadata requires awsPrincipalArn, kmsOperation and kmsRequestId",
			checks: []check{{"without one of them, or null: 400; without kmsKeyArn, awsSourceVpc, awsSourceVpce and kmsViaService: 200", requiredMetadata(metadataURI("key-1"), keyMetadataBody, "awsPrincipalArn", "kmsOperation", "kmsRequestId")}}},
	}
}

func encryptRequirements() []requirement {
	return []requirement{
		{number: "E1", status: met,
			says: "Required: requestMetadata with awsPrincipalArn, kmsKeyArn, kmsOperation, kmsRequestId; plaintext; encryptionAlgorithm `AES_GCM`. Optional: additionalAuthenticatedData; ciphertextDataIntegrityValueAlgorithm `SHA_256`",
			checks: []check{
				{"without a required field of requestMetadata, or null: 400; without an optional one: 200", requiredMetadata(encryptURI("key-1"), func() object { return encryptBody([]byte("x"), nil) }, "awsPrincipalArn", "kmsKeyArn", "kmsOperation", "kmsRequestId")},
				{"no plaintext, no or no textual algorithm: 400 ValidationException; another algorithm, in another case too: 501 UnsupportedOperationException", refuses(encryptRefusals)},
			},
			also: []string{"pkg/xks: TestFieldMatrix"}},
		{number: "E2", status: met,
			says:   "Answers ciphertext (as long as the plaintext), initializationVector (12 or 16 bytes), authenticationTag (16), ciphertextMetadata (at most 20), and an integrity value when asked for",
			checks: []check{{"exactly these fields, no IV twice in 1000 answers", overEveryWay(checkEncryptAnswer)}},
			also:   []string{"TestSizes"}},
		{number: "E3", status: met,
			says: "The AAD for the HSM is `len16(AAD) AAD len8(metadata) metadata`; the first byte of ciphertextMetadata is the format; a format once written stays decryptable",
			checks: []check{
				{"no byte can move between AAD and ciphertextMetadata", overEveryWay(checkAADBoundary)},
				{"a ciphertext of format 1 that stands in this test decrypts", overEveryWay(checkKnownCiphertext)},
			},
			also: []string{"TestSizes", "pkg/xks: TestAADFramingIsInjective"}},
		{number: "E4", status: met,
			says:   "The integrity value is SHA-256 over `AAD metadata IV ciphertext tag`, and the very bytes answered were decrypted before and compared",
			checks: []check{{"the log names the HSM that verified, only when an integrity value was asked for", overEveryWay(checkVerifyingDecrypt)}},
			also:   []string{"TestSizes", "pkg/xks: TestIntegrityValueOfABrokenHSM", "pkg/xks: TestIntegrityIsTriedAgain"}},
		{number: "E5", status: met,
			says: "A key that may encrypt but not decrypt, asked for an integrity value: InvalidKeyUsageException",
			checks: []check{
				{"so it is, and without one the same key encrypts", overEveryWay(checkEncryptOnly)},
				{"a key that may not encrypt: 400 InvalidKeyUsageException", refuses(usageRefusals)},
			}},
		{number: "E6", status: met, says: "The worked example of the specification gives its integrity value", also: []string{"pkg/xks: TestIntegrityValueKnownAnswer"}},
	}
}

func checkKeyMetadata(t *testing.T, c *client) {
	for key, want := range map[string]string{
		"key-1":        `{"keySpec":"AES_256","keyUsage":["ENCRYPT","DECRYPT"],"keyStatus":"ENABLED"}`,
		"unversioned":  `{"keySpec":"AES_256","keyUsage":["ENCRYPT","DECRYPT"],"keyStatus":"ENABLED"}`,
		"encrypt-only": `{"keySpec":"AES_256","keyUsage":["ENCRYPT"],"keyStatus":"ENABLED"}`,
		"decrypt-only": `{"keySpec":"AES_256","keyUsage":["DECRYPT"],"keyStatus":"ENABLED"}`,
		"impotent":     `{"keySpec":"AES_256","keyUsage":["WRAP"],"keyStatus":"ENABLED"}`,
		"aes-128":      `{"keySpec":"AES_128","keyUsage":["ENCRYPT","DECRYPT"],"keyStatus":"DISABLED"}`,
	} {
		r := c.post(t, metadataURI(key), keyMetadataBody())
		if key == "aes-128" { // what counts is the spec, which KMS quotes; whether it counts as enabled matters to nobody
			want = strings.Replace(want, "DISABLED", statusIn(r.body), 1)
		}
		if r.status != 200 || string(r.body) != want {
			t.Errorf("%s: %d %s, want %s; log line:\n%s", key, r.status, r.body, want, r.line())
		}
	}
}

func statusIn(body []byte) string {
	if bytes.Contains(body, []byte(`"ENABLED"`)) {
		return "ENABLED"
	}
	return "DISABLED"
}

func foreignKeyRefusals(t testing.TB, w *world) []refusal {
	decrypt := decryptBody(seal(t, randomBytes(32), 1, 12, []byte("x"), nil), nil)
	return []refusal{
		{"encrypt", encryptURI("aes-128"), encryptBody([]byte("x"), nil), nil, 400, "InvalidKeyUsageException"},
		{"encrypt with integrity", encryptURI("aes-128"), withCDIV(encryptBody([]byte("x"), nil)), nil, 400, "InvalidKeyUsageException"},
		{"decrypt", decryptURI("aes-128"), decrypt, nil, 400, "InvalidKeyUsageException"},
	}
}

func checkKeyStatus(t *testing.T, c *client) {
	for _, key := range []string{"disabled-key", "only-on-a"} {
		r := c.post(t, metadataURI(key), keyMetadataBody())
		if r.status != 200 || !strings.Contains(string(r.body), `"keyStatus":"DISABLED"`) {
			t.Errorf("%s: %d %s", key, r.status, r.body)
		}
		c.post(t, encryptURI(key), encryptBody([]byte("x"), nil)).wantError(t, 400, "InvalidStateException")
	}
}

// requiredMetadata: each field of requestMetadata is left out and made null in turn.
func requiredMetadata(uri string, body func() object, required ...string) func(*testing.T) {
	return overEveryWay(func(t *testing.T, c *client) {
		for _, field := range []string{"awsPrincipalArn", "kmsKeyArn", "kmsOperation", "kmsRequestId", "kmsViaService", "awsSourceVpc", "awsSourceVpce"} {
			want := 200
			if slices.Contains(required, field) {
				want = 400
			}
			for _, value := range []any{removed{}, nil} {
				r := c.post(t, uri, withMetadata(body(), field, value))
				if r.status != want || want == 400 && r.checkError(400, "ValidationException") != nil {
					t.Errorf("%s %v: %d %s, want %d; log line:\n%s", field, value, r.status, r.body, want, r.line())
				}
			}
		}
		for _, value := range []any{removed{}, nil} {
			c.post(t, uri, with(body(), "requestMetadata", value)).wantError(t, 400, "ValidationException")
		}
	})
}

func encryptRefusals(testing.TB, *world) []refusal {
	good := encryptBody([]byte("x"), nil)
	cases := []refusal{
		{"no plaintext", "", with(good, "plaintext", removed{}), nil, 400, "ValidationException"},
		{"null plaintext", "", with(good, "plaintext", nil), nil, 400, "ValidationException"},
		{"no algorithm", "", with(good, "encryptionAlgorithm", removed{}), nil, 400, "ValidationException"},
		{"null algorithm", "", with(good, "encryptionAlgorithm", nil), nil, 400, "ValidationException"},
		{"algorithm a list", "", with(good, "encryptionAlgorithm", []string{"AES_GCM"}), nil, 400, "ValidationException"},
		{"integrity algorithm a number", "", with(good, "ciphertextDataIntegrityValueAlgorithm", 256), nil, 400, "ValidationException"},
	}
	for _, algorithm := range []string{"", "aes_gcm", "AES_GCM ", "AES_CBC", "SYMMETRIC_DEFAULT", "ＡES_GCM"} {
		cases = append(cases, refusal{"algorithm " + algorithm, "", with(good, "encryptionAlgorithm", algorithm), nil, 501, "UnsupportedOperationException"})
	}
	for _, algorithm := range []string{"", "sha_256", "SHA_512", "SHA256"} {
		cases = append(cases, refusal{"integrity " + algorithm, "", with(good, "ciphertextDataIntegrityValueAlgorithm", algorithm), nil, 501, "UnsupportedOperationException"})
	}
	for i := range cases {
		cases[i].uri = encryptURI("key-1")
	}
	return cases
}

func checkEncryptAnswer(t *testing.T, c *client) {
	var answer object
	c.post(t, encryptURI("key-1"), encryptBody([]byte("x"), nil)).wantOK(t, &answer)
	if fields := keysOf(answer); fields != "authenticationTag ciphertext ciphertextMetadata initializationVector" {
		t.Errorf("fields: %s", fields)
	}
	answer = nil
	c.post(t, encryptURI("key-1"), withCDIV(encryptBody([]byte("x"), nil))).wantOK(t, &answer)
	if fields := keysOf(answer); fields != "authenticationTag ciphertext ciphertextDataIntegrityValue ciphertextMetadata initializationVector" {
		t.Errorf("fields: %s", fields)
	}
	seen := map[string]bool{}
	for range 250 { // over four ways
		iv := string(c.encrypt(t, "key-1", encryptBody([]byte("x"), nil)).InitializationVector)
		if seen[iv] {
			t.Fatal("one IV twice")
		}
		seen[iv] = true
	}
}

func keysOf(o object) string {
	var names []string
	for name := range o {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// checkAADBoundary moves bytes between AAD and metadata: their joint bytes stay the same.
func checkAADBoundary(t *testing.T, c *client) {
	aad := append([]byte("aad"), metadataOf(2)...)
	s := c.encrypt(t, "key-1", encryptBody([]byte("x"), aad))
	for name, moved := range map[string]struct{ aad, metadata []byte }{
		"metadata twice":    {aad[:3], append(metadataOf(2), s.CiphertextMetadata...)},
		"metadata once":     {aad[:3], s.CiphertextMetadata},
		"all in the AAD":    {append(append([]byte{}, aad...), s.CiphertextMetadata...), nil},
		"metadata doubled":  {append(append([]byte{}, aad...), s.CiphertextMetadata...), s.CiphertextMetadata},
		"empty AAD":         {nil, s.CiphertextMetadata},
		"AAD with its size": {append([]byte{0, 8}, aad...), s.CiphertextMetadata},
	} {
		changed := *s
		changed.CiphertextMetadata = moved.metadata
		r := c.post(t, decryptURI("key-1"), decryptBody(&changed, moved.aad))
		err := r.checkError(400, "InvalidCiphertextException")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.decrypt(t, "key-1", s, aad)
}

func checkVerifyingDecrypt(t *testing.T, c *client) {
	for _, asked := range []bool{true, false} {
		body := encryptBody([]byte("x"), nil)
		if asked {
			body = withCDIV(body)
		}
		r := c.post(t, encryptURI("key-1"), body)
		r.wantOK(t, new(sealed))
		if line := r.line(); strings.Contains(line, `"verified_by":"hsm-`) != asked {
			t.Errorf("integrity asked for: %t; log line:\n%s", asked, line)
		}
	}
}

func checkEncryptOnly(t *testing.T, c *client) {
	c.post(t, encryptURI("encrypt-only"), withCDIV(encryptBody([]byte("x"), nil))).wantError(t, 400, "InvalidKeyUsageException")
	s := c.encrypt(t, "encrypt-only", encryptBody([]byte("x"), nil))
	if got := s.open(t, c.proxy.world.Values[keyID{"encrypt-only", 1}], nil); string(got) != "x" {
		t.Error("the ciphertext is of another plaintext")
	}
	c.post(t, decryptURI("encrypt-only"), decryptBody(s, nil)).wantError(t, 400, "InvalidKeyUsageException")
}

func usageRefusals(testing.TB, *world) []refusal {
	var cases []refusal
	for _, key := range []string{"decrypt-only", "impotent"} {
		for name, body := range map[string]object{"plain": encryptBody([]byte("x"), nil), "with integrity": withCDIV(encryptBody([]byte("x"), nil))} {
			cases = append(cases, refusal{fmt.Sprint(key, " ", name), encryptURI(key), body, nil, 400, "InvalidKeyUsageException"})
		}
	}
	return cases
}

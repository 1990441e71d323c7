package test

// The rows about Decrypt: D1 to D3, and the ciphertexts that must stay decryptable.

import (
	"encoding/base64"
	"testing"

	"xks-proxy/pkg/hsm/pkcs11"
)

func decryptRequirements() []requirement {
	good := func() object {
		return object{
			"requestMetadata": requestMetadata("Decrypt"), "encryptionAlgorithm": "AES_GCM", "ciphertext": knownCiphertext.Ciphertext,
			"ciphertextMetadata": knownCiphertext.CiphertextMetadata, "initializationVector": knownCiphertext.InitializationVector,
			"authenticationTag": knownCiphertext.AuthenticationTag, "additionalAuthenticatedData": knownAAD,
		}
	}
	return []requirement{
		{number: "D1", status: met,
			says: "Required: requestMetadata as for Encrypt, ciphertext, encryptionAlgorithm, initializationVector, authenticationTag. Optional: ciphertextMetadata, additionalAuthenticatedData",
			checks: []check{
				{"without a required field of requestMetadata, or null: 400; without an optional one: 200", requiredMetadata(decryptURI(knownKey), good, "awsPrincipalArn", "kmsKeyArn", "kmsOperation", "kmsRequestId")},
				{"without another required field, null or of another type: 400 ValidationException; another algorithm: 501", refuses(decryptRefusals)},
			},
			also: []string{"TestIVSizes"}},
		{number: "D2", status: met,
			says: "Decoded but wrong is InvalidCiphertextException, never counted as a fault of the HSM nor tried again",
			checks: []check{
				{"each bit of tag and IV, ciphertext, AAD, metadata and key changed; IVs of 0 to 17 bytes, other tag lengths, metadata absent, empty, over 20 bytes, of an unknown format or version: 400", overEveryWay(checkTampered)},
				{"SoftHSM's answer to a tampered ciphertext is ambiguous, so that each HSM is asked once; no fault of an HSM is in the log", overEveryWay(checkTamperedOnce)},
			},
			also: []string{"TestTamperedCiphertexts", "pkg/xks: TestAlteredCiphertext", "pkg/xks: TestInvalidCiphertextIsNotRetried",
				"pkg/hsm/decide: TestProves", "pkg/hsm/group: TestVerdicts", "pkg/hsm/group: TestLoneHSM", "pkg/hsm/group: TestBusyPair", "pkg/hsm/group: TestTamperedWithBoth", "TestTokenReplaced"}},
		{number: "D3", status: met,
			says:   "An empty plaintext and an empty ciphertext work",
			checks: []check{{"they do, with and without AAD, and an absent AAD is an empty one", overEveryWay(checkEmpty)}}},
	}
}

// A ciphertext of format 1, made once under a key of the bytes 0 to 31. It must decrypt
// with every version of the proxy (E3).
const knownKey = "known-answer"

var (
	knownAAD        = []byte("project=nile,department=marketing")
	knownPlaintext  = "Hello World!"
	knownCiphertext = &sealed{
		InitializationVector: fromBase64("MDEyMzQ1Njc4OTo7"), CiphertextMetadata: fromBase64("AQAAAAc="),
		Ciphertext: fromBase64("+1BdrIZPHWxYX+rN"), AuthenticationTag: fromBase64("dOI7DSMKeFF7c8WzbjPhjQ=="),
	}
)

func knownAnswerKey() pkcs11.NewKey {
	key := newKey(knownKey, 7)
	for i := range key.Value {
		key.Value[i] = byte(i)
	}
	return key
}

func fromBase64(text string) []byte {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		panic(err) // a constant
	}
	return b
}

func checkKnownCiphertext(t *testing.T, c *client) {
	if got := c.decrypt(t, knownKey, knownCiphertext, knownAAD); string(got) != knownPlaintext {
		t.Errorf("decrypted to %q", got)
	}
}

func decryptRefusals(testing.TB, *world) []refusal {
	good := decryptBody(knownCiphertext, knownAAD)
	var cases []refusal
	for _, field := range []string{"ciphertext", "encryptionAlgorithm", "initializationVector", "authenticationTag"} {
		for _, value := range []any{removed{}, nil, 1, false, []string{"QQ=="}} {
			cases = append(cases, refusal{field, decryptURI(knownKey), with(good, field, value), nil, 400, "ValidationException"})
		}
	}
	for _, algorithm := range []string{"", "AES_CBC", "aes_gcm"} {
		cases = append(cases, refusal{"algorithm " + algorithm, decryptURI(knownKey), with(good, "encryptionAlgorithm", algorithm), nil, 501, "UnsupportedOperationException"})
	}
	return cases
}

// tampered are changes of a good ciphertext, none of which decrypts.
func tampered() map[string]func(s *sealed, aad *[]byte) {
	changes := map[string]func(s *sealed, aad *[]byte){
		"ciphertext":         func(s *sealed, _ *[]byte) { s.Ciphertext = flipped(s.Ciphertext, 5) },
		"longer ciphertext":  func(s *sealed, _ *[]byte) { s.Ciphertext = append(flipped(s.Ciphertext, -1), 0) },
		"shorter ciphertext": func(s *sealed, _ *[]byte) { s.Ciphertext = s.Ciphertext[:5] },
		"no ciphertext":      func(s *sealed, _ *[]byte) { s.Ciphertext = []byte{} },
		"AAD":                func(_ *sealed, aad *[]byte) { *aad = flipped(*aad, 100) },
		"no AAD":             func(_ *sealed, aad *[]byte) { *aad = nil },
		"longer AAD":         func(_ *sealed, aad *[]byte) { *aad = append(flipped(*aad, -1), 0) },
		"metadata absent":    func(s *sealed, _ *[]byte) { s.CiphertextMetadata = nil },
		"metadata empty":     func(s *sealed, _ *[]byte) { s.CiphertextMetadata = []byte{} },
		"metadata longer":    func(s *sealed, _ *[]byte) { s.CiphertextMetadata = append(metadataOf(7), 0) },
		"metadata shorter":   func(s *sealed, _ *[]byte) { s.CiphertextMetadata = []byte{1} },
		"metadata 20":        func(s *sealed, _ *[]byte) { s.CiphertextMetadata = make([]byte, 20) },
		"metadata 21":        func(s *sealed, _ *[]byte) { s.CiphertextMetadata = make([]byte, 21) },
		"metadata 8000":      func(s *sealed, _ *[]byte) { s.CiphertextMetadata = make([]byte, 8000) },
		"format 0":           func(s *sealed, _ *[]byte) { s.CiphertextMetadata = []byte{0, 0, 0, 0, 7} },
		"format 2":           func(s *sealed, _ *[]byte) { s.CiphertextMetadata = []byte{2, 0, 0, 0, 7} },
		"unknown version":    func(s *sealed, _ *[]byte) { s.CiphertextMetadata = metadataOf(8) },
		"version 0":          func(s *sealed, _ *[]byte) { s.CiphertextMetadata = metadataOf(0) },
	}
	for i := range 128 {
		changes["tag bit "+itoa(i)] = func(s *sealed, _ *[]byte) { s.AuthenticationTag = flipped(s.AuthenticationTag, i) }
	}
	for i := range 96 {
		changes["IV bit "+itoa(i)] = func(s *sealed, _ *[]byte) { s.InitializationVector = flipped(s.InitializationVector, i) }
	}
	for _, n := range []int{0, 1, 11, 13, 15, 16, 17, 4000} {
		changes["IV of "+itoa(n)] = func(s *sealed, _ *[]byte) { s.InitializationVector = make([]byte, n) }
	}
	for _, n := range []int{0, 1, 4, 12, 15, 17, 32} {
		changes["tag of "+itoa(n)] = func(s *sealed, _ *[]byte) {
			s.AuthenticationTag = append(flipped(s.AuthenticationTag, -1), make([]byte, 32)...)[:n]
		}
	}
	return changes
}

// flipped is a copy with one bit changed; none with -1.
func flipped(b []byte, bit int) []byte {
	c := append([]byte{}, b...)
	if bit >= 0 {
		c[bit/8] ^= 1 << (bit % 8)
	}
	return c
}

func checkTampered(t *testing.T, c *client) {
	for name, change := range tampered() {
		s, aad := *knownCiphertext, knownAAD
		change(&s, &aad)
		r := c.post(t, decryptURI(knownKey), decryptBody(&s, aad))
		err := r.checkError(400, "InvalidCiphertextException")
		if err != nil {
			t.Errorf("%s: %v; log line:\n%s", name, err, r.line())
		}
	}
	c.post(t, decryptURI("key-1"), decryptBody(knownCiphertext, knownAAD)).wantError(t, 400, "InvalidCiphertextException")
}

func checkTamperedOnce(t *testing.T, c *client) {
	s := *knownCiphertext
	s.AuthenticationTag = make([]byte, 16)
	r := c.post(t, decryptURI(knownKey), decryptBody(&s, knownAAD))
	r.wantError(t, 400, "InvalidCiphertextException")
	line := parseLine(t, r.line())
	if line["attempts"] != 2.0 || line["hsm_faults"] != nil || line["level"] != "info" {
		t.Errorf("log line %v", line)
	}
}

func checkEmpty(t *testing.T, c *client) {
	for _, aad := range [][]byte{nil, {}, []byte("aad")} {
		s := c.encrypt(t, "key-1", encryptBody(nil, aad))
		if len(s.Ciphertext) != 0 {
			t.Errorf("ciphertext of %d bytes", len(s.Ciphertext))
		}
		if got := c.decrypt(t, "key-1", s, aad); len(got) != 0 {
			t.Errorf("plaintext of %d bytes", len(got))
		}
	}
	s := c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	if got := c.decrypt(t, "key-1", s, []byte{}); string(got) != "x" {
		t.Errorf("absent AAD, then an empty one: %q", got)
	}
}

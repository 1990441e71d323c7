package test

// The proxy that all tests share which change nothing on the HSMs, and the requests
// that they send.

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
)

var shared struct {
	mu    sync.Mutex
	proxy *proxy
}

// sharedProxy is in front of a pair of HSMs with a key of every kind.
func sharedProxy(t testing.TB) *proxy {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.proxy != nil {
		return shared.proxy
	}
	dir, err := os.MkdirTemp(scratch, "shared-")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, dir, sharedKeys(t, dir))
	p := w.launch(t, nil)
	p.waitServing(t)
	shared.proxy = p
	return p
}

func stopShared() {
	if shared.proxy == nil {
		return
	}
	_ = shared.proxy.Signal(os.Kill) // its orderly end is tested elsewhere
	<-shared.proxy.Exited()
}

// sharedKeys makes the shared pair: key-1 has versions 1 and 2, unversioned has no CKA_ID; the names of the others say it.
func sharedKeys(t testing.TB, dir string) *pair {
	t.Helper()
	unversioned := pkcs11.NewKey{Label: "unversioned", Value: randomBytes(32)}
	short := newKey("aes-128", 1)
	short.Value = short.Value[:16]
	keys := []pkcs11.NewKey{
		newKey("key-1", 1), newKey("key-1", 2), newKey("key-2", 1), unversioned, short, newKey("other-1", 1), newKey("disabled-key", 1),
		usable(newKey("encrypt-only", 1), hsm.CanEncrypt), usable(newKey("decrypt-only", 1), hsm.CanDecrypt), usable(newKey("impotent", 1), hsm.CanWrap),
		newKey(longKeyID, 1), newKey("Odd.key_id-", 1), knownAnswerKey(),
	}
	p := newPair(t, dir, keys...)
	p.A.create(t, newKey("only-on-a", 1))
	return p
}

// longKeyID is as long as an external key id can be (U3).
var longKeyID = "long-" + text(123)

// newProxy is a proxy of its own, in front of a pair of its own with two keys, for
// a test that breaks things.
func newProxy(t testing.TB, edit func(*settings), more ...pkcs11.NewKey) *proxy {
	t.Helper()
	return newTestWorld(t, more...).start(t, edit)
}

// newTestWorld is a pair of HSMs for one test.
func newTestWorld(t testing.TB, more ...pkcs11.NewKey) *world {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "world-")
	if err != nil {
		t.Fatal(err)
	}
	return newWorld(t, dir, newPair(t, dir, append([]pkcs11.NewKey{newKey("key-1", 1), newKey("key-1", 2)}, more...)...))
}

// The URIs of the API.
func encryptURI(key string) string  { return "/keys/" + key + "/encrypt" }
func decryptURI(key string) string  { return "/keys/" + key + "/decrypt" }
func metadataURI(key string) string { return "/keys/" + key + "/metadata" }

const healthURI = "/health"

// requestMetadata is what KMS sends along with Encrypt and Decrypt.
func requestMetadata(operation string) object {
	return object{
		"awsPrincipalArn": "arn:aws:iam::123456789012:user/Alice",
		"kmsKeyArn":       "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"kmsOperation":    operation,
		"kmsRequestId":    newRequestID(),
		"kmsViaService":   "ebs",
		"awsSourceVpc":    "vpc-12345678",
		"awsSourceVpce":   "vpce-12345678",
	}
}

func encryptBody(plaintext, aad []byte) object {
	body := object{"requestMetadata": requestMetadata("Encrypt"), "plaintext": append([]byte{}, plaintext...), // nil would be null
		"encryptionAlgorithm": "AES_GCM"}
	if aad != nil {
		body["additionalAuthenticatedData"] = aad
	}
	return body
}

func withCDIV(body object) object {
	return with(body, "ciphertextDataIntegrityValueAlgorithm", "SHA_256")
}

// sealed is the answer of Encrypt.
type sealed struct {
	AuthenticationTag            []byte `json:"authenticationTag"`
	Ciphertext                   []byte `json:"ciphertext"`
	CiphertextDataIntegrityValue []byte `json:"ciphertextDataIntegrityValue"`
	CiphertextMetadata           []byte `json:"ciphertextMetadata"`
	InitializationVector         []byte `json:"initializationVector"`
}

func decryptBody(s *sealed, aad []byte) object {
	body := object{
		"requestMetadata": requestMetadata("Decrypt"), "encryptionAlgorithm": "AES_GCM", "ciphertext": s.Ciphertext,
		"ciphertextMetadata": s.CiphertextMetadata, "initializationVector": s.InitializationVector, "authenticationTag": s.AuthenticationTag,
	}
	if aad != nil {
		body["additionalAuthenticatedData"] = aad
	}
	return body
}

func keyMetadataBody() object { return object{"requestMetadata": requestMetadata("CreateKey")} }

func healthBody() object {
	return object{"requestMetadata": object{"kmsRequestId": newRequestID(), "kmsOperation": "KmsHealthCheck"}}
}

// with is a copy of a body with one field changed; a value of type removed takes it away.
func with(body object, field string, value any) object {
	changed := object{}
	for name, old := range body {
		changed[name] = old
	}
	if value == (removed{}) {
		delete(changed, field)
	} else {
		changed[field] = value
	}
	return changed
}

// withMetadata is with for a field of requestMetadata.
func withMetadata(body object, field string, value any) object {
	return with(body, "requestMetadata", with(body["requestMetadata"].(object), field, value))
}

type removed struct{}

// encrypt has it done and fails the test otherwise.
func (c *client) encrypt(t testing.TB, key string, body object) *sealed {
	t.Helper()
	var s sealed
	c.post(t, encryptURI(key), body).wantOK(t, &s)
	return &s
}

// decrypt has it done and fails the test otherwise.
func (c *client) decrypt(t testing.TB, key string, s *sealed, aad []byte) []byte {
	t.Helper()
	return c.post(t, decryptURI(key), decryptBody(s, aad)).wantPlaintext(t)
}

func (r *reply) wantPlaintext(t testing.TB) []byte {
	t.Helper()
	var answer struct{ Plaintext *string }
	r.wantOK(t, &answer)
	if answer.Plaintext == nil {
		t.Fatalf("the answer of Decrypt holds no plaintext: %s", r.body)
	}
	plaintext, err := base64.StdEncoding.Strict().DecodeString(*answer.Plaintext)
	if err != nil {
		t.Fatal(err)
	}
	return plaintext
}

// wantOK expects success and reads the answer.
func (r *reply) wantOK(t testing.TB, answer any) {
	t.Helper()
	if r.status != http.StatusOK {
		t.Fatalf("%d %s after %v; log line:\n%s", r.status, r.body, r.took, r.line())
	}
	err := json.Unmarshal(r.body, answer)
	if err != nil {
		t.Fatalf("the answer cannot be read: %v: %s", err, r.body)
	}
}

// wantError expects one error, with a body as requirement X1 has it.
func (r *reply) wantError(t testing.TB, status int, name string) {
	t.Helper()
	err := r.checkError(status, name)
	if err != nil {
		t.Fatalf("%v; log line:\n%s", err, r.line())
	}
}

func (r *reply) checkError(status int, name string) error {
	var body struct{ ErrorName, ErrorMessage string }
	err := json.Unmarshal(r.body, &body)
	if err != nil {
		return fmt.Errorf("the body of an error reply is no JSON: %w: %d %q", err, r.status, r.body)
	}
	if r.status != status || body.ErrorName != name {
		return fmt.Errorf("%d %s, want %d %s", r.status, r.body, status, name)
	}
	return r.checkErrorForm(body.ErrorMessage)
}

func (r *reply) checkErrorForm(message string) error {
	if len(message) >= 512 {
		return fmt.Errorf("an errorMessage of %d characters (X1)", len(message))
	}
	for _, c := range []byte(message) {
		if c < ' ' || c > '~' {
			return fmt.Errorf("an errorMessage with byte %#x (X1): %q", c, message)
		}
	}
	for _, telling := range []string{"hsm-", "hsm_", "/", "0x", "CKR", "key-", "token", "slot", "regional", "softhsm", "worker"} {
		if strings.Contains(strings.ToLower(strings.ReplaceAll(message, "application/json", "")), strings.ToLower(telling)) {
			return fmt.Errorf("an errorMessage with %q (X6): %q", telling, message)
		}
	}
	if got := r.header.Get("Content-Type"); got != "application/json" {
		return fmt.Errorf("an error reply of Content-Type %q (U6)", got)
	}
	return nil
}

// wantHealthy is what every hostile test ends with: an honest Encrypt works and
// both HSMs are ACTIVE.
func (p *proxy) wantHealthy(t testing.TB) {
	t.Helper()
	c := p.client(t, http1)
	plaintext := []byte("honest")
	s := c.encrypt(t, "key-1", encryptBody(plaintext, nil))
	if got := c.decrypt(t, "key-1", s, nil); string(got) != string(plaintext) {
		t.Fatalf("decrypted to %q", got)
	}
	p.waitActive(t, "hsm-a", "hsm-b") // a probe that was slow in the tumult says DEGRADED until the next
}

// fleet is GetHealthStatus: the status by HSM.
func (c *client) fleet(t testing.TB) map[string]string {
	t.Helper()
	var answer struct {
		EkmFleetDetails []struct{ ID, Model, HealthStatus string }
	}
	c.post(t, healthURI, healthBody()).wantOK(t, &answer)
	status := map[string]string{}
	for _, one := range answer.EkmFleetDetails {
		status[one.ID] = one.HealthStatus
	}
	return status
}

// frameAAD is requirement E3, written down a second time on purpose.
func frameAAD(aad, metadata []byte) []byte {
	framed := binary.BigEndian.AppendUint16(nil, uint16(len(aad)))
	framed = append(framed, aad...)
	framed = append(framed, byte(len(metadata)))
	return append(framed, metadata...)
}

// metadataOf is the ciphertextMetadata of format 1.
func metadataOf(version uint32) []byte { return binary.BigEndian.AppendUint32([]byte{1}, version) }

// gcm is AES-256-GCM of Go's own with a value that was put on the tokens.
func gcm(t testing.TB, key []byte, ivSize int) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := cipher.NewGCMWithNonceSize(block, ivSize)
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

// seal makes a ciphertext as an HSM with an IV of this size would have.
func seal(t testing.TB, key []byte, version uint32, ivSize int, plaintext, aad []byte) *sealed {
	t.Helper()
	s := &sealed{InitializationVector: randomBytes(ivSize), CiphertextMetadata: metadataOf(version)}
	out := gcm(t, key, ivSize).Seal(nil, s.InitializationVector, plaintext, frameAAD(aad, s.CiphertextMetadata))
	s.Ciphertext, s.AuthenticationTag = out[:len(plaintext)], out[len(plaintext):]
	return s
}

// open is the other direction.
func (s *sealed) open(t testing.TB, key, aad []byte) []byte {
	t.Helper()
	together := append(append([]byte(nil), s.Ciphertext...), s.AuthenticationTag...)
	plaintext, err := gcm(t, key, len(s.InitializationVector)).Open(nil, s.InitializationVector, together, frameAAD(aad, s.CiphertextMetadata))
	if err != nil {
		t.Fatalf("what the proxy answered does not open with the key's value: %v", err)
	}
	return plaintext
}

// parseLine reads a log line.
func parseLine(t testing.TB, line string) object {
	t.Helper()
	var fields object
	err := json.Unmarshal([]byte(line), &fields)
	if err != nil {
		t.Fatalf("a log line that is no JSON: %v: %s", err, line)
	}
	return fields
}

func decodeInto(text []byte, value any) error { return json.Unmarshal(text, value) }

func itoa(n int) string { return strconv.Itoa(n) }

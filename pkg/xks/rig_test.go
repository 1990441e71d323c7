package xks

// The rig of this package's tests: one handler over a real hsm.Group of two in-memory HSMs, and
// what every request of every test must obey whatever the test is about.

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
	"xks-proxy/pkg/sigv4"
)

const (
	testKey   = "the-proxy's-own" // the label of the proxy's test key (H2)
	goodKey   = "key-1"           // versions 1 and 2 on both HSMs
	prefixURI = "/tenant/one" + apiPath
)

var testCredential = sigv4.Credential{AccessKeyID: "AAAABBBBCCCCDDDDEEEE", SecretAccessKey: "q7W8rNe1Yx5Zt0uHk3Jm6vBp2LdFs4Gc9TaQiXoEyRz="}

type rig struct {
	t       testing.TB
	a, b    *hsmtest.Token
	group   *group.Group
	config  Config
	handler *Handler
	logs    *observer.ObservedLogs
	served  atomic.Int64 // requests that must have a log line

	connections int // that listen lets in
}

// change alters a rig's configuration before it is built.
type change func(*Config, *group.Config)

func newRig(t testing.TB, changes ...change) *rig {
	t.Helper()
	r := &rig{t: t, connections: 100, a: hsmtest.New("hsm-a"), b: hsmtest.New("hsm-b")}
	for _, token := range []*hsmtest.Token{r.a, r.b} {
		fillToken(token)
	}
	onlyHere := hsmtest.Object("on-a-only", 1)
	r.a.AddObject(onlyHere, bytes.Repeat([]byte{7}, hsm.KeySize))
	core, logs := observer.New(zapcore.DebugLevel)
	r.logs = logs
	r.config = Config{
		Budget: 10 * time.Second, FirstRequestBudget: 10 * time.Second, MaxQueueTime: 10 * time.Second, // tests of time set their own; a noisy machine must not fail the others
		Vendor: "xks-proxy", Model: "xks-proxy test", Log: zap.New(core),
		KeyStores: []KeyStoreConfig{{
			Name: "store-one", PathPrefix: "/tenant/one", Credentials: []sigv4.Credential{testCredential},
			Labels: []string{"*"}, Disabled: []string{"disabled"},
		}},
	}
	groupConfig := group.Config{
		Name: "pair", TestKey: testKey, AttemptTimeout: 2 * time.Second, Budget: 20 * time.Second,
		HedgePercent: 5,
		Members: []group.MemberConfig{
			{Name: "hsm-a", Token: r.a}, {Name: "hsm-b", Token: r.b},
		},
	}
	for _, c := range changes {
		c(&r.config, &groupConfig)
	}
	group, err := group.New(groupConfig)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(group.Close)
	r.group = group
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := group.WaitFirstProbes(ctx); err != nil {
		t.Fatal(err)
	}
	r.waitCompared(t, groupConfig.ParityRate)
	for i := range r.config.KeyStores {
		if r.config.KeyStores[i].Group == nil {
			r.config.KeyStores[i].Group = group
		}
	}
	r.handler, err = NewHandler(r.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.checkAfterwards)
	return r
}

// fillToken puts on a token one key of each kind that the tests need.
func fillToken(token *hsmtest.Token) {
	token.AddKey(testKey, 0)
	token.AddKey(goodKey, 1)
	token.AddKey(goodKey, 2)
	token.AddKey("disabled", 1)
	token.AddKey(strings.Repeat("k", MaxKeyID), 1)
	token.AddKey("ABCxyz019-._", 1)
	for label, usage := range map[string]hsm.Usage{
		"encrypt-only": hsm.CanEncrypt, "decrypt-only": hsm.CanDecrypt, "impotent": 0,
		"wraps-too": hsm.CanEncrypt | hsm.CanDecrypt | hsm.CanWrap | hsm.CanUnwrap,
	} {
		for version := range uint32(2) {
			object := hsmtest.Object(label, version+1)
			object.Usage = usage
			token.AddObject(object, bytes.Repeat([]byte{9}, hsm.KeySize))
		}
	}
	token.AddObject(hsm.Object{Label: "rsa", Class: hsm.PublicKey, KeyType: "RSA", Bits: 2048, Usage: hsm.CanEncrypt | hsm.CanVerify}, nil)
	token.AddObject(hsm.Object{Label: "rsa", Class: hsm.PrivateKey, KeyType: "RSA", Bits: 2048, Usage: hsm.CanDecrypt | hsm.CanSign}, nil)
	token.AddObject(hsm.Object{Label: "aes-128", Class: hsm.SecretKey, KeyType: "AES", Bits: 128, Usage: hsm.CanEncrypt | hsm.CanDecrypt}, nil)
	token.AddObject(hsmtest.Object("twice", 1), bytes.Repeat([]byte{1}, hsm.KeySize))
	token.AddObject(hsmtest.Object("twice", 1), bytes.Repeat([]byte{2}, hsm.KeySize))
}

// checkAfterwards is what holds after any test: nothing is held for a request that has ended, each
// has one log line (L1), and no line has the secret in it.
func (r *rig) checkAfterwards() {
	r.t.Helper()
	if n := r.handler.all.inFlight.Load(); n != 0 {
		r.t.Errorf("%d requests are still counted as in flight", n)
	}
	if n := r.handler.bodies.Load(); n != 0 {
		r.t.Errorf("%d bytes of bodies are still counted", n)
	}
	if _, isBenchmark := r.t.(*testing.B); isBenchmark {
		return // has a log of its own
	}
	if lines, want := r.logs.FilterMessage("request").Len(), int(r.served.Load()); lines != want {
		r.t.Errorf("%d log lines for %d requests", lines, want)
	}
	if text := r.logText(); strings.Contains(text, testCredential.SecretAccessKey) {
		r.t.Error("the secret access key is in the log")
	}
}

// logText is the whole log as the JSON that an operator gets.
func (r *rig) logText() string {
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	var text strings.Builder
	for _, entry := range r.logs.All() {
		line, err := encoder.EncodeEntry(entry.Entry, entry.Context)
		if err != nil {
			r.t.Fatal(err)
		}
		text.Write(line.Bytes())
		line.Free()
	}
	return text.String()
}

// lastLine is the fields of the last log line.
func (r *rig) lastLine() map[string]any {
	r.t.Helper()
	lines := r.logs.FilterMessage("request").All()
	if len(lines) == 0 {
		r.t.Fatal("nothing was logged")
	}
	return lines[len(lines)-1].ContextMap()
}

// fields is the body of a request.
type fields map[string]any

func (f fields) with(name string, value any) fields {
	changed := maps.Clone(f)
	changed[name] = value
	return changed
}

func (f fields) without(name string) fields {
	changed := maps.Clone(f)
	delete(changed, name)
	return changed
}

// withMetadata changes one field of requestMetadata.
func (f fields) withMetadata(name string, value any) fields {
	return f.with("requestMetadata", f["requestMetadata"].(fields).with(name, value))
}

func metadataFields(operation string) fields {
	return fields{
		"awsPrincipalArn": "arn:aws:iam::123456789012:user/Alice",
		"kmsKeyArn":       "arn:aws:kms:us-east-2:123456789012:/key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"kmsOperation":    operation, "kmsRequestId": "4112f4d6-db54-4af4-ae30-c55a22a8dfae", "kmsViaService": "ebs",
	}
}

func encryptFields(plaintext []byte) fields {
	return fields{"requestMetadata": metadataFields("Encrypt"), "plaintext": b64(plaintext), "encryptionAlgorithm": "AES_GCM"}
}

func metadataOnly(operation string) fields {
	return fields{"requestMetadata": metadataFields(operation)}
}

func b64(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// reply is one answer of the handler.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (p reply) fields(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(p.body, &m); err != nil {
		t.Fatalf("%v in %q", err, p.body)
	}
	return m
}

func (p reply) bytes(t testing.TB, name string) []byte {
	t.Helper()
	text, ok := p.fields(t)[name].(string)
	if !ok {
		t.Fatalf("no %s in %s", name, p.body)
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (p reply) errorName(t testing.TB) errorName {
	t.Helper()
	name, _ := p.fields(t)["errorName"].(string)
	return errorName(name)
}

func (p reply) want(t testing.TB, name errorName) {
	t.Helper()
	if got := p.errorName(t); got != name {
		t.Errorf("%d %s, want %q", p.status, p.body, name)
	}
}

func (p reply) wantOK(t testing.TB) {
	t.Helper()
	if p.status != http.StatusOK {
		t.Fatalf("%d %s, want 200", p.status, p.body)
	}
}

// send signs and serves one request in process.
func (r *rig) send(path string, body any, edits ...func(*http.Request)) reply {
	r.t.Helper()
	data := encode(r.t, body)
	request := httptest.NewRequest(http.MethodPost, "https://xks.example.com/", bytes.NewReader(data))
	request.RequestURI = path
	request.Header.Set("Content-Type", "application/json")
	sign(request, path, data, testCredential, "us-east-1", time.Now())
	for _, edit := range edits {
		edit(request)
	}
	return r.serve(request)
}

// serve is for requests that are signed, or not, in their own way.
func (r *rig) serve(request *http.Request) reply {
	r.t.Helper()
	recorder := httptest.NewRecorder()
	r.served.Add(1)
	r.handler.ServeHTTP(recorder, request)
	p := reply{recorder.Code, recorder.Header(), recorder.Body.Bytes()}
	if request.Method != http.MethodHead {
		checkReply(r.t, p)
	}
	return p
}

func encode(t testing.TB, body any) []byte {
	t.Helper()
	switch b := body.(type) {
	case []byte:
		return b
	case string:
		return []byte(b)
	}
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func keyURI(key, operation string) string { return prefixURI + "/keys/" + key + "/" + operation }

func (r *rig) encrypt(key string, body any) reply { return r.send(keyURI(key, "encrypt"), body) }

func (r *rig) decrypt(key string, body any) reply { return r.send(keyURI(key, "decrypt"), body) }

func (r *rig) metadata(key string) reply {
	return r.send(keyURI(key, "metadata"), metadataOnly("CreateKey"))
}

func (r *rig) health() reply { return r.send(prefixURI+"/health", metadataOnly("KmsHealthCheck")) }

// decryptFields makes the request that undoes an encryption.
func (p reply) decryptFields() fields {
	var m fields
	if json.Unmarshal(p.body, &m) != nil {
		m = fields{}
	}
	delete(m, "ciphertextDataIntegrityValue")
	return m.with("requestMetadata", metadataFields("Decrypt")).with("encryptionAlgorithm", "AES_GCM")
}

// checkReply is what every reply obeys: U6, U12, X1, X2.
func checkReply(t testing.TB, p reply) {
	t.Helper()
	if p.header.Get("Content-Type") != "application/json" || p.header.Get("Content-Length") != strconv.Itoa(len(p.body)) {
		t.Errorf("headers %v of a body of %d bytes", p.header, len(p.body))
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, p.body); err != nil || !bytes.Equal(compact.Bytes(), p.body) || bytes.ContainsAny(p.body, "\r\n") {
		t.Errorf("not one line of compact JSON: %q (%v)", p.body, err)
	}
	if p.status == http.StatusOK {
		return
	}
	var e struct{ ErrorName, ErrorMessage string }
	decoder := json.NewDecoder(bytes.NewReader(p.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&e); err != nil {
		t.Fatalf("%v in %q", err, p.body)
	}
	want, known := statusOf[errorName(e.ErrorName)]
	if p.status == http.StatusMethodNotAllowed && errorName(e.ErrorName) == unsupported {
		want = p.status // U4
	}
	if !known || p.status != want || !goodMessage(e.ErrorMessage) {
		t.Errorf("%d %s", p.status, p.body)
	}
}

// goodMessage is requirement X1.
func goodMessage(s string) bool {
	return s != "" && len(s) < 512 && strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c > '~' }) < 0
}

// readReply reads a reply that came over a connection.
func readReply(t testing.TB, response *http.Response) reply {
	t.Helper()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	p := reply{response.StatusCode, response.Header, body}
	checkReply(t, p)
	return p
}

// compared has the keys compared before the test begins: one definite refusal is then proof (D2).
func compared(_ *Config, g *group.Config) { g.ParityRate = 1000 }

func (r *rig) waitCompared(t testing.TB, rate int) {
	t.Helper()
	for rate > 0 {
		status := r.group.Status()
		if status.CrossChecked > 0 && status.CrossPending == 0 {
			return
		}
		if t.Context().Err() != nil {
			t.Fatalf("the keys were not compared: %+v", status)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

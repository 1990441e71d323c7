package cli

// The request command against a stand-in for the proxy that checks signatures and
// answers what a test tells it to. The real proxy is asked in demo_test.go.

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/cli/request"
	"xks-proxy/internal/testkit"
	"xks-proxy/internal/xksclient"
	"xks-proxy/pkg/sigv4"
)

const (
	testAccessKeyID = "ABCDEFGHIJKLMNOPQRST2345"
	testSecret      = "not+a/secret0123456789abcdefghijklmnopqrstuv"
)

// standIn is an HTTPS server that notes what it received.
type standIn struct {
	server *httptest.Server
	bodies []map[string]any // of the requests received, in order
	proto  string           // of the last
	uri    string           // of the last
	cause  error            // why a signature was refused
}

// newStandIn answers every signed request with status and body; after serves
// instead, if it is not nil.
func newStandIn(t *testing.T, status int, body string) *standIn {
	t.Helper()
	return newStandInHandler(t, func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

func newStandInHandler(t *testing.T, answer func(http.ResponseWriter)) *standIn {
	t.Helper()
	verifier, err := sigv4.New(sigv4.Config{Service: sigv4.DefaultService, Credentials: []sigv4.Credential{{AccessKeyID: testAccessKeyID, SecretAccessKey: testSecret}}})
	if err != nil {
		t.Fatal(err)
	}
	s := &standIn{}
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		_, s.cause = verifier.Verify(&sigv4.Request{Method: r.Method, Path: r.RequestURI, Host: r.Host, Header: r.Header, ContentLength: r.ContentLength, Body: body}, time.Now())
		if s.cause != nil {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errorName":"AuthenticationFailedException"}`)
			return
		}
		var fields map[string]any
		_ = json.Unmarshal(body, &fields) // nil in the test that looks at it
		s.bodies, s.proto, s.uri = append(s.bodies, fields), r.Proto, r.RequestURI
		answer(w)
	}))
	s.server.EnableHTTP2 = true
	s.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.server.StartTLS()
	t.Cleanup(s.server.Close)
	return s
}

// connectionTo writes a connection file for an endpoint whose CA is that of httptest.
func (s *standIn) connectionTo(t *testing.T, change func(*xksclient.ConnectionFile)) string {
	t.Helper()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.crt")
	testkit.WriteFile(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})), 0o600)
	c := xksclient.ConnectionFile{
		Endpoint: s.server.URL, URIPath: "/store/kms/xks/v1", Region: "eu-central-1", CACertificate: "ca.crt", Keys: []string{"key-1"},
		Credential: xksclient.ConnectionSecret{AccessKeyID: testAccessKeyID, SecretAccessKey: testSecret},
	}
	if change != nil {
		change(&c)
	}
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "connection.json")
	testkit.WriteFile(t, path, string(data), 0o600)
	return path
}

// runRequest runs a request. No output may ever hold the secret.
func runRequest(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Run(context.Background(), append([]string{"request"}, args...), strings.NewReader(stdin), &out, &errs)
	for _, printed := range []string{out.String(), errs.String()} {
		if strings.Contains(printed, testSecret) {
			t.Errorf("the secret is printed:\n%s", printed)
		}
	}
	return out.String(), errs.String(), code
}

const sealedReply = `{"authenticationTag":"vBxN2ncH1oEkR8WVXpmyYQ==","ciphertext":"ghxkK1txeDNn3q8Y","ciphertextDataIntegrityValue":"qHA/ImC9h5HsLRXqCyPmWgYx7tzyoTplzILbP0fPXsc=",` +
	`"ciphertextMetadata":"a2V5X3ZlcnNpb249MQ==","initializationVector":"HMrlRw85cAJUd5Ax"}`

// E4, E6: the client computes the integrity value of the specification's example itself.
func TestRequestEncryptVerifies(t *testing.T) {
	const aad = "project=nile,department=marketing"
	for name, c := range map[string]struct {
		reply, aad string
		code       int
		want       string
	}{
		"right":     {sealedReply, aad, 0, ", verified"},
		"other AAD": {sealedReply, "project=nile", 1, "does not fit"},
		"altered":   {strings.Replace(sealedReply, "ghxkK1", "ghxkK2", 1), aad, 1, "does not fit"},
		"absent":    {strings.Replace(sealedReply, "ciphertextDataIntegrityValue", "else", 1), aad, 1, "without the ciphertext data integrity value"},
		"shorter":   {strings.Replace(sealedReply, "ghxkK1txeDNn3q8Y", "ghxkK1txeDNn", 1), aad, 1, "length"},
		"short tag": {strings.Replace(sealedReply, "vBxN2ncH1oEkR8WVXpmyYQ==", "vBxN2ncH1oEkR8WVXpmy", 1), aad, 1, "length"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStandIn(t, 200, c.reply)
			stdout, stderr, code := runRequest(t, "", "encrypt", "--connection", s.connectionTo(t, nil), "--plaintext", "Hello World!", "--aad", c.aad, "--cdiv")
			if code != c.code || !strings.Contains(stdout+stderr, c.want) {
				t.Errorf("exit code %d\n%s%s\nwant %d and %q", code, stdout, stderr, c.code, c.want)
			}
			if s.cause != nil {
				t.Errorf("the signature was refused: %v", s.cause)
			}
		})
	}
}

// K3, E1, D1, H3: every request carries the metadata that its operation requires.
func TestRequestSends(t *testing.T) {
	for name, c := range map[string]struct {
		args      []string
		stdin     string
		reply     string
		uri       string
		operation string
		fields    map[string]any
	}{
		"encrypt": {[]string{"encrypt", "--plaintext", "", "--cdiv"}, "", `{"authenticationTag":"AAAAAAAAAAAAAAAAAAAAAA==","ciphertext":"","initializationVector":"AAAAAAAAAAAAAAAA"}`,
			"/store/kms/xks/v1/keys/key-1/encrypt", "Encrypt",
			map[string]any{"plaintext": "", "encryptionAlgorithm": "AES_GCM", "ciphertextDataIntegrityValueAlgorithm": "SHA_256", "additionalAuthenticatedData": nil}},
		"encrypt from stdin": {[]string{"encrypt", "--plaintext-file", "-", "--aad-base64", "AQI="}, "\x00\xff", sealedReply,
			"/store/kms/xks/v1/keys/key-1/encrypt", "Encrypt", map[string]any{"plaintext": "AP8=", "additionalAuthenticatedData": "AQI="}},
		"decrypt": {[]string{"decrypt", "--aad", "x", "--key", "other"}, sealedReply, `{"plaintext":"aGk="}`,
			"/store/kms/xks/v1/keys/other/decrypt", "Decrypt",
			map[string]any{"ciphertext": "ghxkK1txeDNn3q8Y", "initializationVector": "HMrlRw85cAJUd5Ax", "authenticationTag": "vBxN2ncH1oEkR8WVXpmyYQ==",
				"ciphertextMetadata": "a2V5X3ZlcnNpb249MQ==", "additionalAuthenticatedData": "eA==", "encryptionAlgorithm": "AES_GCM"}},
		"metadata": {[]string{"metadata"}, "", `{"keySpec":"AES_256","keyUsage":["ENCRYPT"],"keyStatus":"ENABLED"}`,
			"/store/kms/xks/v1/keys/key-1/metadata", "CreateKey", nil},
		"health": {[]string{"health"}, "", `{"xksProxyFleetSize":1,"xksProxyVendor":"v","xksProxyModel":"m","ekmVendor":"e","ekmFleetDetails":[]}`,
			"/store/kms/xks/v1/health", "KmsHealthCheck", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStandIn(t, 200, c.reply)
			for _, http1 := range []bool{false, true} {
				args := append(c.args, "--connection", s.connectionTo(t, nil), "--json")
				proto := "HTTP/2.0"
				if http1 {
					args, proto = append(args, "--http1"), "HTTP/1.1"
				}
				stdout, stderr, _ := runRequest(t, c.stdin, args...)
				if s.uri != c.uri || s.proto != proto {
					t.Fatalf("it asked %s over %s, want %s over %s; it said %s (%v)", s.uri, s.proto, c.uri, proto, stderr, s.cause)
				}
				if stdout != c.reply+"\n" {
					t.Errorf("--json printed %q, want the reply as it came: %q", stdout, c.reply)
				}
			}
			sent := s.bodies[0]
			for field, want := range c.fields {
				if sent[field] != want {
					t.Errorf("%s is %v, want %v", field, sent[field], want)
				}
			}
			metadata, _ := sent["requestMetadata"].(map[string]any)
			for _, field := range []string{"awsPrincipalArn", "kmsKeyArn", "kmsRequestId"} {
				if metadata[field] == nil || metadata[field] == "" {
					t.Errorf("%s is missing", field)
				}
			}
			if metadata["kmsOperation"] != c.operation {
				t.Errorf("kmsOperation is %v, want %s", metadata["kmsOperation"], c.operation)
			}
			second, _ := s.bodies[1]["requestMetadata"].(map[string]any)
			if metadata["kmsRequestId"] == second["kmsRequestId"] {
				t.Error("two requests have the same id")
			}
		})
	}
}

func TestRequestMetadataFlags(t *testing.T) {
	s := newStandIn(t, 200, `{"keySpec":"AES_256","keyUsage":[],"keyStatus":"ENABLED"}`)
	_, stderr, code := runRequest(t, "", "metadata", "--connection", s.connectionTo(t, nil), "--principal", "p", "--kms-key-arn", "a", "--kms-operation", "o",
		"--request-id", "r", "--via-service", "ebs", "--source-vpc", "vpc-1", "--source-vpce", "vpce-1")
	if code != 0 {
		t.Fatal(stderr)
	}
	got, _ := s.bodies[0]["requestMetadata"].(map[string]any)
	for field, want := range map[string]string{"awsPrincipalArn": "p", "kmsKeyArn": "a", "kmsOperation": "o", "kmsRequestId": "r",
		"kmsViaService": "ebs", "awsSourceVpc": "vpc-1", "awsSourceVpce": "vpce-1"} {
		if got[field] != want {
			t.Errorf("%s is %v, want %q", field, got[field], want)
		}
	}
}

// TestRequestRefused: exit code 1, the error's name, and what to do.
func TestRequestRefused(t *testing.T) {
	for name, means := range xksclient.Advice {
		t.Run(name, func(t *testing.T) {
			if len(means) > 84 || strings.ContainsAny(means, "\n") {
				t.Errorf("the advice does not fit one line of a terminal with 100 columns: %d characters", len(means))
			}
			s := newStandIn(t, 400, `{"errorName":"`+name+`","errorMessage":"The message."}`)
			stdout, stderr, code := runRequest(t, "", "health", "--connection", s.connectionTo(t, nil))
			if code != 1 || !strings.Contains(stderr, name+" (HTTP 400)") || !strings.Contains(stdout, means) || !strings.Contains(stdout, "The message.") {
				t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
			}
			stdout, stderr, code = runRequest(t, "", "health", "--connection", s.connectionTo(t, nil), "--json")
			if code != 1 || !json.Valid([]byte(stdout)) || !strings.Contains(stderr, means) {
				t.Errorf("--json: exit code %d\n%s%s", code, stdout, stderr)
			}
		})
	}
	for name, c := range map[string]struct {
		status int
		body   string
	}{"a page": {502, "<html>Bad Gateway"}, "success that is none": {200, "<html>Welcome"}, "empty": {503, ""}} {
		s := newStandIn(t, c.status, c.body)
		_, stderr, code := runRequest(t, "", "health", "--connection", s.connectionTo(t, nil))
		if code != 1 || !strings.Contains(stderr, "not of the XKS Proxy API") {
			t.Errorf("%s: exit code %d, %s", name, code, stderr)
		}
	}
}

// TestRequestNoReply: exit code 3, and which of the many reasons it was.
func TestRequestNoReply(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := closed.Addr().String()
	_ = closed.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	s := newStandInHandler(t, func(http.ResponseWriter) { panic(http.ErrAbortHandler) })
	slow := newStandInHandler(t, func(http.ResponseWriter) { time.Sleep(300 * time.Millisecond) })
	good := newStandIn(t, 200, "{}")
	_, port, err := net.SplitHostPort(good.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	certificate, _ := testkit.Certificate(t, "elsewhere.example", time.Now().Add(time.Hour))
	otherCA := filepath.Join(t.TempDir(), "other.crt")
	testkit.WriteFile(t, otherCA, certificate, 0o600)

	for name, c := range map[string]struct {
		connection string
		args       []string
		want       string
	}{
		"refused":       {good.connectionTo(t, func(c *xksclient.ConnectionFile) { c.Endpoint = "https://" + refused }), nil, "connection refused: nothing listens at " + refused},
		"name mismatch": {good.connectionTo(t, func(c *xksclient.ConnectionFile) { c.Endpoint = "https://localhost:" + port }), nil, `name mismatch: the certificate at localhost:` + port + ` is not for "localhost"`},
		"unknown CA":    {good.connectionTo(t, func(c *xksclient.ConnectionFile) { c.CACertificate = "" }), nil, "unknown CA: this machine does not trust"},
		"another CA":    {good.connectionTo(t, nil), []string{"--ca", otherCA}, "unknown CA: the certificate at"},
		"plain HTTP":    {good.connectionTo(t, func(c *xksclient.ConnectionFile) { c.Endpoint = strings.Replace(plain.URL, "http:", "https:", 1) }), nil, "does not speak TLS"},
		"timeout":       {slow.connectionTo(t, nil), []string{"--timeout", "100ms"}, "timeout: no reply from"},
		"hung up":       {s.connectionTo(t, nil), []string{"--http1"}, "closed the connection without a reply"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := runRequest(t, "", append(c.args, "health", "--connection", c.connection)...)
			if code != request.ExitUnreachable || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit code %d\n%s%s\nwant 3 and %q", code, stdout, stderr, c.want)
			}
		})
	}
}

func TestRequestUsage(t *testing.T) {
	s := newStandIn(t, 200, "{}")
	connection := s.connectionTo(t, nil)
	open := s.connectionTo(t, nil)
	err := os.Chmod(open, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir()) // where there is no demo
	for want, c := range map[string]struct {
		args  []string
		stdin string
	}{
		"no proxy to ask: there is no demo/connection.json here":                 {[]string{"health"}, ""},
		"nothing to sign with: give --access-key-id and --secret-file":           {[]string{"health", "--endpoint", "https://h:1"}, ""},
		"is not of the form https://NAME:PORT":                                   {[]string{"health", "--connection", connection, "--endpoint", "http://h:1"}, ""},
		"--ca: the CA certificate cannot be read":                                {[]string{"health", "--connection", connection, "--ca", "nothing"}, ""},
		"holds no PEM certificate":                                               {[]string{"health", "--connection", connection, "--ca", connection}, ""},
		"chmod 600":                                                              {[]string{"health", "--connection", open}, ""},
		"--connection: nothing does not exist":                                   {[]string{"health", "--connection", "nothing"}, ""},
		"which key?":                                                             {[]string{"metadata", "--connection", s.connectionTo(t, func(c *xksclient.ConnectionFile) { c.Keys = nil })}, ""},
		"nothing to encrypt":                                                     {[]string{"encrypt", "--connection", connection}, ""},
		"--plaintext-base64 is not standard Base64":                              {[]string{"encrypt", "--connection", connection, "--plaintext-base64", "a_-="}, ""},
		"none of the others can be":                                              {[]string{"encrypt", "--connection", connection, "--plaintext", "a", "--plaintext-file", "-"}, ""},
		"not the JSON that `request encrypt --json` prints":                      {[]string{"decrypt", "--connection", connection}, "encrypt with key-1 at …"},
		"the encrypt before was answered with KeyNotFoundException":              {[]string{"decrypt", "--connection", connection}, `{"errorName":"KeyNotFoundException"}`},
		"--repeat 0: send it at least once":                                      {[]string{"health", "--connection", connection, "--repeat", "0"}, ""},
		"--timeout -1s: it must be longer than that":                             {[]string{"health", "--connection", connection, "--timeout", "-1s"}, ""},
		`unknown command "encypt" for xks-proxy request; did you mean "encrypt"`: {[]string{"encypt"}, ""},
		"--aad-file and --ciphertext-file cannot both be read from standard in":  {[]string{"decrypt", "--connection", connection, "--aad-file", "-"}, sealedReply},
	} {
		stdout, stderr, code := runRequest(t, c.stdin, c.args...)
		if code != command.ExitUsage || !strings.Contains(stderr, want) || stdout != "" {
			t.Errorf("%v: exit code %d\n%s%s\nwant 2 and %q", c.args, code, stdout, stderr, want)
		}
	}
	if len(s.bodies) != 0 {
		t.Errorf("%d requests were sent anyway", len(s.bodies))
	}
}

// TestRequestByFlags: everything can be said without a connection file.
func TestRequestByFlags(t *testing.T) {
	s := newStandIn(t, 200, `{"keySpec":"AES_256","keyUsage":[],"keyStatus":"DISABLED"}`)
	dir := filepath.Dir(s.connectionTo(t, nil))
	testkit.WriteFile(t, filepath.Join(dir, "secret"), testSecret+"\n", 0o600)
	for _, path := range []string{"/a/b", "a/b/", "/a/b/kms/xks/v1"} {
		stdout, stderr, code := runRequest(t, "", "metadata", "--endpoint", strings.TrimPrefix(s.server.URL, "https://"), "--path", path, "--region", "eu-west-1",
			"--access-key-id", testAccessKeyID, "--secret-file", filepath.Join(dir, "secret"), "--ca", filepath.Join(dir, "ca.crt"), "--key", "k")
		if code != 0 || s.uri != "/a/b/kms/xks/v1/keys/k/metadata" || !strings.Contains(stdout, "key status   DISABLED") || !strings.Contains(stdout, "key usage    none") {
			t.Errorf("exit code %d, asked %s\n%s%s", code, s.uri, stdout, stderr)
		}
	}
}

func TestRequestRepeat(t *testing.T) {
	s := newStandIn(t, 200, `{"xksProxyFleetSize":1}`)
	stdout, stderr, code := runRequest(t, "", "health", "--connection", s.connectionTo(t, nil), "--repeat", "20", "--json")
	var got request.LatencySummary
	err := json.Unmarshal([]byte(stdout), &got)
	if err != nil || code != 0 {
		t.Fatalf("%v, exit code %d: %s%s", err, code, stdout, stderr)
	}
	if got.Requests != 20 || got.Succeeded != 20 || got.Connections != 1 || got.Min <= 0 || got.Min > got.Median || got.Median > got.P99 || got.P99 > got.Max {
		t.Errorf("%+v", got)
	}
	ids := map[any]bool{}
	for _, body := range s.bodies {
		metadata, _ := body["requestMetadata"].(map[string]any)
		ids[metadata["kmsRequestId"]] = true
	}
	if len(ids) != 20 {
		t.Errorf("%d request ids in 20 requests", len(ids))
	}

	refusing := newStandIn(t, 429, `{"errorName":"ThrottlingException"}`)
	stdout, stderr, code = runRequest(t, "", "health", "--connection", refusing.connectionTo(t, nil), "--repeat", "5")
	if code != 1 || !strings.Contains(stdout, "failed       5 ThrottlingException") || !strings.Contains(stdout, "0 of 5") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

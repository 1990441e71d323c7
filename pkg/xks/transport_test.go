package xks

// Over real connections: HTTP/1.1 and HTTP/2 on TLS, around the Handler, with Listener, ConnContext
// and ConnState as a server has them (requirements U5, U7, U9, U12, U15).

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/xks/listener"
)

// server is a rig behind TLS.
type server struct {
	*rig
	*httptest.Server
	listener *listener.Listener
	client   *http.Client
}

// listen serves the rig over one version of HTTP. It fails the test when a goroutine or connection
// is left over at its end.
func (r *rig) listen(version string, edits ...func(*http.Server)) *server {
	r.t.Helper()
	before := runtime.NumGoroutine()
	s := &server{rig: r}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.served.Add(1)
		r.handler.ServeHTTP(w, q)
	}))
	s.listener = listener.New(s.Server.Listener, r.connections, zap.NewNop())
	s.Server.Listener = s.listener
	s.Config.ConnContext, s.Config.ConnState = listener.ConnContext, listener.ConnState
	s.Config.DisableGeneralOptionsHandler = true // "OPTIONS *" is ours to answer (U12)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = version == "HTTP/2.0"
	s.Config.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerConnection: 256 << 10, MaxReceiveBufferPerStream: 256 << 10}
	for _, edit := range edits {
		edit(s.Config)
	}
	s.StartTLS()
	s.client = s.Client()
	r.t.Cleanup(func() {
		s.client.CloseIdleConnections()
		s.Close()
		for range 500 {
			if s.listener.Open() == 0 && runtime.NumGoroutine() <= before {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		stacks := make([]byte, 1<<20)
		r.t.Errorf("%d connections open, %d goroutines, %d before\n%s", s.listener.Open(), runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
	})
	return s
}

// request makes a signed request. body may be shorter, slower or other than signed.
func (s *server) request(ctx context.Context, path string, signed []byte, body io.Reader) *http.Request {
	s.t.Helper()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/json")
	q.Host = q.URL.Host
	sign(q, path, signed, testCredential, "us-east-1", time.Now())
	return q
}

func (s *server) post(path string, body any) reply {
	s.t.Helper()
	data := encode(s.t, body)
	response, err := s.client.Do(s.request(s.t.Context(), path, data, bytes.NewReader(data)))
	if err != nil {
		s.t.Fatal(err)
	}
	return readReply(s.t, response)
}

// dial opens a raw HTTP/1.1 connection.
func (s *server) dial() *tls.Conn {
	s.t.Helper()
	c, err := tls.Dial("tcp", s.Server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// raw is the text of a signed HTTP/1.1 request, body included.
func (s *server) raw(path string, body any) string {
	data := encode(s.t, body)
	q := s.request(s.t.Context(), path, data, nil)
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nX-Amz-Date: %s\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s",
		path, q.Host, q.Header.Get("X-Amz-Date"), q.Header.Get("Authorization"), len(data), data)
}

func (s *server) read(r *bufio.Reader) reply {
	s.t.Helper()
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return readReply(s.t, response)
}

// awaitLines waits for log lines: a line may be written after its reply was read.
func (s *server) awaitLines(n int) {
	s.t.Helper()
	for range 1000 {
		if s.logs.FilterMessage("request").Len() >= n {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.t.Fatalf("%d log lines, not %d", s.logs.FilterMessage("request").Len(), n)
}

var versions = []string{"HTTP/1.1", "HTTP/2.0"}

// eachVersion runs a test over HTTP/1.1 and HTTP/2 (U7).
func eachVersion(t *testing.T, test func(*testing.T, string)) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) { test(t, version) })
	}
}

// U7, U15: all operations and an error, on one connection.
func TestOverTheWire(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		s := newRig(t).listen(version)
		sealed := s.post(keyURI(goodKey, "encrypt"), encryptFields(pattern(8192)).with("additionalAuthenticatedData", b64(pattern(65535))))
		sealed.wantOK(t)
		opened := s.post(keyURI(goodKey, "decrypt"), sealed.decryptFields().with("additionalAuthenticatedData", b64(pattern(65535))))
		if !bytes.Equal(opened.bytes(t, "plaintext"), pattern(8192)) {
			t.Error("another plaintext")
		}
		s.post(prefixURI+"/health", metadataOnly("KmsHealthCheck")).wantOK(t)
		s.post(prefixURI+"/nowhere", "x").want(t, invalidURIPath)
		s.post(keyURI(goodKey, "metadata"), metadataOnly("CreateKey")).wantOK(t)
		s.awaitLines(5)
		for i, entry := range s.logs.FilterMessage("request").All() {
			line := entry.ContextMap()
			if line["new_connection"] != (i == 0) || line["protocol"] != version {
				t.Errorf("request %d: new connection %v, %v", i, line["new_connection"], line["protocol"])
			}
		}
		if n := s.listener.Open(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// U9, U12: a body far past the limit is answered, never 413.
func TestHugeBody(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		s := newRig(t).listen(version)
		for _, announced := range []bool{true, false} {
			for range 3 {
				var body io.Reader = bytes.NewReader(make([]byte, 64<<20))
				if !announced {
					body = struct{ io.Reader }{body}
				}
				response, err := s.client.Do(s.request(t.Context(), keyURI(goodKey, "encrypt"), nil, body))
				if err != nil {
					t.Fatalf("announced %v: %v", announced, err)
				}
				readReply(t, response).want(t, unsupported)
			}
		}
		s.post(prefixURI+"/health", metadataOnly("x")).wantOK(t)
		if version == "HTTP/1.1" { // a client that asks first is told before it sends
			c := s.dial()
			text := strings.Replace(s.raw(prefixURI+"/health", ""), "Content-Length: 0", "Expect: 100-continue\r\nContent-Length: 67108864", 1)
			io.WriteString(c, text)
			s.read(bufio.NewReader(c)).want(t, unsupported)
		}
	})
}

// U5, U12: request targets as they stand on the wire.
func TestRawRequestTargets(t *testing.T) {
	s := newRig(t).listen("HTTP/1.1")
	for line, want := range map[string]errorName{
		"POST https://" + s.Server.Listener.Addr().String() + prefixURI + "/health": invalidURIPath,
		"POST *":                                    invalidURIPath,
		"OPTIONS *":                                 invalidURIPath,
		"CONNECT xks.example.com:443":               invalidURIPath,
		"GET " + prefixURI + "/health":              unsupported,
		"post " + prefixURI + "/health":             unsupported,
		"OPTIONS " + prefixURI + "/health":          unsupported,
		"POST /tenant/one/./kms/xks/v1/health":      invalidURIPath,
		"POST /tenant/two/../one/kms/xks/v1/health": invalidURIPath,
		"POST //tenant/one/kms/xks/v1/health":       invalidURIPath,
		"POST /tenant/one/kms/xks/v1/%68ealth":      invalidURIPath,
		"POST " + prefixURI + "/keys/" + strings.Repeat("k", 100_000) + "/metadata": authenticationFailed,
		"POST " + prefixURI + "/keys/schl\xc3\xbcssel/metadata":                     authenticationFailed,
	} {
		c := s.dial()
		fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n\r\n", line, s.Server.Listener.Addr())
		p := s.read(bufio.NewReader(c))
		if p.errorName(t) != want {
			t.Errorf("%.100s: %d %s", line, p.status, p.body)
		}
		c.Close()
	}
}

// U12: digits and letters outside ASCII, and worse, in the headers that we read.
func TestStrangeHeaders(t *testing.T) {
	s := newRig(t).listen("HTTP/1.1")
	good := s.raw(prefixURI+"/health", metadataOnly("x"))
	for _, c := range []struct{ from, to string }{
		{"AWS4-HMAC", "AWS\u0664-HMAC"}, {"Credential=AAAA", "Credential=\uff21AAA"}, {"us-east-1", "us-east-\u0661"},
		{"X-Amz-Date: 2", "X-Amz-Date: \uff12"}, {"Signature=", "Signature=\u0660"}, {"kms-xks-proxy", "\u212ams-xks-proxy"}, // K, the Kelvin sign
		{"host;x-amz-date", "host;x-amz-date;\u017f"}, {"Authorization: AWS4", "Authorization: \xff\xfeAWS4"},
		{"X-Amz-Date:", "X-Amz-Date: 20260101T000000Z\r\nX-Amz-Date:"}, {"\r\nAuthorization:", "\r\nAuthorization: x\r\nAuthorization:"},
	} {
		text := strings.Replace(good, c.from, c.to, 1)
		if text == good {
			t.Fatalf("%q is not in the request", c.from)
		}
		connection := s.dial()
		io.WriteString(connection, text)
		s.read(bufio.NewReader(connection)).want(t, authenticationFailed)
		connection.Close()
	}
	c := s.dial()
	io.WriteString(c, strings.Replace(good, "application/json", "application/j\u017fon", 1)) // long s folds to s outside ASCII
	s.read(bufio.NewReader(c)).want(t, validation)
}

// U15: two requests in one packet get two replies, in order.
func TestPipelining(t *testing.T) {
	s := newRig(t).listen("HTTP/1.1")
	c := s.dial()
	io.WriteString(c, s.raw(prefixURI+"/health", metadataOnly("x"))+s.raw(keyURI(goodKey, "metadata"), metadataOnly("x"))+s.raw("/", "x"))
	reader := bufio.NewReader(c)
	if p := s.read(reader); p.fields(t)["ekmVendor"] == nil {
		t.Errorf("%s", p.body)
	}
	if p := s.read(reader); p.fields(t)["keySpec"] == nil {
		t.Errorf("%s", p.body)
	}
	s.read(reader).want(t, invalidURIPath)
}

// U15, R3: connections beyond the limit are closed, and counted.
func TestConnectionLimit(t *testing.T) {
	r := newRig(t)
	r.connections = 3
	s := r.listen("HTTP/1.1")
	var open []net.Conn
	for range 3 {
		c := s.dial()
		io.WriteString(c, s.raw(prefixURI+"/health", metadataOnly("x")))
		if p := s.read(bufio.NewReader(c)); p.status != http.StatusOK {
			t.Fatalf("%s", p.body)
		}
		open = append(open, c)
	}
	refused, err := tls.Dial("tcp", s.Server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err == nil {
		refused.Close()
		t.Error("a fourth connection was taken, although the three are in good standing")
	}
	if s.listener.Open() != 3 || s.listener.Refused() != 1 {
		t.Errorf("open %d, refused %d", s.listener.Open(), s.listener.Refused())
	}
	open[0].Close()
	s.waitOpen(2)
	s.dial()
	for _, c := range open {
		c.Close()
	}
}

// U15, R3: unauthenticated connections lock nobody out and evict no authenticated one.
func TestStrangersGiveWay(t *testing.T) {
	r := newRig(t)
	r.connections = 3
	s := r.listen("HTTP/1.1")
	honest := s.dial()
	reader := bufio.NewReader(honest)
	ask := func() {
		t.Helper()
		io.WriteString(honest, s.raw(prefixURI+"/health", metadataOnly("x")))
		if p := s.read(reader); p.status != http.StatusOK {
			t.Fatalf("%s", p.body)
		}
	}
	ask()
	var idle []net.Conn
	for range 20 {
		c := s.dial()
		io.WriteString(c, s.raw("/", "unsigned"))
		s.read(bufio.NewReader(c))
		idle = append(idle, c)
		ask()
	}
	s.waitOpen(3)
	if s.listener.Refused() != 18 {
		t.Errorf("%d connections were closed", s.listener.Refused())
	}
	for _, c := range append(idle, honest) {
		c.Close()
	}
}

// waitOpen waits until so many connections are open.
func (s *server) waitOpen(n int) {
	s.t.Helper()
	for range 500 {
		if s.listener.Open() == n {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.t.Errorf("%d connections are open, want %d", s.listener.Open(), n)
}

// Everything at once, for the race detector: whatever one request suffers, the others do not.
func TestManyAtOnce(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		s := newRig(t, func(c *Config, _ *group.Config) { c.MaxInFlight = 1000 }).listen(version)
		var all sync.WaitGroup
		for worker := range 8 {
			all.Go(func() {
				for i := range 25 {
					plaintext := pattern(worker*400 + i)
					sealed := s.post(keyURI(goodKey, "encrypt"), encryptFields(plaintext).with("ciphertextDataIntegrityValueAlgorithm", "SHA_256"))
					s.post(keyURI("no-such-key", "encrypt"), "garbage").want(t, validation)
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%5)*100*time.Microsecond)
					body := encode(t, encryptFields(plaintext))
					if response, err := s.client.Do(s.request(ctx, keyURI(goodKey, "encrypt"), body, bytes.NewReader(body))); err == nil {
						response.Body.Close()
					}
					cancel()
					opened := s.post(keyURI(goodKey, "decrypt"), sealed.decryptFields())
					if !bytes.Equal(opened.bytes(t, "plaintext"), plaintext) {
						t.Error("another plaintext")
					}
				}
			})
		}
		all.Wait()
	})
}

package test

// A client that asks as AWS KMS does, over the HTTP and TLS version that a test wants,
// signed with the AWS SDK's signer.

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"xks-proxy/pkg/sigv4"
)

const (
	apiPath       = "/kms/xks/v1"
	signedService = "kms-xks-proxy"
	signedRegion  = "us-east-1"
	clientLimit   = 40 * time.Second // for one request; the proxy's own limits come first
)

// way is how a client connects.
type way struct {
	http2 bool
	tls   uint16
}

var ways = []way{
	{false, tls.VersionTLS12}, {false, tls.VersionTLS13}, {true, tls.VersionTLS12}, {true, tls.VersionTLS13},
}

var (
	http1 = way{false, tls.VersionTLS13}
	http2 = way{true, tls.VersionTLS13}
)

func (w way) String() string {
	name := "HTTP1.1"
	if w.http2 {
		name = "HTTP2"
	}
	return name + "-" + strings.ReplaceAll(tls.VersionName(w.tls), " ", "")
}

func (w way) tlsConfig(p *proxy) *tls.Config {
	return &tls.Config{RootCAs: p.world.CA, MinVersion: w.tls, MaxVersion: w.tls, ServerName: "localhost"}
}

// client asks one proxy.
type client struct {
	proxy      *proxy
	way        way
	http       *http.Client
	prefix     string
	credential sigv4.Credential
}

// client speaks for the main key store.
func (p *proxy) client(t testing.TB, w way) *client {
	t.Helper()
	var protocols http.Protocols
	protocols.SetHTTP1(!w.http2)
	protocols.SetHTTP2(w.http2)
	transport := &http.Transport{TLSClientConfig: w.tlsConfig(p), Protocols: &protocols, DisableCompression: true, MaxIdleConnsPerHost: 1000}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{
		proxy: p, way: w, prefix: mainPrefix, credential: p.world.Main,
		http: &http.Client{
			Transport: transport, Timeout: clientLimit,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// as is the client with another credential.
func (c client) as(credential sigv4.Credential) *client {
	c.credential = credential
	return &c
}

// at is the client for another key store.
func (c client) at(prefix string) *client {
	c.prefix = prefix
	return &c
}

// call is one request before it is sent.
type call struct {
	method string
	path   string // whole, raw
	host   string // Host; "": where it is sent to
	query  string
	body   []byte
	header http.Header // over what a good request has; a nil value removes
	region string
	at     time.Time         // of the signature
	who    *sigv4.Credential // nil: the client's

	unsigned  bool
	service   string
	afterSign func(*http.Request) // what a man in the middle does
}

func (c *client) call(uri string, body []byte) *call {
	return &call{method: http.MethodPost, path: c.prefix + apiPath + uri, body: body, region: signedRegion, service: signedService, at: time.Now()}
}

// reply is what came back.
type reply struct {
	status int
	proto  string
	header http.Header
	body   []byte
	took   time.Duration
	line   func() string // the log line, for messages
}

// request builds and signs.
func (c *client) request(ctx context.Context, k *call) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, k.method, "https://"+c.proxy.Listen+"/", bytes.NewReader(k.body))
	if err != nil {
		return nil, err
	}
	r.URL.Path, r.URL.Opaque = "", "//"+c.proxy.Listen+k.path // as the signer wants it
	if k.query != "" {
		r.URL.RawQuery = k.query
	}
	if k.host != "" {
		r.Host = k.host
	}
	r.Header.Set("Content-Type", "application/json")
	for name, values := range k.header {
		if values == nil {
			r.Header.Del(name)
		} else {
			r.Header[name] = values
		}
	}
	if !k.unsigned {
		hash := sha256.Sum256(k.body)
		credential := c.credential
		if k.who != nil {
			credential = *k.who
		}
		who := aws.Credentials{AccessKeyID: credential.AccessKeyID, SecretAccessKey: credential.SecretAccessKey}
		err := v4.NewSigner().SignHTTP(ctx, who, r, hex.EncodeToString(hash[:]), k.service, k.region, k.at)
		if err != nil {
			return nil, err
		}
	}
	r.URL.Opaque = k.path // sent byte for byte
	if k.afterSign != nil {
		k.afterSign(r)
	}
	return r, nil
}

// do sends a request and reads the whole reply.
func (c *client) do(ctx context.Context, k *call) (*reply, error) {
	r, err := c.request(ctx, k)
	if err != nil {
		return nil, err
	}
	return c.send(r, k.body)
}

func (c *client) send(r *http.Request, body []byte) (*reply, error) {
	start := time.Now()
	response, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	return &reply{
		status: response.StatusCode, proto: response.Proto, header: response.Header, body: text, took: time.Since(start),
		line: func() string { return c.proxy.log.about(requestIDOf(body)) },
	}, nil
}

// mustDo fails the test if there is no reply at all.
func (c *client) mustDo(t testing.TB, k *call) *reply {
	t.Helper()
	r, err := c.do(t.Context(), k)
	if err != nil {
		t.Fatalf("%s %s over %s: no reply: %v; log line:\n%s", k.method, k.path, c.way, err, c.proxy.log.about(requestIDOf(k.body)))
	}
	return r
}

// post sends one good request with this body.
func (c *client) post(t testing.TB, uri string, body any) *reply {
	t.Helper()
	return c.mustDo(t, c.call(uri, encode(body)))
}

func encode(body any) []byte {
	if text, ok := body.(string); ok {
		return []byte(text)
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // maps of strings
	}
	return text
}

// requestIDOf reads the kmsRequestId of a body, if it has one that can be read.
func requestIDOf(body []byte) string {
	var r struct {
		RequestMetadata struct{ KmsRequestID string }
	}
	_ = json.Unmarshal(body, &r) // a bad body has no id
	return r.RequestMetadata.KmsRequestID
}

func newRequestID() string {
	b := randomBytes(16)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// text is what a random-looking string of n characters is made of.
func text(n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(rand.Text())
	}
	return b.String()[:n]
}

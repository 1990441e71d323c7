package xksclient

// A signed client of the XKS Proxy API: it asks what AWS KMS asks. Operators use
// it for smoke tests (request), the demo uses it to show what it serves.

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"xks-proxy/internal/guarded"
	"xks-proxy/internal/secret"
	"xks-proxy/pkg/xks"
)

const maxReplySize = 1 << 20 // bytes; the longest reply of the API has less than 100,000

// Connection says where a key store is served, and who asks.
type Connection struct {
	Endpoint        string // XksProxyUriEndpoint: https://name:port
	URIPath         string // XksProxyUriPath: …/kms/xks/v1
	Region          string // of the SigV4 scope (requirement A1)
	AccessKeyID     string
	SecretAccessKey secret.Secret
	Dial            string // HOST:PORT to connect to; "": that of the endpoint

	CACertificates []string // PEM files; none: the CAs that this machine trusts
	TrustMachine   bool     // these CAs, too
}

// host names the proxy in messages.
func (c Connection) host() string {
	host := strings.TrimPrefix(c.Endpoint, "https://")
	if c.Dial != "" && c.Dial != host {
		host += " (" + c.Dial + ")"
	}
	return host
}

// URL is the common beginning of the URLs of a connection.
func (c Connection) URL() string { return c.Endpoint + c.URIPath }

// Client sends signed requests to one key store. It is safe for concurrent use.
type Client struct {
	To      Connection
	timeout time.Duration // of one request, connection set-up included
	http    *http.Client
	signer  *v4.Signer
}

// New prepares a client; it does not connect. With http1 it speaks HTTP/1.1
// only, otherwise HTTP/2 where the proxy offers it.
func New(to Connection, http1 bool, timeout time.Duration) (*Client, error) {
	roots, err := to.roots()
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if to.Dial != "" {
			address = to.Dial
		}
		return dialer.DialContext(ctx, network, address)
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(!http1)
	return &Client{
		To:      to,
		timeout: timeout,
		signer:  v4.NewSigner(),
		http: &http.Client{
			// An HTTP proxy from the environment is not used: the connection to the endpoint is
			// tested.
			Transport: &http.Transport{
				DialContext: dial, TLSClientConfig: trust, Protocols: &protocols, DisableCompression: true,
			},
			// AWS KMS follows no redirect, either.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// roots are the CAs that a connection trusts; nil: those of this machine.
func (c Connection) roots() (*x509.CertPool, error) {
	if len(c.CACertificates) == 0 {
		return nil, nil
	}
	roots := x509.NewCertPool()
	if machine, err := x509.SystemCertPool(); c.TrustMachine && err == nil {
		roots = machine
	}
	for _, path := range c.CACertificates {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf(
				"the CA certificate cannot be read: %w",
				guarded.Problem(path, err),
			)
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no PEM certificate", path)
		}
	}
	return roots, nil
}

// Close ends the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Reply is what came back, whatever it says.
type Reply struct {
	Status   int
	Protocol string // HTTP/2.0
	TLS      string // TLS 1.3
	Body     []byte
	Connect  time.Duration // name, TCP and TLS; 0 on a connection that was there already
	Request  time.Duration // from then on to the last byte of the reply
}

// Call asks one thing: uri is what follows the XksProxyUriPath ("/health"), answer
// is filled from the reply to a request that succeeded.
//
// Call returns *UnreachableError if there was no reply, and *Error together with the reply if the
// proxy answered with an error. In either case the request may have been served.
func (c *Client) Call(ctx context.Context, uri string, request, answer any) (*Reply, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("the request cannot be written as JSON: %w", err)
	}
	timed, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	watch := &stopwatch{start: time.Now()}
	r, err := http.NewRequestWithContext(
		httptrace.WithClientTrace(timed, watch.trace()),
		http.MethodPost,
		c.To.URL()+uri,
		bytes.NewReader(body),
	)
	if err != nil {
		return nil, fmt.Errorf("the request cannot be made: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	err = c.sign(timed, r, body)
	if err != nil {
		return nil, err
	}
	reply, err := c.exchange(r, watch)
	if err != nil {
		return nil, unreachable(c.To, c.timeout, err)
	}
	if reply.Status != http.StatusOK {
		return reply, errorOf(reply)
	}
	err = json.Unmarshal(reply.Body, answer)
	if err != nil {
		return reply, &Error{Status: reply.Status, cause: err}
	}
	return reply, nil
}

// sign adds a SigV4 signature over the body and all headers (requirement A1).
func (c *Client) sign(ctx context.Context, r *http.Request, body []byte) error {
	hash := sha256.Sum256(body)
	who := aws.Credentials{
		AccessKeyID:     c.To.AccessKeyID,
		SecretAccessKey: c.To.SecretAccessKey.Reveal(),
	}
	err := c.signer.SignHTTP(
		ctx,
		who,
		r,
		hex.EncodeToString(hash[:]),
		xks.Service,
		c.To.Region,
		time.Now(),
	)
	if err != nil {
		return fmt.Errorf("the request cannot be signed: %w", err)
	}
	return nil
}

func (c *Client) exchange(r *http.Request, watch *stopwatch) (*Reply, error) {
	response, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxReplySize+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxReplySize {
		return nil, errors.New("the reply is longer than any reply of an XKS proxy")
	}
	reply := &Reply{Status: response.StatusCode, Protocol: response.Proto, Body: body}
	if response.TLS != nil {
		reply.TLS = tls.VersionName(response.TLS.Version)
	}
	reply.Connect, reply.Request = watch.read(time.Now())
	return reply, nil
}

// stopwatch measures the time to connect and the time of the request separately.
type stopwatch struct {
	start     time.Time
	connected time.Time
	reused    bool
}

func (s *stopwatch) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		s.connected, s.reused = time.Now(), info.Reused
	}}
}

func (s *stopwatch) read(end time.Time) (connect, request time.Duration) {
	if s.reused || s.connected.IsZero() {
		return 0, end.Sub(s.start)
	}
	return s.connected.Sub(s.start), end.Sub(s.connected)
}

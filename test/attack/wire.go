package main

// Connections of an attacker: bytes out, replies in, and how a connection ended.

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// replyLimit is how long a reply is waited for.
const replyLimit = 10 * time.Second

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// errClosed says that the connection ended without a reply.
var errClosed = errors.New("connection closed")

// sources spreads connections over the addresses of loopback, as a botnet would, and because one
// address has too few ports for connections that come and go by the ten thousand.
var sources atomic.Uint32

// dial opens a TCP connection.
func dial(address string) (net.Conn, error) { return dialFrom(address, "") }

// dialFrom is dial from one address; "": from any address.
func dialFrom(address, from string) (net.Conn, error) {
	if from != "" {
		d := net.Dialer{Timeout: replyLimit, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		return d.Dial("tcp", address)
	}
	n := sources.Add(1)
	d := net.Dialer{
		Timeout:   replyLimit,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+n/200%50), byte(1+n%200))},
	}
	return d.Dial("tcp", address)
}

// tlsConfig verifies the server and remembers sessions, which spares both sides a handshake.
func (t *target) tlsConfig(protocol string) *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(t.CA))
	return &tls.Config{
		RootCAs: roots, ServerName: "localhost", NextProtos: []string{protocol},
		MinVersion: tls.VersionTLS12,
	}
}

// dialTLS opens a connection for a protocol, "http/1.1" or "h2".
func (t *target) dialTLS(c *tls.Config) (*tls.Conn, error) {
	raw, err := dial(t.API)
	if err != nil {
		return nil, err
	}
	err = raw.SetDeadline(time.Now().Add(replyLimit))
	if err != nil {
		return nil, err
	}
	secure := tls.Client(raw, c)
	err = secure.Handshake()
	if err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	return secure, nil
}

// reply is what came back.
type reply struct {
	status int
	close  bool // the server says that it closes the connection
	body   []byte
	header http.Header
}

// name is the status and, where there is one, the name of the error.
func (r *reply) name() string {
	_, rest, found := strings.Cut(string(r.body), `"errorName":"`)
	if !found {
		return fmt.Sprint(r.status)
	}
	name, _, _ := strings.Cut(rest, `"`)
	return fmt.Sprintf("%d %s", r.status, strings.TrimSuffix(name, "Exception"))
}

// wire is one HTTP/1.1 connection over TLS, dialled when it is needed. For one goroutine.
type wire struct {
	target *target
	config *tls.Config
	conn   *tls.Conn
	reader *bufio.Reader
}

func (c *wire) close() {
	if c.conn != nil {
		_ = c.conn.Close() // the other side may have closed it
		c.conn = nil
	}
}

func (c *wire) connect() error {
	if c.conn != nil {
		return nil
	}
	if c.config == nil {
		c.config = c.target.tlsConfig("http/1.1")
		c.config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	conn, err := c.target.dialTLS(c.config)
	if err != nil {
		return err
	}
	c.conn = conn
	if c.reader == nil {
		c.reader = bufio.NewReader(conn)
	}
	c.reader.Reset(conn)
	return nil
}

// send writes; the other side may close meanwhile, which its replies then tell.
func (c *wire) send(b []byte, limit time.Duration) error {
	err := c.connect()
	if err != nil {
		return err
	}
	err = c.conn.SetDeadline(time.Now().Add(limit))
	if err != nil {
		return err
	}
	_, err = c.conn.Write(b)
	if err != nil && isTimeout(err) {
		return err
	}
	return nil
}

// read reads one reply. errClosed: there is none any more.
func (c *wire) read() (*reply, error) {
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		if isTimeout(err) {
			return nil, err
		}
		return nil, errClosed
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close() // it was read
	if err != nil && isTimeout(err) {
		return nil, err
	}
	return &reply{
		status: response.StatusCode, close: response.Close, body: body, header: response.Header,
	}, nil
}

// ask sends one request on the connection and reads one reply.
func (c *wire) ask(request []byte) (*reply, error) {
	err := c.send(request, replyLimit)
	if err != nil {
		c.close()
		return nil, err
	}
	r, err := c.read()
	if err != nil || r.close {
		c.close()
	}
	return r, err
}

// askAlone sends bytes on a connection of their own and reads all replies until the server closes
// or is silent. An informational reply (100 Continue) is none.
func (t *target) askAlone(b []byte, silence time.Duration) ([]*reply, error) {
	c := &wire{target: t}
	defer c.close()
	err := c.send(b, replyLimit)
	if err != nil {
		return nil, err
	}
	var replies []*reply
	for len(replies) < 100 {
		limit := replyLimit
		if len(replies) > 0 {
			limit = silence
		}
		err := c.conn.SetReadDeadline(time.Now().Add(limit))
		if err != nil {
			return replies, err
		}
		r, err := c.read()
		switch {
		case errors.Is(err, errClosed), err != nil && len(replies) > 0:
			return replies, nil
		case err != nil:
			return nil, err
		case r.status >= 200:
			replies = append(replies, r)
		}
	}
	return replies, nil
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

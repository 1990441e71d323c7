package test

// Requests as bytes: what no HTTP client would send.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// rawLimit is how long a raw exchange may take. The program's own limits are 5 s.
const rawLimit = 15 * time.Second

// dialTLS opens a connection that speaks HTTP/1.1.
func (p *proxy) dialTLS(t testing.TB) *tls.Conn {
	t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: rawLimit}, "tcp", p.Listen, http1.tlsConfig(p))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	err = c.SetDeadline(time.Now().Add(rawLimit))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// bytes is the call as one HTTP/1.1 request, signed, for a test to mangle. Content-Length
// stands in it once; headers are in alphabetical order.
func (c *client) bytes(t testing.TB, k *call) string {
	t.Helper()
	r, err := c.request(context.Background(), k)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", r.Method, k.path, c.proxy.Listen, len(k.body))
	var names []string
	for name := range r.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range r.Header[name] {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	return b.String() + "\r\n" + string(k.body)
}

// rawReply is what came back on a connection: nothing at all if it was just closed.
type rawReply struct {
	status int
	header http.Header
	body   string
	more   bool // another reply follows
}

func (r *rawReply) String() string {
	if r == nil {
		return "connection closed"
	}
	return fmt.Sprintf("%d %s", r.status, r.body)
}

// exchange sends bytes and reads until the server closes or is silent after a whole
// reply. A nil reply means that the connection was closed without one.
func (p *proxy) exchange(t testing.TB, text string) *rawReply {
	t.Helper()
	c := p.dialTLS(t)
	_, err := io.WriteString(c, text)
	if err != nil && !isClosed(err) {
		t.Fatal(err)
	}
	return readRaw(t, c)
}

func readRaw(t testing.TB, c net.Conn) *rawReply {
	t.Helper()
	reader := bufio.NewReader(c)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		if isClosed(err) {
			return nil
		}
		t.Fatalf("neither a reply nor a closed connection: %v", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil && !isClosed(err) {
		t.Fatal(err)
	}
	r := &rawReply{status: response.StatusCode, header: response.Header, body: string(body)}
	err = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	_, err = reader.Peek(1)
	r.more = err == nil
	return r
}

// isClosed tells the ways in which a connection can end. A deadline is none.
func isClosed(err error) bool {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return false
	}
	return true
}

// refusedByNetHTTP is what net/http answers itself, before the handler (U12).
func (r *rawReply) refusedByNetHTTP() bool {
	return r != nil && strings.HasPrefix(r.header.Get("Content-Type"), "text/plain")
}

// replaceOnce changes one place of a request and fails if it is not there.
func replaceOnce(t testing.TB, text, old, with string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("%q is not in the request:\n%s", old, text)
	}
	return strings.Replace(text, old, with, 1)
}

// headerLine gives a whole header line of a request, CRLF included.
func headerLine(t testing.TB, text, name string) string {
	t.Helper()
	for line := range strings.SplitSeq(text, "\r\n") {
		if strings.HasPrefix(line, name+": ") {
			return line + "\r\n"
		}
	}
	t.Fatalf("no %s in the request:\n%s", name, text)
	return ""
}

func isJSONObject(text []byte) bool {
	return bytes.HasPrefix(text, []byte("{")) && bytes.HasSuffix(text, []byte("}")) && !bytes.ContainsAny(text, "\r\n")
}

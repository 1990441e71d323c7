package test

// Bad input on the wire, headers and request lines: strange bytes, duplicates,
// floods, smuggling, and what net/http refuses by itself (U12).

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// netHTTPRefusals are requests that never reach our handler, and what net/http
// answers, as observed. The conformance document lists them.
var netHTTPRefusals = []struct {
	what   string
	mangle func(t *testing.T, good string) string
	status int
}{
	{"no Host", func(t *testing.T, s string) string { return replaceOnce(t, s, headerLine(t, s, "Host"), "") }, 400},
	{"two Host headers", func(t *testing.T, s string) string { h := headerLine(t, s, "Host"); return replaceOnce(t, s, h, h+h) }, 400},
	{"a malformed Host, or one with bytes outside ASCII", func(t *testing.T, s string) string { return replaceOnce(t, s, "Host: ", "Host: ａ b") }, 400},
	{"a request line with two blanks, without a version, or with a method that is no token", func(t *testing.T, s string) string { return replaceOnce(t, s, "POST ", "POST  ") }, 400},
	{"a percent sign in the path that begins no escape", func(t *testing.T, s string) string { return replaceOnce(t, s, "/demo/", "/demo%zz/") }, 400},
	{"HTTP/2.0 or 3.0 in a request line", func(t *testing.T, s string) string { return replaceOnce(t, s, " HTTP/1.1", " HTTP/3.0") }, 505},
	{"a header name with a blank, before the colon too, or bytes outside ASCII", func(t *testing.T, s string) string { return replaceOnce(t, s, "Content-Length:", "Content-Length :") }, 400},
	{"a header value with a control character", func(t *testing.T, s string) string {
		return replaceOnce(t, s, "\r\nContent-Length", "\r\nX-A: \x00\r\nContent-Length")
	}, 400},
	{"a folded line as the first header", func(t *testing.T, s string) string { return replaceOnce(t, s, "\r\n", "\r\n folded\r\n") }, 400},
	{"two different Content-Length headers", func(t *testing.T, s string) string {
		return replaceOnce(t, s, "\r\nContent-Length", "\r\nContent-Length: 3\r\nContent-Length")
	}, 400},
	{"a Content-Length that is no decimal number, digits outside ASCII included", func(t *testing.T, s string) string {
		return replaceOnce(t, s, headerLine(t, s, "Content-Length"), "Content-Length: ３\r\n")
	}, 400},
	{"a Transfer-Encoding other than chunked", func(t *testing.T, s string) string {
		return replaceOnce(t, s, headerLine(t, s, "Content-Length"), "Transfer-Encoding: gzip, chunked\r\n")
	}, 501},
	{"an Expect other than 100-continue", func(t *testing.T, s string) string {
		return replaceOnce(t, s, "\r\nContent-Length", "\r\nExpect: tea\r\nContent-Length")
	}, 417},
	{"headers of more than 64 KiB in all", func(t *testing.T, s string) string {
		return replaceOnce(t, s, "\r\nContent-Length", "\r\nX-A: "+strings.Repeat("a", 80<<10)+"\r\nContent-Length")
	}, 431},
}

func TestNetHTTPRefusals(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	c := p.client(t, http1)
	for _, one := range netHTTPRefusals {
		r := p.exchange(t, one.mangle(t, c.bytes(t, c.call(healthURI, encode(healthBody())))))
		if r == nil || r.status != one.status || strings.Contains(r.body, "errorName") {
			t.Errorf("%s: %v, want %d", one.what, r, one.status)
		}
		if r != nil && r.more {
			t.Errorf("%s: the connection is used on", one.what)
		}
	}
	if status, body := p.plainHTTP(t); status != 400 || !strings.Contains(body, "HTTP request to an HTTPS server") {
		t.Errorf("plain HTTP: %d %q", status, body)
	}
	p.wantHealthy(t)
}

// plainHTTP talks to the TLS port without TLS.
func (p *proxy) plainHTTP(t testing.TB) (int, string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.Listen, rawLimit)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /demo/kms/xks/v1/health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
	if err != nil {
		t.Fatal(err)
	}
	r := readRaw(t, conn)
	if r == nil {
		return 0, ""
	}
	return r.status, r.body
}

func refusalsDocument() string {
	var b strings.Builder
	b.WriteString("\n## What net/http refuses before the handler (U12)\n\nThese requests get a reply of plain text, or none, and the connection is closed. As observed on Go 1.26:\n\n| Request | Reply |\n|---|---|\n")
	for _, one := range netHTTPRefusals {
		fmt.Fprintf(&b, "| %s | %d %s |\n", one.what, one.status, http.StatusText(one.status))
	}
	b.WriteString("| plain HTTP on the TLS port | 400 Bad Request |\n| a header, or a TLS handshake, that has not come within `read_header_timeout` | none |\n")
	return b.String()
}

// Digits and letters outside ASCII look like those of ASCII to eyes, and to some parsers.
func TestNonASCIIHeaders(t *testing.T) {
	t.Parallel()
	p := sharedProxy(t)
	for _, w := range []way{http1, http2} {
		c := p.client(t, w)
		for name, edit := range map[string]func(h http.Header){
			"x-amz-date digits":    func(h http.Header) { h.Set("X-Amz-Date", wide(h.Get("X-Amz-Date"))) },
			"x-amz-date letters":   func(h http.Header) { h.Set("X-Amz-Date", strings.Replace(h.Get("X-Amz-Date"), "T", "Ｔ", 1)) },
			"arabic digits":        func(h http.Header) { h.Set("X-Amz-Date", strings.Replace(h.Get("X-Amz-Date"), "0", "٠", -1)) },
			"authorization digits": func(h http.Header) { h.Set("Authorization", wide(h.Get("Authorization"))) },
			"scheme": func(h http.Header) {
				h.Set("Authorization", strings.Replace(h.Get("Authorization"), "AWS4", "ＡWS4", 1))
			},
			"Kelvin sign": func(h http.Header) {
				h.Set("Authorization", strings.Replace(h.Get("Authorization"), "xks", "x\u212as", 1))
			},
			"long s": func(h http.Header) {
				h.Set("Authorization", strings.Replace(h.Get("Authorization"), "SignedHeaders", "\u017fignedHeaders", 1))
			},
			"blank": func(h http.Header) {
				h.Set("Authorization", strings.Replace(h.Get("Authorization"), ", ", ",\u00a0", 1))
			},
			"content hash": func(h http.Header) { h.Set("X-Amz-Content-Sha256", wide(hexHash(nil))) },
			"content type": func(h http.Header) { h.Set("Content-Type", "application/j\u017fon") },
			"Latin-1":      func(h http.Header) { h.Set("Authorization", h.Get("Authorization")+"\xff") },
		} {
			k := c.call(healthURI, encode(healthBody()))
			k.afterSign = func(r *http.Request) { edit(r.Header) }
			r := c.mustDo(t, k)
			if err := r.checkError(401, "AuthenticationFailedException"); err != nil {
				t.Errorf("%v %s: %v", w, name, err)
			}
		}
	}
	p.wantHealthy(t)
}

// wide writes the digits as full-width ones.
func wide(s string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return r - '0' + '０'
		}
		return r
	}, s)
}

func TestDuplicateHeaders(t *testing.T) {
	t.Parallel()
	p := sharedProxy(t)
	for _, w := range ways {
		c := p.client(t, w)
		for _, name := range []string{"Authorization", "X-Amz-Date"} {
			for _, same := range []bool{true, false} {
				k := c.call(healthURI, encode(healthBody()))
				k.afterSign = func(r *http.Request) {
					second := r.Header.Get(name)
					if !same {
						second = "x"
					}
					r.Header[name] = append(r.Header[name], second)
				}
				c.wantUnauthenticated(t, fmt.Sprintf("%v %s twice, same %t", w, name, same), k)
			}
		}
	}
	p.wantHealthy(t)
}

// Thousands of headers, or one that is huge: refused, or served where they are few; memory stays.
func TestHeaderFlood(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	before := residentMemory(t, p.PID)
	for _, w := range []way{http1, http2} {
		c := p.client(t, w)
		for name, header := range map[string]http.Header{
			"many": {"X-Many": repeated("v", 20_000)}, "huge": {"X-Huge": {strings.Repeat("h", 1<<20)}}, "one by one": many(5000),
		} {
			for range 2 {
				k := c.call(healthURI, encode(healthBody()))
				k.afterSign = func(r *http.Request) {
					for field, values := range header {
						r.Header[field] = values
					}
				}
				r, err := c.do(t.Context(), k)
				if err == nil && r.status != http.StatusRequestHeaderFieldsTooLarge {
					t.Errorf("%v %s: %d %s", w, name, r.status, r.body)
				}
			}
		}
		k := c.call(healthURI, encode(healthBody()))
		k.afterSign = func(r *http.Request) { r.Header["X-Many"] = repeated("v", 200) }
		c.mustDo(t, k).wantOK(t, new(object))
	}
	if grown := residentMemory(t, p.PID) - before; grown > 64<<20 {
		t.Errorf("the proxy grew by %d MiB", grown>>20)
	}
	p.wantHealthy(t)
}

func repeated(value string, n int) []string {
	values := make([]string, n)
	for i := range values {
		values[i] = value
	}
	return values
}

func many(n int) http.Header {
	h := http.Header{}
	for i := range n {
		h[fmt.Sprintf("X-Header-%d", i)] = []string{"value"}
	}
	return h
}

// Two readings of where a request ends must not make two requests of one, nor let the
// second pass with the signature of the first.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	c := p.client(t, http1)
	good := c.bytes(t, c.call(healthURI, encode(healthBody())))
	hidden := "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
	head, body, _ := strings.Cut(good, "\r\n\r\n")
	length := headerLine(t, good, "Content-Length")
	both := strings.Replace(head+"\r\n\r\n", length, length+"Transfer-Encoding: chunked\r\n", 1)
	for _, one := range []struct {
		name   string
		text   string
		served bool // the one honest request may be served
	}{
		{"CL and TE, body ends early", both + "0\r\n\r\n" + hidden, false},
		{"CL and TE, whole body", both + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body), true},
		{"TE with a blank before the colon", replaceOnce(t, good, length, length+"Transfer-Encoding : chunked\r\n"), false},
		{"TE twice", replaceOnce(t, good, length, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), false},
		{"TE in a folded line", replaceOnce(t, good, length, length+"X-A: b\r\n Transfer-Encoding: chunked\r\n"), true},
		{"two different CL", replaceOnce(t, good, length, length+"Content-Length: 0\r\n") + hidden, false},
		{"CL of two numbers", replaceOnce(t, good, length, "Content-Length: 0, "+length[len("Content-Length: "):]) + hidden, false},
		{"CL with a sign", replaceOnce(t, good, "Content-Length: ", "Content-Length: +"), false},
		{"bare LF at line ends", strings.ReplaceAll(head, "\r\n", "\n") + "\n\n" + body, true},
		{"bare CR in a value", replaceOnce(t, good, length, length+"X-A: b\rGET /smuggled HTTP/1.1\r\n"), false},
		{"a request in a header value", replaceOnce(t, good, length, length+"X-A: b\n\nGET /smuggled HTTP/1.1\n\n\r\n"), false},
	} {
		mark := p.log.mark()
		r := p.exchange(t, one.text)
		if r != nil && r.status == 200 && !one.served {
			t.Errorf("%s: %v", one.name, r)
		}
		time.Sleep(150 * time.Millisecond) // the log is buffered for 100 ms
		for _, line := range p.log.since(mark) {
			if strings.Contains(line, "/smuggled") && strings.Contains(line, `"status":200`) {
				t.Errorf("%s: a second request was served: %s", one.name, line)
			}
		}
	}
	p.wantHealthy(t)
}

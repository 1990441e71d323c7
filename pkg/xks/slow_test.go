package xks

// Time: HSMs that hang, bodies that dribble, clients that go away (requirements U12, U13, R3).
// Limits are far apart, for the machine may be busy.

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"xks-proxy/pkg/hsm/group"
)

func budgets(all, first time.Duration) change {
	return func(c *Config, _ *group.Config) { c.Budget, c.FirstRequestBudget = all, first }
}

// U13: with the defaults, an answer comes while KMS still waits, though every HSM hangs.
func TestHungHSMs(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		s := newRig(t, budgets(0, 0)).listen(version)
		s.setHooks(hangs)
		fastest := time.Hour
		for range 5 {
			start := time.Now()
			s.post(keyURI(goodKey, "encrypt"), encryptFields(nil)).want(t, dependencyTimeout)
			fastest = min(fastest, time.Since(start))
			s.post(keyURI(goodKey, "metadata"), metadataOnly("x")).wantOK(t)
			s.post(prefixURI+"/health", metadataOnly("x")).wantOK(t)
		}
		if fastest > 200*time.Millisecond {
			t.Errorf("the fastest answer took %v", fastest)
		}
	})
}

// U13: the first request of a connection has less time, from when it was accepted.
func TestFirstRequestBudget(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		s := newRig(t, budgets(4*time.Second, 300*time.Millisecond)).listen(version)
		s.setHooks(hangs)
		for i, want := range []time.Duration{300 * time.Millisecond, 4 * time.Second} {
			start := time.Now()
			s.post(keyURI(goodKey, "encrypt"), encryptFields(nil)).want(t, dependencyTimeout)
			if took := time.Since(start); took < want*8/10 || took > want+2500*time.Millisecond {
				t.Errorf("request %d took %v, not %v", i+1, took, want)
			}
		}
	})
}

// U13: a connection that was open long before its first request has the whole budget.
func TestFirstRequestOfAnOldConnection(t *testing.T) {
	s := newRig(t, budgets(5*time.Second, 100*time.Millisecond)).listen("HTTP/1.1")
	c := s.dial()
	time.Sleep(150 * time.Millisecond)
	io.WriteString(c, s.raw(keyURI(goodKey, "encrypt"), encryptFields(nil)))
	s.read(bufio.NewReader(c)).wantOK(t)
}

// U13: on a kept connection the time starts with the first byte, not with the last of the header.
func TestTimeStartsWithTheFirstByte(t *testing.T) {
	s := newRig(t, budgets(3*time.Second, 30*time.Second)).listen("HTTP/1.1")
	c := s.dial()
	reader := bufio.NewReader(c)
	text := s.raw(keyURI(goodKey, "encrypt"), encryptFields(nil))
	for range 2 {
		io.WriteString(c, text)
		s.read(reader).wantOK(t)
	}
	s.setHooks(hangs)
	time.Sleep(200 * time.Millisecond) // idle time is nobody's
	start := time.Now()
	io.WriteString(c, text[:10])
	time.Sleep(2 * time.Second)
	io.WriteString(c, text[10:])
	s.read(reader).want(t, dependencyTimeout)
	if took := time.Since(start); took < 2500*time.Millisecond || took > 4500*time.Millisecond {
		t.Errorf("the answer came %v after the first byte", took)
	}
}

// U13, R3: a body that does not come ends with the budget, whatever the server's
// ReadTimeout, and holds no memory longer.
func TestDribblingBody(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		for _, readTimeout := range []time.Duration{0, 200 * time.Millisecond, 30 * time.Second} {
			s := newRig(
				t, budgets(400*time.Millisecond, 400*time.Millisecond),
			).listen(version, func(c *http.Server) { c.ReadTimeout = readTimeout })
			for _, c := range []struct {
				path, begin string
				want        errorName
			}{
				{keyURI(goodKey, "encrypt"), "", dependencyTimeout}, {keyURI(goodKey, "encrypt"), `{"requestMeta`, dependencyTimeout},
				{"/nowhere", "{", invalidURIPath}, // net/http reads on before it replies
			} {
				reader, writer := io.Pipe()
				q := s.request(t.Context(), c.path, nil, reader)
				q.ContentLength = 5000
				go io.WriteString(writer, c.begin)
				start := time.Now()
				response, err := s.client.Do(q)
				if err != nil {
					t.Fatalf("read timeout %v, %+v: %v", readTimeout, c, err)
				}
				readReply(t, response).want(t, c.want)
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("read timeout %v, %+v: %v", readTimeout, c, took)
				}
				writer.Close()
				s.post(prefixURI+"/health", metadataOnly("x")).wantOK(t)
			}
		}
	})
}

// U13: what comes in pieces but in time is served, and the next request on the connection too.
func TestBodyInPieces(t *testing.T) {
	s := newRig(t, budgets(5*time.Second, 5*time.Second)).listen("HTTP/1.1")
	c := s.dial()
	reader := bufio.NewReader(c)
	for range 2 {
		text := s.raw(keyURI(goodKey, "encrypt"), encryptFields(pattern(3000)))
		for len(text) > 0 {
			n := min(len(text), 700)
			io.WriteString(c, text[:n])
			text = text[n:]
			time.Sleep(10 * time.Millisecond)
		}
		s.read(reader).wantOK(t)
	}
	// The deadline of the last request does not reach into the idle time after it.
	quick := newRig(t, budgets(time.Second, time.Second)).listen("HTTP/1.1")
	c = quick.dial()
	reader = bufio.NewReader(c)
	for range 3 {
		io.WriteString(c, quick.raw(prefixURI+"/health", metadataOnly("x")))
		quick.read(reader).wantOK(t)
		time.Sleep(1200 * time.Millisecond)
	}
}

// U12: a body shorter than announced, from a client that still listens.
func TestShortBody(t *testing.T) {
	s := newRig(t).listen("HTTP/1.1")
	c := s.dial()
	text := s.raw(prefixURI+"/health", metadataOnly("x"))
	io.WriteString(c, text[:len(text)-1])
	c.CloseWrite()
	s.read(bufio.NewReader(c)).want(t, validation)
	other := s.dial()
	io.WriteString(
		other,
		"POST "+prefixURI+"/health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"req\r\nzz\r\n",
	)
	s.read(bufio.NewReader(other)).want(t, validation)
}

// U12, R3: a client that goes away in the middle of a body, or of the work of an HSM.
func TestClientGone(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		s := newRig(t).listen(version)
		s.post(prefixURI+"/health", metadataOnly("x")).wantOK(t) // the connection of the others
		const clients = 20
		for range clients {
			ctx, cancel := context.WithCancel(t.Context())
			reader, writer := io.Pipe()
			q := s.request(ctx, keyURI(goodKey, "encrypt"), nil, reader)
			q.ContentLength = 100_000
			go func() {
				io.WriteString(writer, strings.Repeat(" ", 50_000))
				cancel() // HTTP/2: RST_STREAM; HTTP/1.1: the connection is closed
				writer.CloseWithError(context.Canceled)
			}()
			if response, err := s.client.Do(q); err == nil {
				response.Body.Close()
			}
		}
		s.setHooks(hangs)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		body := encode(t, encryptFields(nil))
		if response, err := s.client.Do(s.request(ctx, keyURI(goodKey, "encrypt"), body, bytes.NewReader(body))); err == nil {
			response.Body.Close()
			t.Error("answered while the HSMs hang")
		}
		s.awaitLines(int(s.served.Load()))
		s.setHooks(nil)
		line := s.lastLine()
		if line["client_gone"] != true {
			t.Errorf("%v", line)
		}
		for range 10 {
			s.post(keyURI(goodKey, "encrypt"), encryptFields(nil)).wantOK(t)
		}
		if n := s.handler.bodies.Load(); n != 0 {
			t.Errorf("%d bytes of bodies are still counted", n)
		}
	})
}

// R3: an attacker who cannot sign raises no alarm in the log.
func TestNoAlarmsByStrangers(t *testing.T) {
	s := newRig(t, budgets(200*time.Millisecond, 200*time.Millisecond)).listen("HTTP/1.1")
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST " + prefixURI + "/health HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
		"POST " + prefixURI + "/health HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{",
	} {
		c := s.dial()
		fmt.Fprint(c, text)
		s.read(bufio.NewReader(c))
	}
	s.awaitLines(3)
	for _, entry := range s.logs.All() {
		if entry.Level.String() != "info" {
			t.Errorf("%v: %v", entry.Level, entry.ContextMap())
		}
	}
}

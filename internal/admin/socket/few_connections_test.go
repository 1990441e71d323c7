package socket

// The limits on connections of the health port and the admin socket.

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

const fewLimit = 5

// fewRig is a server with a limit; requests to /wait wait until they are let go.
type fewRig struct {
	t     *testing.T
	few   *FewConnections
	addr  string
	letGo chan struct{}
	began chan struct{}
	taken chan struct{} // one for each connection that the server has accepted
	logs  *observer.ObservedLogs
}

func newFewRig(t *testing.T) *fewRig {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	r := &fewRig{
		t: t, few: NewFewConnections("health", fewLimit, zap.New(core)), logs: logs,
		letGo: make(chan struct{}), began: make(chan struct{}, 100),
		taken: make(chan struct{}, 100),
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	handler := func(_ http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/wait" {
			r.began <- struct{}{}
			<-r.letGo
		}
	}
	noted := func(c net.Conn, state http.ConnState) {
		r.few.ConnState(c, state)
		if state == http.StateNew {
			r.taken <- struct{}{}
		}
	}
	server := &http.Server{ConnState: noted, Handler: http.HandlerFunc(handler)}
	go func() { _ = server.Serve(l) }() // it ends with an error
	t.Cleanup(func() { close(r.letGo); _ = server.Close() })
	return r
}

// dial returns when the server has accepted: otherwise several connections could come at once for
// it, and one that was just used would be the one that is idle for longest.
func (r *fewRig) dial() net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	<-r.taken
	return c
}

// getOver sends a request and reads the answer.
func getOver(c net.Conn, path string) error {
	err := c.SetDeadline(time.Now().Add(5 * time.Second))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	if err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// A client may hold all connections, with nothing, half a header or requests in them: a new one is
// answered, and what was idle for longest gives way first.
func TestNewConnectionIsAnswered(t *testing.T) {
	for name, hold := range map[string]func(*fewRig, net.Conn){
		"nothing": func(*fewRig, net.Conn) {},
		"half a header": func(_ *fewRig, c net.Conn) {
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nX-")
		},
		"a request before": func(r *fewRig, c net.Conn) {
			err := getOver(c, "/")
			if err != nil {
				r.t.Error(err)
			}
		},
		"a request that does not end": func(r *fewRig, c net.Conn) {
			_, _ = io.WriteString(c, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
			<-r.began
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newFewRig(t)
			for range 4 * fewLimit {
				hold(r, r.dial())
			}
			err := getOver(r.dial(), "/")
			if err != nil {
				t.Error(err)
			}
			r.few.mu.Lock()
			open := len(r.few.conns)
			r.few.mu.Unlock()
			if open > fewLimit {
				t.Errorf("%d connections are open", open)
			}
			if n := r.few.Closed.Load(); n != 3*fewLimit+1 {
				t.Errorf("%d connections were closed", n)
			}
			if n := r.logs.Len(); n != 1 {
				t.Errorf("%d lines in the log", n)
			}
		})
	}
}

// A connection with a request in it is not closed while others are idle.
func TestIdleConnectionsGiveWayFirst(t *testing.T) {
	r := newFewRig(t)
	busy := r.dial()
	answer := make(chan error)
	go func() { answer <- getOver(busy, "/wait") }()
	<-r.began
	used := r.dial()
	for range 10 * fewLimit {
		r.dial()
		err := getOver(used, "/") // it is never idle for longest
		if err != nil {
			t.Fatal(err)
		}
	}
	r.letGo <- struct{}{}
	err := <-answer
	if err != nil {
		t.Error(err)
	}
}

// What is closed by its client is not counted any more.
func TestClosedConnectionsAreForgotten(t *testing.T) {
	r := newFewRig(t)
	for range 10 * fewLimit {
		c := r.dial()
		err := getOver(c, "/")
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		for deadline := time.Now().Add(5 * time.Second); ; {
			r.few.mu.Lock()
			open, listed := len(r.few.conns), r.few.idle.Len()+r.few.busy.Len()
			r.few.mu.Unlock()
			if open == 0 && listed == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d connections are known, %d listed", open, listed)
			}
			time.Sleep(time.Millisecond)
		}
	}
	if n := r.few.Closed.Load(); n != 0 {
		t.Errorf("%d connections were closed", n)
	}
}

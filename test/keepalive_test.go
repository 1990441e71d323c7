package test

// Connections that nothing is sent on (requirement U15): how long they are kept, that the kernel probes them, and that they are counted.

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	p := newProxy(t, func(s *settings) { s.Server["idle_timeout"] = timeout.String() })
	for _, w := range ways {
		config := w.tlsConfig(p)
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: rawLimit}, "tcp", p.Listen, config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if c.ConnectionState().NegotiatedProtocol == "h2" {
			_, err = fmt.Fprint(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00") // with SETTINGS
		} else {
			_, err = fmt.Fprint(c, "GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
		}
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		err = c.SetReadDeadline(start.Add(30 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, c)
		if took := time.Since(start); errors.Is(err, os.ErrDeadlineExceeded) || took < timeout-100*time.Millisecond {
			t.Errorf("%v: ended after %v: %v", w, took, err)
		}
	}
}

// By default a connection outlives a load balancer's 350 s, so that only its timers can be looked at, not its end.
func TestIdleConnectionIsProbed(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: rawLimit}, "tcp", p.Listen, http1.tlsConfig(p))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, startLimit, func() error {
		timer, err := keepAliveTimer(p, c.LocalAddr().(*net.TCPAddr).Port)
		if err != nil {
			return err
		}
		if timer <= 0 || timer > time.Minute {
			return fmt.Errorf("the kernel's next probe is in %v", timer)
		}
		return nil
	})
	eventually(t, startLimit, func() error {
		var open int
		_, err := fmt.Sscan(p.metric(t, "xks_proxy_connections_open"), &open)
		if err != nil || open < 1 {
			return fmt.Errorf("connections open: %d, %w", open, err)
		}
		return nil
	})
}

// keepAliveTimer is the time until the kernel probes the connection from a client's port (proc_net_tcp: timer 2, in ticks of 10 ms).
func keepAliveTimer(p *proxy, client int) (time.Duration, error) {
	text, err := os.ReadFile(procPath(p.PID, "net/tcp"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 6 || !strings.HasSuffix(fields[2], fmt.Sprintf(":%04X", client)) {
			continue
		}
		kind, ticks, _ := strings.Cut(fields[5], ":")
		n, err := strconv.ParseInt(ticks, 16, 64)
		if err != nil || kind != "02" {
			return 0, fmt.Errorf("the timer of the connection is %s", fields[5])
		}
		return time.Duration(n) * 10 * time.Millisecond, nil
	}
	return 0, errors.New("the kernel does not list the connection")
}

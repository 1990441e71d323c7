package test

// Open files: connections to one port must not keep AWS KMS from another.

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// launchWithFiles starts a proxy that may have so many open files.
func launchWithFiles(t *testing.T, files int) *proxy {
	t.Helper()
	w := newTestWorld(t)
	s := w.settings()
	file := w.file("few-files.yaml")
	s.Admin["socket"] = w.file("admin.sock")
	writeFile(t, file, s.text(t))
	script := fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, files)
	p, err := launchCommand(w, file, "sh", "-c", script, program, "serve", "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(t) })
	p.waitServing(t)
	return p
}

// 900 idle connections to the health port, and as many to the admin socket, of a proxy that may
// have 1,024 open files: AWS KMS connects and is answered, and so are load balancers and operators.
func TestIdleConnectionsBesideUseUpNoFiles(t *testing.T) {
	t.Parallel()
	p := launchWithFiles(t, 1024)
	socket := p.world.file("admin.sock")
	for _, address := range []struct{ network, name string }{{"tcp", p.Health}, {"unix", socket}} {
		var held []net.Conn
		for range 900 {
			conn, err := net.DialTimeout(address.network, address.name, 2*time.Second)
			if err != nil {
				break // the backlog is full as well
			}
			held = append(held, conn)
		}
		t.Cleanup(func() {
			for _, conn := range held {
				_ = conn.Close()
			}
		})
	}
	start := time.Now()
	for range 6 {
		c := p.client(t, http1) // a connection of its own
		c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("six connections took %v: AWS KMS gives up after 250 ms", took)
	}
	closed := p.metric(t, `xks_proxy_other_connections_closed_total{listener="health"}`)
	if closed == "" || closed == "0" {
		t.Errorf("%q connections to the health port were closed", closed)
	}
	said, stderr, code := command(t, "status", "--socket", socket)
	if code != 0 || !strings.Contains(said, ": ready") {
		t.Errorf("status ends with %d: %s%s", code, said, stderr)
	}
	files := p.openFiles(t)
	if files > 352 {
		t.Errorf("%d open files", files)
	}
	t.Logf("%d open files", files)
}

// openFiles is what the proxy counts itself: its /proc is root's, because it is not dumpable.
func (p *proxy) openFiles(t testing.TB) int {
	t.Helper()
	var files int
	_, err := fmt.Sscan(p.metric(t, "process_open_fds"), &files)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

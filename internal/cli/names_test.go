package cli

// A name service that hangs holds nobody up: neither the admin socket nor a start.

import (
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/admin"
	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/peer"
	"xks-proxy/pkg/hsm/status"
)

// Orders are carried out, one after the other, while every lookup hangs.
func TestAdminSocketWhileNamesHang(t *testing.T) {
	rig := newAdminRig(t)
	let := make(chan struct{})
	defer close(let)
	rig.hang(let)
	began := time.Now()
	for range 3 {
		_, stderr, code := execute(t, "block", "key-store", "finance", "--socket", rig.socket)
		if code != 0 || !rig.blocked().KeyStores["finance"] {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("three orders took %s", took)
	}
	lines := rig.log.FilterMessage("admin").All()
	if got := lines[0].ContextMap(); got["uid"] != int64(os.Getuid()) || got["user"] != "" {
		t.Errorf("the log says %v", got)
	}
}

// An order that waited, and whose caller has gone meanwhile: it is not carried out, and the log
// says so. Here it waits for a name, while the caller closes the connection without a word.
func TestOrderThatComesTooLate(t *testing.T) {
	for path, method := range map[string]string{
		api.BlocksPath + "?key_store=finance":                http.MethodPost,
		api.BlocksPath + "?key_store=archive":                http.MethodDelete,
		strings.Replace(api.DrainPath, "{name}", "hsm-a", 1): http.MethodPost,
	} {
		rig := newAdminRig(t)
		_, _, err := rig.admin.Kill.Add(t.Context(), aliceBlocks("archive", ""))
		if err != nil {
			t.Fatal(err)
		}
		let := make(chan struct{})
		rig.hang(let)
		conn, err := net.Dial("unix", rig.socket)
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Write(
			[]byte(method + " " + path + " HTTP/1.1\r\nHost: admin\r\nContent-Length: 0\r\n\r\n"),
		)
		if err != nil {
			t.Fatal(err)
		}
		err = conn.Close()
		if err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(5 * time.Second)
		for rig.log.FilterMessage("admin").Len() == 0 && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
		lines := rig.log.FilterMessage("admin").All()
		if len(lines) != 1 || lines[0].ContextMap()["result"] != peer.ErrGone.Error() {
			t.Errorf("%s %s: %v", method, path, lines)
		}
		if b := rig.blocked(); len(b.KeyStores) != 1 || !b.KeyStores["archive"] ||
			admin.MemberOf(rig.groups[0], "hsm-a").Service == status.Drained {
			t.Errorf("%s %s: it was carried out: %v", method, path, b.KeyStores)
		}
		close(let)
	}
}

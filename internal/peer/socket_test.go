package peer

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// The kernel's word on who is at the other end.
func TestPeer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := Of(Context(NewNames(SystemName))(t.Context(), conn))
	if p.UID != os.Getuid() || p.GID != os.Getgid() || p.PID != os.Getpid() {
		t.Errorf("%+v", p)
	}
	if got := (Peer{UID: 4711}).String(); got != "user "+strconv.Itoa(4711) {
		t.Errorf("a user without a name: %s", got)
	}
}

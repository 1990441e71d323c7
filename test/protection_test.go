package test

// The process protects itself: it leaves no core dump, other processes cannot read it, and a
// plaintext does not stay in its memory, nor in that of its workers.

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

func TestNoCoreDumps(t *testing.T) {
	t.Parallel()
	p := sharedProxy(t)
	for name, pid := range p.processes(t) {
		limits, err := os.ReadFile(procPath(pid, "limits"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for line := range strings.Lines(string(limits)) {
			rest, is := strings.CutPrefix(line, "Max core file size")
			if is {
				found = true
				if fields := strings.Fields(rest); len(fields) < 2 || fields[0] != "0" || fields[1] != "0" {
					t.Errorf("%s: %s", name, line)
				}
			}
		}
		if !found {
			t.Errorf("%s: its limits do not tell the size of a core file:\n%s", name, limits)
		}
	}
}

// processes are the proxy and its workers.
func (p *proxy) processes(t testing.TB) map[string]int {
	t.Helper()
	pids := map[string]int{"proxy": p.PID}
	for _, worker := range p.workers() {
		pids["process of "+worker.HSM] = worker.PID
	}
	if len(pids) != 3 {
		t.Fatalf("processes: %v", pids)
	}
	return pids
}

// toleratedFragments is what may be left: a thread that was interrupted while it copied had up to 256 bytes in registers,
// which the kernel put on its stack.
const toleratedFragments = 8 // of 32

// A plaintext of 4 KiB, encrypted with verification and decrypted, over both versions of HTTP: what the
// program itself decoded, framed and computed is cleared when the answer is out. In Base64 it stands in the buffers
// of crypto/tls and net/http, which are not the program's to clear: that is only told.
func TestPlaintextLeavesMemory(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	for _, version := range []way{http1, http2} {
		c := p.client(t, version)
		plaintext := randomBytes(4096)
		for range 20 { // on both HSMs
			s := c.encrypt(t, "key-1", withCDIV(encryptBody(plaintext, []byte("aad"))))
			if got := c.decrypt(t, "key-1", s, []byte("aad")); string(got) != string(plaintext) {
				t.Fatal("another plaintext")
			}
		}
		c.fleet(t) // another request, so that the answer's log line is out
		inBase64 := base64.StdEncoding.EncodeToString(plaintext)
		for name, pid := range p.processes(t) {
			plain := remains(t, pid, plaintext)
			if len(plain) > toleratedFragments {
				t.Errorf("%v: in the memory of the %s: %d fragments, at %x", version, name, len(plain), plain)
			}
			encoded := remains(t, pid, []byte(inBase64))
			if name != "proxy" && len(encoded) > 0 {
				t.Errorf("%v: in the memory of the %s, in Base64, which it never sees: at %x", version, name, encoded)
			}
			t.Logf("%v, %s: %d bytes in fragments, %d in Base64", version, name, len(plain)*fragment, len(encoded)*fragmentStep)
		}
	}
}

const (
	fragment     = 20 // bytes: no accident
	fragmentStep = 128
)

// remains searches the memory of a process for fragments of a text and says where they are. Without the
// right to read it, it makes sure that it cannot be read.
func remains(t *testing.T, pid int, text []byte) []uint64 {
	t.Helper()
	memory, err := os.Open(procPath(pid, "mem"))
	if os.Getuid() != 0 {
		if !errors.Is(err, os.ErrPermission) {
			t.Errorf("process %d: its own user can read its memory: %v", pid, err)
		}
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	maps, err := os.Open(procPath(pid, "maps"))
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	wanted := newFragments(text)
	var found []uint64
	searched := 0
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to uint64
		var rights string
		_, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &rights)
		if err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		if !strings.HasPrefix(rights, "rw") {
			continue
		}
		n, places := wanted.in(io.NewSectionReader(memory, int64(from), int64(to-from)))
		searched += n
		for _, place := range places {
			found = append(found, from+uint64(place))
		}
	}
	if searched < 1<<20 {
		t.Errorf("process %d: only %d bytes could be read", pid, searched)
	}
	return found
}

// fragments are parts of a text, by their first two bytes.
type fragments [1 << 16][]string

func newFragments(text []byte) *fragments {
	f := new(fragments)
	for i := 0; i+fragment <= len(text); i += fragmentStep {
		head := int(text[i])<<8 | int(text[i+1])
		f[head] = append(f[head], string(text[i:i+fragment]))
	}
	return f
}

// in gives how many bytes it could read, and where in them fragments are.
func (f *fragments) in(r io.Reader) (int, []int64) {
	var places []int64
	const size = 1 << 20
	buffer := make([]byte, size+fragment)
	kept, total := 0, 0
	for {
		n, err := io.ReadFull(r, buffer[kept:])
		text := buffer[:kept+n]
		for i := 0; i+fragment <= len(text); i++ {
			for _, candidate := range f[int(text[i])<<8|int(text[i+1])] {
				if string(text[i:i+fragment]) == candidate {
					places = append(places, int64(total-kept+i))
				}
			}
		}
		total += n
		if err != nil { // the end, or a page that is not there
			return total, places
		}
		kept = copy(buffer, text[len(text)-fragment+1:])
	}
}

package test

// When the program cannot start it says why in one sentence and ends.

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"xks-proxy/internal/testkit"
)

// fault is one way in which a configuration, or what it names, is wrong.
type fault struct {
	name  string
	spoil func(t *testing.T, w *world, s *settings)
	file  func(t *testing.T, text string) string // changes the text of the file
}

var startFaults = []fault{
	{name: "port-taken", spoil: func(t *testing.T, _ *world, s *settings) {
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { taken.Close() })
		s.Server["listen"] = taken.Addr().String()
	}},
	{name: "admin-socket-is-a-file", spoil: func(t *testing.T, w *world, s *settings) {
		writeFile(t, w.file("admin.sock"), "precious")
		s.Admin["socket"] = w.file("admin.sock")
	}},
	{name: "health-port-taken", spoil: func(t *testing.T, _ *world, s *settings) {
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { taken.Close() })
		s.Health["listen"] = taken.Addr().String()
	}},
	{name: "wrong-pin", spoil: func(t *testing.T, w *world, _ *settings) { writeFile(t, w.A.pinFile(), "not-the-pin\n") }},
	{name: "wrong-pin-on-both", spoil: func(t *testing.T, w *world, _ *settings) {
		writeFile(t, w.A.pinFile(), "not-the-pin\n")
		writeFile(t, w.B.pinFile(), "not-the-pin\n")
	}},
	{name: "token-not-found", spoil: func(_ *testing.T, _ *world, s *settings) { s.HSMs[0]["token"] = "hsm-z" }},
	{name: "both-hsms-absent", spoil: func(t *testing.T, w *world, s *settings) {
		w.A.away(t)
		w.B.away(t)
		s.Without = "exit"
	}},
	{name: "module-missing", spoil: func(_ *testing.T, w *world, s *settings) { s.HSMs[0]["module"] = w.file("nothing.so") }},
	{name: "module-is-text", spoil: func(t *testing.T, w *world, s *settings) {
		writeFile(t, w.file("text.so"), "I am no library.\n")
		s.HSMs[0]["module"] = w.file("text.so")
	}},
	{name: "certificate-missing", spoil: func(t *testing.T, w *world, _ *settings) { remove(t, w.file("server.crt")) }},
	{name: "certificate-unreadable", spoil: func(t *testing.T, w *world, _ *settings) { writeFile(t, w.file("server.crt"), "no certificate\n") }},
	{name: "key-of-another-certificate", spoil: func(t *testing.T, w *world, _ *settings) {
		other := filepath.Join(w.Dir, "other")
		err := os.Mkdir(other, 0o700)
		if err != nil {
			t.Fatal(err)
		}
		newCertificates(t, other)
		err = os.Rename(filepath.Join(other, "server.key"), w.file("server.key"))
		if err != nil {
			t.Fatal(err)
		}
	}},
	{name: "key-store-certificate-with-another-key", spoil: func(t *testing.T, w *world, s *settings) {
		newTestCA(t, "one").pair(t, w.file("own"), "own.example.com")
		other := newTestCA(t, "another").pair(t, w.file("other"), "other.example.com")
		s.KeyStores[1]["certificates"] = []object{{"certificate": w.file("own") + ".crt", "key": other["key"]}}
	}},
	{name: "client-ca-without-subjects", spoil: func(_ *testing.T, w *world, s *settings) {
		s.Server["client_certificates"] = object{"ca": w.file("ca.crt")}
	}},
	{name: "secret-readable-by-all", spoil: func(t *testing.T, w *world, _ *settings) {
		err := os.Chmod(w.A.pinFile(), 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}},
	{name: "secret-missing", spoil: func(t *testing.T, w *world, _ *settings) { remove(t, w.file(w.Other.AccessKeyID)) }},
	{name: "unknown-key", spoil: func(_ *testing.T, _ *world, s *settings) { s.Server["lisen"] = "127.0.0.1:0" }},
	{name: "bad-yaml", file: func(_ *testing.T, text string) string { return strings.Replace(text, "{", "{]", 1) }},
	{name: "file-missing", file: func(*testing.T, string) string { return "" }},
}

func remove(t *testing.T, path string) {
	t.Helper()
	err := os.Remove(path)
	if err != nil {
		t.Fatal(err)
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	for _, f := range startFaults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newTestWorld(t)
			p := w.launchSpoilt(t, f)
			code := p.waitExit(t, startLimit)
			if code != 1 {
				t.Errorf("exit code %d", code)
			}
			plain, logged := splitLog(p.log.all())
			if len(plain) != 1 {
				t.Errorf("%d lines on stderr beside the log, want one sentence:\n%s", len(plain), strings.Join(plain, "\n"))
			}
			testkit.CheckGolden(t, filepath.Join("testdata", "start", f.name+".err"), []byte(w.anonymous(strings.Join(plain, "\n"))+"\n"))
			checkNoSecrets(t, w, "log", []byte(p.log.tail(1000)))
			if strings.HasPrefix(f.name, "wrong-pin") {
				checkOneLogin(t, logged)
			}
		})
	}
}

func (w *world) launchSpoilt(t *testing.T, f fault) *proxy {
	t.Helper()
	s := w.settings()
	if f.spoil != nil {
		f.spoil(t, w, s)
	}
	text := s.text(t)
	if f.file != nil {
		text = f.file(t, text)
	}
	file := w.file("xks-proxy.yaml")
	if text != "" {
		writeFile(t, file, text)
	}
	p, err := launchFile(w, file)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// splitLog tells the sentences for the operator from the lines of the log.
func splitLog(lines []string) ([]string, []string) {
	var plain, logged []string
	for _, line := range lines {
		if strings.HasPrefix(line, "{") {
			logged = append(logged, line)
		} else {
			plain = append(plain, line)
		}
	}
	return plain, logged
}

// A wrong PIN is tried once: no process for that HSM was started a second time.
func checkOneLogin(t *testing.T, logged []string) {
	t.Helper()
	refused := 0
	for _, line := range logged {
		if strings.Contains(line, "will be started again") && strings.Contains(line, "refused the PIN") {
			t.Errorf("a wrong PIN is tried again: %s", line)
		}
		if strings.Contains(line, "will not be started again") && strings.Contains(line, `"hsm":"hsm-a"`) {
			refused++
		}
	}
	if refused > 1 {
		t.Errorf("the PIN of one HSM was refused %d times", refused)
	}
}

var variable = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`serial "[0-9a-f]{16}"`), `serial "SERIAL"`},
	{regexp.MustCompile(`slot [0-9]+`), "slot SLOT"},
	{regexp.MustCompile(`runs as user [0-9]+`), "runs as user UID"},
	{regexp.MustCompile(`xks-proxy\.yaml:\d+:\d+`), "xks-proxy.yaml:LINE:COLUMN"},
}

// anonymous replaces what differs from run to run and from machine to machine.
func (w *world) anonymous(text string) string {
	text = strings.ReplaceAll(text, w.Dir, "DIR")
	text = strings.ReplaceAll(text, module, "MODULE")
	text = strings.ReplaceAll(text, w.Other.AccessKeyID, "ACCESSKEYID")
	for _, v := range variable {
		text = v.pattern.ReplaceAllString(text, v.name)
	}
	return text
}

// An HSM that refuses the PIN while the other works: the program tries it once, and never
// again by itself, however long it serves.
func TestWrongPINIsTriedOnce(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	first := w.start(t, nil)
	first.wantHealthy(t)
	first.stop(t)
	writeFile(t, w.A.pinFile(), "not-the-pin\n")
	p := w.launch(t, nil)
	p.waitServingOrExit(t)
	select {
	case <-p.Exited(): // also right: a mistake is better heard of now
	default:
		defer p.stop(t)
		for range 20 {
			p.client(t, http1).encrypt(t, "key-1", encryptBody([]byte("x"), nil))
		}
		p.waitStatus(t, "hsm-a", "UNAVAILABLE")
	}
	_, logged := splitLog(p.log.all())
	checkOneLogin(t, logged)
}

// waitServingOrExit waits until the program serves or has ended.
func (p *proxy) waitServingOrExit(t testing.TB) {
	t.Helper()
	eventually(t, startLimit, func() error {
		select {
		case <-p.Exited():
			return nil
		default:
		}
		if p.log.find(isServing) == "" {
			return errors.New("neither serving nor ended")
		}
		p.waitServing(t)
		return nil
	})
}

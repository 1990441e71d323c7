package test

// The log of the real program: its last line of a start, strangers who try to fill it, rotation,
// and a full disk.

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"xks-proxy/test/harness"
)

// logLine is a line of the log, as far as these tests look at it.
type logLine struct {
	Level, Msg, HSM string
	Status          any            // of an HSM or a reply
	KMSRequestID    string         `json:"kms_request_id"`
	ByReason        map[string]int `json:"by_reason"`
	Authenticated   *bool
	Lines           int // lost
}

func parseLines(t *testing.T, lines []string) []logLine {
	t.Helper()
	var all []logLine
	for _, text := range lines {
		var line logLine
		err := json.Unmarshal([]byte(text), &line)
		if err != nil {
			t.Fatalf("not JSON: %.300s", text)
		}
		all = append(all, line)
	}
	return all
}

// No HSM is there: the start says so in its last line, as an error, and each HSM is one.
func TestServingNotReady(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	w.A.away(t)
	w.B.away(t)
	p := w.start(t, nil)
	lines := parseLines(t, p.log.all())
	failed := 0
	for _, line := range lines {
		if line.Msg == "HSM" && line.Status == "UNAVAILABLE" && line.Level == "error" {
			failed++
		}
	}
	serving := 0
	for i, line := range lines {
		if strings.HasPrefix(line.Msg, "serving") {
			serving = i
		}
	}
	const want = "serving, NOT READY: no HSM can serve"
	if got := lines[serving]; failed != 2 || got.Level != "error" || got.Msg != want {
		t.Errorf("%d HSMs are errors; the last line is %+v", failed, got)
	}
	for _, line := range lines[serving+1:] {
		if line.Msg == "HSM" || line.Msg == "key store" || line.Msg == "configuration" {
			t.Errorf("a line of the start after the last: %+v", line)
		}
	}
}

// unsigned sends a request that is not signed, with a body that gets longer when it is logged.
func (p *proxy) unsigned(t *testing.T, client *http.Client) bool {
	t.Helper()
	body := fmt.Sprintf(`{"requestMetadata":{"awsPrincipalArn":%q,"x":{"%s":1}}}`,
		strings.Repeat("\\", 1000), strings.Repeat(`\u0001`, 300))
	uri := "https://" + p.Listen + mainPrefix + "/kms/xks/v1/health"
	response, err := client.Post(uri, "application/json", strings.NewReader(body))
	if err != nil {
		return false // cut off, as strangers are
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	return response.StatusCode == http.StatusUnauthorized
}

// Strangers send as fast as they can for four seconds. They make the proxy write little, all of
// their requests are accounted for, and each line of a tenant is there.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	p, path := startWithLogFile(t)
	c := p.client(t, http1)
	var refused atomic.Int64
	stop := make(chan struct{})
	var flooding sync.WaitGroup
	for range 4 {
		flooding.Go(func() {
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: http1.tlsConfig(p)}}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
					if p.unsigned(t, client) {
						refused.Add(1)
					}
				}
			}
		})
	}
	const honest = 40
	for range honest {
		c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
		time.Sleep(100 * time.Millisecond)
	}
	close(stop)
	flooding.Wait()
	p.stop(t)
	text := readText(t, path)
	tenants, strangers, written := 0, 0, 0
	for line := range strings.Lines(text) {
		l := parseLines(t, []string{line})[0]
		switch {
		case l.Authenticated != nil && *l.Authenticated:
			tenants++
		case l.Authenticated != nil:
			strangers++
			written += len(line)
		}
		strangers += l.ByReason["missing_authorization"]
	}
	if tenants != honest {
		t.Errorf("%d lines about %d requests of a tenant", tenants, honest)
	}
	if strangers < int(refused.Load()) {
		t.Errorf("%d requests were refused, the log accounts for %d", refused.Load(), strangers)
	}
	if limit := 4096 * (100 + 5 + 12*11); written > limit {
		t.Errorf("strangers wrote %d bytes, more than %d", written, limit)
	}
	t.Logf("%d requests of strangers, %d bytes of lines about them", refused.Load(), written)
}

// startWithLogFile is a proxy that logs to a file.
func startWithLogFile(t *testing.T) (*proxy, string) {
	t.Helper()
	path := ""
	p := newTestWorld(t).launch(t, func(s *settings) {
		path = s.State + ".log"
		s.Log = object{"output": path}
	})
	t.Cleanup(func() { p.stop(t) })
	eventually(t, startLimit, func() error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if isServing(line) {
				p.noteServing(t, line)
				return nil
			}
		}
		return errNotYet
	})
	return p, path
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The file is renamed and the proxy told by SIGHUP, under load: each request has one line, in one
// of the files, and a configuration that is not good does not matter.
func TestLogRotation(t *testing.T) {
	t.Parallel()
	p, path := startWithLogFile(t)
	c := p.client(t, http1)
	writeFile(t, p.file, readText(t, p.file)+"\nbad: [\n")
	const rotations, requests = 4, 40
	for i := range rotations {
		for range requests {
			c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
		}
		err := os.Rename(path, fmt.Sprint(path, ".", i))
		if err != nil {
			t.Fatal(err)
		}
		err = p.Signal(syscall.SIGHUP)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, startLimit, func() error {
			_, err := os.Stat(path)
			return err
		})
	}
	p.stop(t)
	all := readText(t, path)
	for i := range rotations {
		all += readText(t, fmt.Sprint(path, ".", i))
	}
	seen := 0
	for _, line := range parseLines(t, strings.Split(strings.TrimSpace(all), "\n")) {
		if line.Msg == "request" {
			seen++
		}
	}
	if seen != rotations*requests {
		t.Errorf("%d lines about %d requests", seen, rotations*requests)
	}
}

// The shipped configs/xks-proxy.logrotate, with the path, the user and the signal of this test:
// each request has one line in the files that logrotate leaves.
func TestShippedLogrotate(t *testing.T) {
	t.Parallel()
	find := exec.Command("sh", "logrotate.sh")
	find.Stderr = os.Stderr
	logrotate, err := find.Output()
	if err != nil {
		t.Fatalf("logrotate: %v", err)
	}
	p, path := startWithLogFile(t)
	text := readText(t, "../configs/xks-proxy.logrotate")
	for _, change := range [][2]string{
		{"/var/log/xks-proxy/xks-proxy.log {", path + " {"},
		{"    su xks-proxy xks-proxy\n", ""},
		{"systemctl kill --kill-who=main --signal=HUP xks-proxy.service", "kill -HUP " + itoa(p.PID)},
	} {
		if strings.Count(text, change[0]) != 1 {
			t.Fatalf("the file has not %q once", change[0])
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	file := p.world.file("logrotate")
	writeFile(t, file, text)
	c := p.client(t, http1)
	const rotations, requests = 3, 30
	for range rotations {
		for range requests {
			c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
		}
		eventually(t, startLimit, func() error { // an empty file is not rotated
			info, err := os.Stat(path)
			if err == nil && info.Size() == 0 {
				return errNotYet
			}
			return err
		})
		rotate := exec.Command(strings.TrimSpace(string(logrotate)), "--force", "--state", file+".state", file)
		said, err := rotate.CombinedOutput()
		if err != nil || len(said) > 0 {
			t.Fatalf("logrotate: %v: %s", err, said)
		}
		eventually(t, startLimit, func() error {
			_, err := os.Stat(path) // the proxy makes it
			return err
		})
	}
	p.stop(t)
	seen := strings.Count(readText(t, path)+readText(t, path+".1"), `"msg":"request"`)
	for i := 2; i <= rotations; i++ {
		zipped, err := exec.Command("gzip", "-cd", fmt.Sprint(path, ".", i, ".gz")).Output()
		if err != nil {
			t.Fatal(err)
		}
		seen += strings.Count(string(zipped), `"msg":"request"`)
	}
	if seen != rotations*requests {
		t.Errorf("%d lines about %d requests", seen, rotations*requests)
	}
}

// The reader of the log stands still for a second, twice, under load; then it is fast for a moment
// and slow again: every request has one whole line, or is counted as lost.
func TestStalledReaderOfTheLog(t *testing.T) {
	t.Parallel()
	pipe := ""
	w := newTestWorld(t)
	p := w.launch(t, func(s *settings) {
		pipe = s.State + ".fifo"
		err := syscall.Mkfifo(pipe, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		s.Log = object{"output": pipe}
	})
	t.Cleanup(func() { p.stop(t) })
	reader, err := os.Open(pipe)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	log, ended := new(processLog), make(chan struct{})
	lines, stalls := harness.NewLineWriter(log.add), make(chan time.Duration)
	go func() {
		defer close(ended)
		buffer, slow := make([]byte, 16<<10), time.Now()
		for {
			select {
			case stall := <-stalls:
				time.Sleep(stall)
				slow = time.Now().Add(300 * time.Millisecond)
			default:
			}
			if time.Now().After(slow) {
				time.Sleep(2 * time.Millisecond)
			}
			n, err := reader.Read(buffer)
			_, _ = lines.Write(buffer[:n]) // it takes everything
			if err != nil {
				return
			}
		}
	}()
	p.noteServing(t, log.wait(t, startLimit, p.Exited(), isServing))
	load := p.startLoad(t, http1, 3000, 16)
	for range 2 {
		time.Sleep(500 * time.Millisecond)
		stalls <- time.Second
		time.Sleep(3 * time.Second)
	}
	load.end()
	p.stop(t)
	<-ended
	seen, requests, lost := map[string]bool{}, 0, 0
	for _, line := range parseLines(t, log.all()) {
		switch {
		case line.Msg == "request" && seen[line.KMSRequestID]:
			t.Fatalf("two lines about %s", line.KMSRequestID)
		case line.Msg == "request":
			seen[line.KMSRequestID] = true
			requests++
		}
		lost += line.Lines
	}
	if requests+lost != load.count() {
		t.Errorf("%d lines and %d lost, of %d requests", requests, lost, load.count())
	}
	t.Logf("%d requests, %d lost", load.count(), lost)
}

// A log on a full disk: the service goes on, and stderr, status and metrics report the failure.
func TestLogOnAFullDisk(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	p := w.launch(t, func(s *settings) { s.Log = object{"output": "/dev/full"} })
	t.Cleanup(func() { p.stop(t) })
	stderr := p.log.wait(t, startLimit, p.Exited(), func(line string) bool {
		return strings.Contains(line, "no space left")
	})
	if !strings.HasPrefix(stderr, "xks-proxy: the log cannot be written; lines wait in memory: ") {
		t.Errorf("stderr says %s", stderr)
	}
	eventually(t, startLimit, func() error {
		said, _, code := command(t, "status", "--config", p.file)
		if code != 4 || !strings.Contains(said, "The log (/dev/full) cannot be written for ") {
			return fmt.Errorf("status says %s", said)
		}
		return nil
	})
}

package logging

// A log that cannot be written: nothing is lost in silence, and every line that is there is whole.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/internal/config"
	"xks-proxy/internal/testkit"
)

// smallDisk takes so many bytes, and then fails as a full disk does: after a part of the write.
type smallDisk struct {
	mu   sync.Mutex
	room int
	err  error
	got  bytes.Buffer
}

func (d *smallDisk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(len(p), d.room)
	d.room -= n
	d.got.Write(p[:n])
	if n < len(p) {
		return n, d.err
	}
	return n, nil
}

func (d *smallDisk) setRoom(bytes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = bytes
}

// saidText collects what is said on stderr.
type saidText struct {
	mu  sync.Mutex
	got bytes.Buffer
}

func (w *saidText) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got.Write(p)
}

func (w *saidText) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got.String()
}

// queueTo is a queue of JSON.
func queueTo(out, stderr io.Writer) *logQueue {
	return newLogQueue(&logSink{out: out}, outageLine(newEncoder("json")), newAlarm(stderr))
}

// wholeLines are the lines of a log that are JSON; it counts the others.
func wholeLines(t *testing.T, log string) ([]string, int) {
	t.Helper()
	if log != "" && !strings.HasSuffix(log, "\n") {
		t.Errorf("the log ends within a line: %q", log[max(0, len(log)-200):])
	}
	var whole []string
	torn := 0
	for line := range strings.Lines(log) {
		if json.Valid([]byte(line)) {
			whole = append(whole, line)
		} else {
			torn++
		}
	}
	return whole, torn
}

// A disk is full for a while, at every place within the lines: all lines are there in the end, once
// and in order, and what is torn is ended.
func TestFullDiskForAWhile(t *testing.T) {
	const line = `{"line":%d}` + "\n"
	for room := range 40 {
		for _, err := range []error{syscall.ENOSPC, syscall.EIO} {
			synctest.Test(t, func(t *testing.T) {
				disk, stderr := &smallDisk{room: room, err: err}, new(saidText)
				q := queueTo(disk, stderr)
				for i := range 5 {
					_, _ = fmt.Fprintf(q, line, i)
				}
				time.Sleep(3 * time.Second)
				s := q.State(time.Now())
				if s.Failing != err.Error() || s.Since.IsZero() || s.Lost != 0 {
					t.Errorf("while the disk is full: %+v", s)
				}
				said := "the log cannot be written; lines wait in memory: " + err.Error()
				if !strings.Contains(stderr.String(), said) {
					t.Errorf("stderr says %q", stderr.String())
				}
				_, _ = fmt.Fprintf(q, line, 5)
				disk.setRoom(1 << 20)
				time.Sleep(2 * time.Second)
				if s := q.State(time.Now()); s.Failing != "" || s.Lost != 0 {
					t.Errorf("afterwards: %+v", s)
				}
				q.flush()
				whole, torn := wholeLines(t, disk.got.String())
				want := []string{}
				for i := range 5 {
					want = append(want, fmt.Sprintf(line, i))
				}
				if len(whole) != 7 || torn > 1 || !slices.Equal(whole[:5], want) {
					t.Fatalf("room for %d bytes: %q", room, disk.got.String())
				}
				rest := strings.Join(whole[5:], "")
				for _, part := range []string{`{"line":5}`, linesLate, `"lines":0}`, err.Error()} {
					if !strings.Contains(rest, part) {
						t.Errorf("the log does not say %s: %s", part, rest)
					}
				}
			})
		}
	}
}

// What does not fit into memory meanwhile is counted: in the log, on stderr and in the status.
func TestFullDiskForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, stderr := &smallDisk{err: syscall.ENOSPC, room: 2000}, new(saidText)
		q := queueTo(disk, stderr)
		padding := strings.Repeat("x", 4000)
		const lines = 5000 // 20 MB
		for i := range lines {
			_, _ = fmt.Fprintf(q, `{"line":%d,"padding":%q}`+"\n", i, padding)
			time.Sleep(time.Millisecond)
		}
		s := q.State(time.Now())
		if s.Lost == 0 || time.Since(s.LastLost) > time.Second || s.Failing == "" {
			t.Errorf("%+v", s)
		}
		disk.setRoom(1 << 30)
		time.Sleep(5 * time.Second)
		q.flush()
		whole, torn := wholeLines(t, disk.got.String())
		lost := lines - (len(whole) - 1)
		if torn != 1 || int64(lost) != s.Lost {
			t.Errorf("%d lines are missing, %d are counted; %d torn", lost, s.Lost, torn)
		}
		last := whole[len(whole)-1]
		count := fmt.Sprintf(`"lines":%d}`, lost)
		if !strings.Contains(last, count) || !strings.Contains(last, `"level":"error"`) {
			t.Errorf("the log says %s", last)
		}
		again := fmt.Sprintf("the log is written again after 5s; %d lines were lost", lost)
		for _, want := range []string{"lines are being lost", again} {
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("stderr does not say %q: %s", want, stderr)
			}
		}
		if n := strings.Count(stderr.String(), "\n"); n > 5 {
			t.Errorf("%d sentences on stderr:\n%s", n, stderr)
		}
	})
}

// A disk that stays full does not keep the program from ending, and the loss is on stderr.
func TestFullDiskAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, stderr := &smallDisk{err: syscall.ENOSPC}, new(saidText)
		q := queueTo(disk, stderr)
		_, _ = io.WriteString(q, "{}\n")
		time.Sleep(time.Second)
		_, _ = io.WriteString(q, "{}\n{}\n")
		q.flush()
		if !strings.Contains(stderr.String(), "3 lines of the log were lost") {
			t.Errorf("stderr says %q", stderr)
		}
	})
}

// A write that never ends is a failure as well.
func TestStuckLogIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, stderr := &stuckWriter{letGo: make(chan struct{})}, new(saidText)
		q := queueTo(out, stderr)
		_, _ = io.WriteString(q, "{}\n")
		time.Sleep(time.Minute)
		s := q.State(time.Now())
		if s.Failing != errLogStuck.Error() || time.Since(s.Since) < 50*time.Second {
			t.Errorf("%+v", s)
		}
		close(out.letGo)
		time.Sleep(time.Second)
		q.flush()
		text := out.text()
		if !strings.Contains(text, errLogStuck.Error()) || !strings.Contains(text, `"lines":0}`) {
			t.Errorf("the log says %s", text)
		}
	})
}

// /dev/full fails from the first byte.
func TestDevFull(t *testing.T) {
	stderr := new(saidText)
	sink, err := openLog("/dev/full")
	if err != nil {
		t.Fatal(err)
	}
	q := newLogQueue(sink, outageLine(newEncoder("json")), newAlarm(stderr))
	_, _ = io.WriteString(q, "{}\n")
	q.flush()
	s := q.State(time.Now())
	said := stderr.String()
	if s.Lost != 1 || !strings.Contains(said, "no space left on device") ||
		!strings.Contains(said, "1 lines of the log were lost") {
		t.Errorf("%+v, %q", s, stderr)
	}
}

// A file that ends within a line, after a crash, gets its end before the first line.
func TestTornFileIsEnded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxy.log")
	for before, want := range map[string]string{
		"": "{}\n", "{\"a\":1}\n": "{\"a\":1}\n{}\n", "{\"a": "{\"a\n{}\n",
	} {
		err := os.WriteFile(path, []byte(before), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		sink, err := openLog(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = sink.write([]byte("{}\n"))
		if err != nil || testkit.ReadFile(t, path) != want {
			t.Errorf("%q becomes %q: %v", before, testkit.ReadFile(t, path), err)
		}
		_ = sink.close()
	}
}

// What logrotate does: rename, then ask for the file to be opened again. Every line is in one of
// the files, whole; nothing comes into the old one after that.
func TestLogIsReopened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxy.log")
	l, err := New(config.Log{Level: "info", Format: "json", Output: path})
	if err != nil {
		t.Fatal(err)
	}
	stop, lines := make(chan struct{}), 0
	var writing sync.WaitGroup
	writing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				l.Info("line")
				lines++
				time.Sleep(100 * time.Microsecond)
			}
		}
	})
	var old []string
	for i := range 5 {
		time.Sleep(80 * time.Millisecond)
		rotated := fmt.Sprint(path, ".", i)
		err = errors.Join(os.Rename(path, rotated), l.Reopen())
		if err != nil {
			t.Fatal(err)
		}
		old = append(old, testkit.ReadFile(t, rotated))
	}
	close(stop)
	writing.Wait()
	l.Flush()
	whole, torn := wholeLines(t, strings.Join(old, "")+testkit.ReadFile(t, path))
	if len(whole) != lines || torn != 0 {
		t.Errorf("%d whole lines and %d torn, of %d", len(whole), torn, lines)
	}
	for i, text := range old {
		if now := testkit.ReadFile(t, fmt.Sprint(path, ".", i)); now != text || text == "" {
			t.Errorf("the file %d had %d bytes when closed, and %d now", i, len(text), len(now))
		}
	}
}

// A file that cannot be opened again is written on.
func TestLogIsNotReopened(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	path := filepath.Join(dir, "proxy.log")
	err := os.Mkdir(dir, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(config.Log{Level: "info", Format: "json", Output: path})
	if err != nil {
		t.Fatal(err)
	}
	err = os.Rename(dir, dir+"-old")
	if err != nil {
		t.Fatal(err)
	}
	err = l.Reopen()
	if err == nil || !strings.Contains(err.Error(), "the log file was not opened again: ") {
		t.Errorf("%v", err)
	}
	l.Info("line")
	l.Flush()
	text := testkit.ReadFile(t, filepath.Join(dir+"-old", "proxy.log"))
	if !strings.Contains(text, `"line"`) {
		t.Errorf("%q", text)
	}
	for _, output := range []string{"stderr", "stdout", "/dev/full"} {
		l := &Log{output: output}
		err := l.Reopen()
		if err != nil {
			t.Errorf("%s: %v", output, err)
		}
	}
}

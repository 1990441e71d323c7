package logging

// Strangers cannot fill the log, and cannot take the place of another line.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/config"
)

// slowSink takes so many bytes a second.
type slowSink struct {
	bytesPerSecond int
	mu             sync.Mutex
	got            bytes.Buffer
}

func (s *slowSink) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(len(p)) * time.Second / time.Duration(s.bytesPerSecond))
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(p)
}

// slowLog is a log that is written so fast, with ten lines a second for strangers.
func slowLog(bytesPerSecond int) (*Log, *slowSink) {
	sink := &slowSink{bytesPerSecond: bytesPerSecond}
	c := config.Log{Level: "info", Format: "json", Output: "stderr", UnauthenticatedPerSecond: 10}
	return startLog(c, zap.NewAtomicLevel(), &logSink{out: sink}, newAlarm(nil)), sink
}

// flood logs a line about a stranger every 100 µs, of 4 KiB, for three reasons.
func flood(l *Log, during time.Duration) int {
	reasons := []string{"missing_authorization", "InvalidUriPathException", "clock_skew"}
	padding, tried := strings.Repeat("x", 3900), 0
	for end := time.Now().Add(during); time.Now().Before(end); tried++ {
		log := l.Strangers.Logger(reasons[tried%len(reasons)])
		if log != nil {
			log.Info("request", zap.String("padding", padding))
		}
		time.Sleep(100 * time.Microsecond)
	}
	return tried
}

// Whatever the speed of the disk: every line of a tenant and of an operator is written, strangers
// write little, and every line of theirs is written or counted.
func TestStrangersDisplaceNobody(t *testing.T) {
	for _, speed := range []int{5 << 20, 64 << 10, 4 << 10} {
		t.Run(fmt.Sprint(speed, " bytes a second"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, sink := slowLog(speed)
				const honest = 400
				var tried atomic.Int64
				var flooding sync.WaitGroup
				flooding.Go(func() { tried.Add(int64(flood(l, 40*time.Second))) })
				for i := range honest {
					l.Info("request", zap.Int("line", i), zap.String("access_key_id", "A"))
					time.Sleep(100 * time.Millisecond)
				}
				flooding.Wait()
				time.Sleep(5 * time.Minute) // what waits is written
				l.Flush()
				synctest.Wait()
				next, strangers, counted := 0, 0, 0
				for line := range strings.Lines(sink.got.String()) {
					var got struct {
						Line     *int
						ByReason map[string]int `json:"by_reason"`
						Padding  string
					}
					err := json.Unmarshal([]byte(line), &got)
					if err != nil {
						t.Fatal(err)
					}
					switch {
					case got.Line != nil && *got.Line == next:
						next++
					case got.Padding != "":
						strangers += len(line)
					}
					for _, n := range got.ByReason {
						counted += n
					}
				}
				if next != honest {
					t.Errorf("%d lines of %d are in the log", next, honest)
				}
				written := strings.Count(sink.got.String(), "xxx\"")
				suppressed := int(l.State().Suppressed)
				if written+counted != int(tried.Load()) || counted != suppressed {
					t.Errorf("%d lines of strangers written, %d counted (%d in the status), of %d",
						written, counted, suppressed, tried.Load())
				}
				if l.State().Lost != 0 {
					t.Errorf("%d lines lost", l.State().Lost)
				}
				// 100 at once and 10 a second, 5 at once and 0.2 a second of each reason.
				if limit := 4100 * (100 + 10*40 + 3*(5+8) + 3); strangers > limit {
					t.Errorf("strangers wrote %d bytes, more than %d", strangers, limit)
				}
				t.Logf("strangers: %d lines tried, %d written, %d bytes",
					tried.Load(), written, strangers)
			})
		})
	}
}

// While a reader stands still, strangers fill no more than their share, and tenants lose nothing
// that fits into the memory that is theirs.
func TestStrangersWhileTheLogIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &stuckWriter{letGo: make(chan struct{})}
		q := testQueue(out)
		l := &Log{queue: q}
		line := bytes.Repeat([]byte("x"), 1023)
		line = append(line, '\n')
		taken := 0
		for range 2 * logQueueSize / 1024 {
			if l.queue.writeStranger(line) {
				taken++
			}
		}
		for range logQueueSize / 1024 {
			_, _ = q.Write(line)
		}
		if s := q.State(time.Now()); s.Lost != 0 {
			t.Errorf("%d lines lost", s.Lost)
		}
		if taken == 0 || taken > strangerBacklog/1024 {
			t.Errorf("%d KiB of strangers wait", taken)
		}
		close(out.letGo)
		q.flush()
	})
}

// A flood of one kind does not hide another kind, and the first line with counts comes in time.
func TestEachReasonHasLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, sink := slowLog(1 << 30)
		for range 100_000 {
			if log := l.Strangers.Logger("InvalidUriPathException"); log != nil {
				log.Info("request", zap.String("of", "the flood"))
			}
		}
		log := l.Strangers.Logger("signature_mismatch")
		if log == nil {
			t.Fatal("a line of another kind has no place")
		}
		log.Info("request", zap.String("of", "a tenant with a wrong secret"))
		time.Sleep(strangerSummary + time.Second)
		sink.mu.Lock()
		text := sink.got.String()
		sink.mu.Unlock()
		if !strings.Contains(text, "a tenant with a wrong secret") ||
			!strings.Contains(text, `"by_reason":{"InvalidUriPathException":99895}`) {
			t.Errorf("%.2000s", text)
		}
		l.Flush()
	})
}

// With a rate of 0 they are only counted; a reload changes the rate.
func TestRateOfStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, sink := slowLog(1 << 30)
		for _, lines := range []int{0, 1, 50} {
			l.Strangers.SetRate(lines)
			time.Sleep(time.Hour)
			got := 0
			for range 10_000 {
				if l.Strangers.Logger("x") != nil {
					got++
				}
			}
			want := lines * strangerBurst
			if lines > 0 {
				want += reasonBurst
			}
			if got != want {
				t.Errorf("with a rate of %d: %d lines at once, want %d", lines, got, want)
			}
		}
		l.Flush() // with the counts of the last seconds
		if text := sink.got.String(); !strings.Contains(text, `"by_reason":{"x":9495}`) {
			t.Error(text)
		}
	})
}

// The reasons are few, whatever is asked for; failed handshakes are debug lines of strangers.
func TestReasonsAreBounded(t *testing.T) {
	l, _ := slowLog(1 << 30)
	defer l.Flush()
	for i := range 10_000 {
		l.Strangers.Logger(fmt.Sprint(i))
	}
	if n := len(l.Strangers.reasons); n > maxReasons+1 {
		t.Errorf("%d reasons", n)
	}
}

func TestQuietLog(t *testing.T) {
	l, sink := slowLog(1 << 30)
	l.Quiet().Print("http: TLS handshake error")
	l.Level.SetLevel(zap.DebugLevel)
	for range 1000 {
		l.Quiet().Print("http: " + strings.Repeat("\x01", 1000))
	}
	l.Flush()
	text := sink.got.String()
	if strings.Contains(text, "handshake error") || len(text) > 300_000 ||
		!strings.Contains(text, `"by_reason":{"connection":8`) {
		t.Errorf("%d bytes: %.300s … %s", len(text), text, text[len(text)-300:])
	}
}

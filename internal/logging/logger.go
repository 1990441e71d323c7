package logging

// The log: structured lines, one for each request, and where they go.

import (
	"bytes"
	"fmt"
	"io"
	stdlog "log"
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"xks-proxy/internal/config"
)

const logTime = "2006-01-02T15:04:05.000000Z" // UTC

// Log is the log, what changes it while it runs, and what ends it.
type Log struct {
	*zap.Logger
	Level     zap.AtomicLevel // may be changed at any time
	Strangers *Strangers      // lines about unauthenticated requests
	queue     *logQueue
	output    string
}

// New opens the log that c describes. End it with Flush.
func New(c config.Log) (*Log, error) {
	level, err := zap.ParseAtomicLevel(c.Level)
	if err != nil {
		return nil, err
	}
	sink, err := openLog(c.Output)
	if err != nil {
		return nil, err
	}
	stderr := io.Writer(os.Stderr)
	if c.Output == "stderr" {
		stderr = nil
	}
	return startLog(c, level, sink, newAlarm(stderr)), nil
}

// startLog is New with an open file.
func startLog(c config.Log, level zap.AtomicLevel, sink *logSink, alarm *alarm) *Log {
	encoder := newEncoder(c.Format)
	queue := newLogQueue(sink, outageLine(encoder), alarm)
	over := func(out zapcore.WriteSyncer) *zap.Logger {
		return zap.New(zapcore.NewCore(encoder.Clone(), out, level))
	}
	l := &Log{Logger: over(queue), Level: level, queue: queue, output: c.Output}
	l.Strangers = &Strangers{
		level: level, main: l.Logger, over: over, queue: queue,
		reasons: map[string]*strangerReason{},
	}
	l.Strangers.SetRate(c.UnauthenticatedPerSecond)
	return l
}

func newEncoder(format string) zapcore.Encoder {
	encoding := zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", MessageKey: "msg", NameKey: "logger",
		LineEnding:     zapcore.DefaultLineEnding,
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeTime:     encodeUTC,
		EncodeDuration: zapcore.StringDurationEncoder,
		EncodeName:     zapcore.FullNameEncoder,
	}
	if format == "console" {
		return zapcore.NewConsoleEncoder(encoding)
	}
	return zapcore.NewJSONEncoder(encoding)
}

func encodeUTC(t time.Time, e zapcore.PrimitiveArrayEncoder) {
	e.AppendString(t.UTC().Format(logTime))
}

const (
	linesLost = "log lines were lost: the log could not be written"
	linesLate = "the log could not be written for a while; no line was lost"
)

// outageLine makes the line that the log gets when it is written again.
func outageLine(encoder zapcore.Encoder) func(int, logOutage) []byte {
	return func(lost int, outage logOutage) []byte {
		entry := zapcore.Entry{Level: zap.ErrorLevel, Time: time.Now(), Message: linesLost}
		if lost == 0 {
			entry.Level, entry.Message = zap.WarnLevel, linesLate
		}
		fields := []zap.Field{zap.Error(outage.cause)}
		if !outage.since.IsZero() {
			fields = append(fields,
				zap.Time("since", outage.since), zap.Time("until", outage.until))
		}
		line, err := encoder.Clone().EncodeEntry(entry, append(fields, zap.Int("lines", lost)))
		if err != nil {
			return nil // numbers and texts: cannot fail
		}
		defer line.Free()
		return bytes.Clone(line.Bytes())
	}
}

// Flush ends the log. It writes the lines that wait and the counts of suppressed lines, for two
// seconds at most.
func (l *Log) Flush() {
	l.Strangers.summarize()
	l.queue.flush()
}

// Reopen opens the file again, after it was renamed (logrotate). After an error the log continues
// in the old file.
func (l *Log) Reopen() error {
	info, err := os.Stat(l.output)
	named := l.output != "stderr" && l.output != "stdout"
	if !named || err == nil && !info.Mode().IsRegular() {
		return nil // a device or a FIFO is not rotated, and opening it may wait
	}
	sink, err := openLog(l.output)
	if err == nil {
		err = l.queue.reopen(sink)
	}
	if err != nil {
		return fmt.Errorf("the log file was not opened again: %w", err)
	}
	return nil
}

// State returns the present state of the log.
func (l *Log) State() State {
	s := l.queue.State(time.Now())
	s.Output, s.Suppressed = l.output, l.Strangers.suppressedLines()
	return s
}

// Quiet returns a log for messages of net/http about failed handshakes and broken requests. They
// are debug lines that count as lines of strangers, because anyone can cause them.
func (l *Log) Quiet() *stdlog.Logger { return stdlog.New(quietWriter{l}, "", 0) }

// MaxQuietText is the longest message of Quiet, in bytes before escaping.
const MaxQuietText = 256

type quietWriter struct{ log *Log }

// Write implements io.Writer.
func (w quietWriter) Write(text []byte) (int, error) {
	if !w.log.Level.Enabled(zap.DebugLevel) {
		return len(text), nil
	}
	log := w.log.Strangers.Logger(connectionReason)
	if log != nil {
		shown := bytes.TrimSpace(text)
		log.Debug(string(shown[:min(len(shown), MaxQuietText)]))
	}
	return len(text), nil
}

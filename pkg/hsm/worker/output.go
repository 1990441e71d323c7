package worker

// What the process prints: a vendor's library may write to standard output or
// standard error, and Go prints there when it dies. It goes to the parent's log, bounded.

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	maxLine       = 1 << 10 // bytes; the rest of a line is dropped
	linesAtOnce   = 40      // lines of one pipe in one window; further ones are counted only
	linesWindow   = 10 * time.Second
	outputPatient = 100 * time.Millisecond // for what was printed last, if a child of the child holds the pipe
)

// output is the two pipes of a process.
type output struct {
	stdout, stderr pipe
	readers        sync.WaitGroup
	crash          crash // good when end has returned
}

type pipe struct {
	reader, writer *os.File
	levelOf        func(line string) zapcore.Level
	log            func(level zapcore.Level, line string)
}

// newOutput logs standard error at this level, but for a traceback.
func newOutput(log *zap.Logger, stderr zapcore.Level) (*output, error) {
	o := &output{}
	err := o.stdout.open(log, "the HSM's process printed")
	if err != nil {
		return nil, err
	}
	err = o.stderr.open(log, "the HSM's process reports")
	if err != nil {
		return nil, errors.Join(err, o.stdout.reader.Close(), o.stdout.writer.Close())
	}
	o.stdout.levelOf = func(string) zapcore.Level { return zapcore.DebugLevel }
	o.stderr.levelOf = func(line string) zapcore.Level {
		if o.crash.read(line) {
			return zapcore.DebugLevel
		}
		return stderr
	}
	return o, nil
}

func (p *pipe) open(log *zap.Logger, message string) error {
	reader, writer, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot make a pipe: %w", err)
	}
	p.reader, p.writer = reader, writer
	p.log = func(level zapcore.Level, line string) { log.Log(level, message, zap.String("line", line)) }
	return nil
}

// begin reads the pipes in the background. The child has its copies of the
// writing ends, or was not started at all.
func (o *output) begin() {
	for _, p := range []*pipe{&o.stdout, &o.stderr} {
		_ = p.writer.Close()
		o.readers.Go(func() { copyLines(p.reader, p.levelOf, p.log) })
	}
}

// end waits until what the child printed is in the log, and frees the pipes.
func (o *output) end() {
	for _, p := range []*pipe{&o.stdout, &o.stderr} {
		_ = p.reader.SetReadDeadline(time.Now().Add(outputPatient))
	}
	o.readers.Wait()
	_ = o.stdout.reader.Close()
	_ = o.stderr.reader.Close()
}

// copyLines logs line after line until the source ends. It never stops reading,
// whatever is printed: a full pipe would block the process. levelOf sees each line, also one that is not logged.
func copyLines(source io.Reader, levelOf func(string) zapcore.Level, log func(zapcore.Level, string)) {
	lines := bufio.NewReaderSize(source, maxLine)
	window, count := time.Now(), 0
	level := zapcore.DebugLevel // of the last line
	report := func() {
		if count > linesAtOnce {
			log(level, fmt.Sprintf("… and %d more lines", count-linesAtOnce))
		}
	}
	defer func() { report() }()
	for {
		line, err := lines.ReadSlice('\n')
		text := strings.TrimRight(string(line), "\r\n")
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		if time.Since(window) > linesWindow {
			report()
			window, count = time.Now(), 0
		}
		if text != "" {
			count++
			level = levelOf(text)
			if count <= linesAtOnce {
				log(level, text)
			}
		}
		if err != nil {
			return
		}
	}
}

package logging

// The file of the log. It gets whole lines only, even after a failed write.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// logFileMode lets a group read the log.
const logFileMode = 0o640

// logSink is a file, stderr or stdout. Its methods are for one goroutine.
type logSink struct {
	out  io.Writer
	file *os.File // out, if it was opened by its path; nil for stderr and stdout
	torn bool     // what was written last is only a part of a line
}

// openLog opens what log.output names.
func openLog(output string) (*logSink, error) {
	switch output {
	case "stderr":
		return &logSink{out: os.Stderr}, nil
	case "stdout":
		return &logSink{out: os.Stdout}, nil
	}
	file, err := os.OpenFile(output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, logFileMode)
	if err != nil {
		return nil, fmt.Errorf("cannot open the log (log.output): %w", err)
	}
	return &logSink{out: file, file: file, torn: endsTorn(output)}, nil
}

// endsTorn reports whether a file ends within a line, as after a crash or on a full disk. It
// returns false if the file cannot be read.
func endsTorn(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	var end [1]byte
	n, _ := file.ReadAt(end[:], info.Size()-1) // after an error n is 0
	return n == 1 && end[0] != '\n'
}

// write writes lines. After an error it returns those that are not in the file. If a line was
// written in part, the next write ends that part with a newline first.
func (s *logSink) write(lines []byte) ([]byte, error) {
	err := s.endTorn()
	if err != nil {
		return lines, err
	}
	n, err := s.out.Write(lines)
	if err == nil && n < len(lines) {
		err = io.ErrShortWrite
	}
	if err == nil {
		return nil, nil
	}
	whole := bytes.LastIndexByte(lines[:n], '\n') + 1
	s.torn = n > whole
	if s.torn && lines[n] == '\n' {
		whole = n + 1 // only its end is missing
	}
	return lines[whole:], err
}

func (s *logSink) endTorn() error {
	if !s.torn {
		return nil
	}
	_, err := s.out.Write([]byte{'\n'})
	if err == nil {
		s.torn = false
	}
	return err
}

// replace closes the file and continues in another one, also after an error.
func (s *logSink) replace(other *logSink) error {
	err := errors.Join(s.endTorn(), s.close())
	*s = *other
	return err
}

// close closes the file, but not stderr and stdout.
func (s *logSink) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

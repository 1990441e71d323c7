package worker

// The end of a process as Go's runtime prints it on standard error: one sentence is made of
// it, for whoever reads the log at night; the traceback is for a developer.

import (
	"regexp"
	"strings"
)

// crash reads the lines of a process's standard error. The zero value has seen none.
type crash struct {
	cause    string // "SIGSEGV", "panic: …", "fatal error: …"; "" if there was none
	inC      bool   // the signal came while the PKCS#11 module, or other C code, ran
	function string // the C function that Go had called, of the first goroutine that shows one
}

var (
	signalLine = regexp.MustCompile(`^(SIG[A-Z]+): `)
	goLine     = regexp.MustCompile(`^(panic|fatal error): `)
	calledLine = regexp.MustCompile(`\._Cfunc_(\w+)\(`)
)

const (
	inCLine  = "signal arrived during cgo execution"
	maxCause = 200 // bytes
)

// read takes the next line and reports whether it is part of a traceback. The line that begins
// one is not, unless nothing but Go's runtime prints it.
func (c *crash) read(line string) bool {
	if c.cause == "" {
		switch {
		case signalLine.MatchString(line):
			c.cause = signalLine.FindStringSubmatch(line)[1]
			return true
		case goLine.MatchString(line):
			c.cause = line[:min(len(line), maxCause)]
		}
		return false
	}
	if line == inCLine {
		c.inC = true
	}
	if called := calledLine.FindStringSubmatch(line); called != nil && c.function == "" {
		c.function = called[1]
	}
	return true
}

// String is "SIGSEGV in C code (gcm_run)", or "" without a crash.
func (c *crash) String() string {
	var s strings.Builder
	s.WriteString(c.cause)
	if c.inC {
		s.WriteString(" in C code")
		if c.function != "" {
			s.WriteString(" (" + c.function + ")")
		}
	}
	return s.String()
}

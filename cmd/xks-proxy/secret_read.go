package main

// Reading one secret from where its reference points. No error quotes what was
// read.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxSecretSize        = 4096 // bytes; a PIN or an access key has less than 100
	maxStderrShown       = 500  // bytes of what a failed command said
	secretCommandTimeout = 10 * time.Second
	credentialsVariable  = "CREDENTIALS_DIRECTORY" // systemd.exec(5)
)

// read returns the secret, without the line end it may finish with. Commands run
// in dir.
func (s secretRef) read(ctx context.Context, dir string) (secret, error) {
	var value []byte
	var err error
	switch {
	case s.File != "":
		value, err = readSecretFile(s.File)
	case s.Env != "":
		value, err = readSecretVariable(s.Env)
	case s.Credential != "":
		value, err = readSystemdCredential(s.Credential)
	case len(s.Command) > 0:
		value, err = runSecretCommand(ctx, dir, s.Command)
	default:
		err = errors.New("no place is given to read the secret from")
	}
	if err != nil {
		return secret{}, err
	}
	value, err = trimSecret(value)
	if err != nil {
		return secret{}, fmt.Errorf("%s %w", s, err)
	}
	return newSecret(string(value)), nil
}

// isZero says that no place is given.
func (s secretRef) isZero() bool {
	return s.File == "" && s.Env == "" && s.Credential == "" && len(s.Command) == 0
}

// String names the place.
func (s secretRef) String() string {
	switch {
	case s.File != "":
		return s.File
	case s.Env != "":
		return "environment variable " + s.Env
	case s.Credential != "":
		return "systemd credential " + s.Credential
	case len(s.Command) > 0:
		return "the output of " + s.Command[0]
	default:
		return "nothing"
	}
}

// trimSecret takes one newline off and refuses what is not meant as a secret. An editor that adds
// something would cost a try of the PIN, and HSMs lock after a few.
func trimSecret(value []byte) ([]byte, error) {
	value = bytes.TrimSuffix(value, []byte("\n"))
	first, _ := utf8.DecodeRune(value)
	last, _ := utf8.DecodeLastRune(value)
	switch {
	case len(value) == 0:
		return nil, errors.New("is empty")
	case len(value) > maxSecretSize:
		return nil, fmt.Errorf("holds more than %d bytes, which no secret has", maxSecretSize)
	case bytes.HasPrefix(value, []byte(utf8Mark)):
		return nil, errors.New("begins with a byte order mark, which would count as part of the secret; save it as UTF-8 without one")
	case bytes.HasPrefix(value, []byte(utf16LittleMark)), bytes.HasPrefix(value, []byte(utf16BigMark)):
		return nil, errors.New("is UTF-16; save it as plain text (UTF-8 without a byte order mark)")
	case bytes.HasSuffix(value, []byte("\r")):
		return nil, errors.New("ends with a carriage return (a Windows line end), which would count as part of the secret; save it with Unix line ends")
	case bytes.ContainsAny(value, "\n\r\x00"):
		return nil, errors.New("holds more than one line; only the secret may be in it")
	case !utf8.Valid(value):
		return nil, errors.New("is not UTF-8; save it as plain text")
	case unicode.IsSpace(first), unicode.IsSpace(last):
		return nil, errors.New("begins or ends with a blank, which would count as part of the secret; remove it")
	}
	return value, nil
}

// Byte order marks.
const (
	utf8Mark        = "\xEF\xBB\xBF"
	utf16LittleMark = "\xFF\xFE"
	utf16BigMark    = "\xFE\xFF"
)

func readSecretFile(path string) ([]byte, error) {
	f, err := openPrivate(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSecretSize+3)) // two more for a line end, one to see that it is too long
}

// openPrivate opens a regular file that nobody but its owner can change and nobody
// but owner and group can read. Not blocking, because a FIFO would.
func openPrivate(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fileProblem(path, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err == nil && info.Mode().Perm()&0o027 != 0 {
		err = fmt.Errorf("%s is open to others (mode %04o); run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// fileProblem says in plain words why a file cannot be opened.
func fileProblem(path string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s does not exist", path)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s cannot be read by user id %d", path, os.Geteuid())
	default:
		return err
	}
}

func readSystemdCredential(name string) ([]byte, error) {
	dir := os.Getenv(credentialsVariable)
	if dir == "" {
		return nil, fmt.Errorf("systemd gave this process no credentials ($%s is not set); add LoadCredential=%s:PATH to the unit", credentialsVariable, name)
	}
	return readSecretFile(filepath.Join(dir, name))
}

// runSecretCommand runs a program and returns what it printed. Its standard error
// is part of the error if it fails; its standard output, the secret, never is.
func runSecretCommand(ctx context.Context, dir string, command []string) ([]byte, error) {
	timed, cancel := context.WithTimeout(ctx, secretCommandTimeout)
	defer cancel()
	program := command[0]
	if strings.Contains(program, "/") {
		program = resolvePath(dir, program)
	}
	cmd := exec.CommandContext(timed, program, command[1:]...)
	stdout, stderr := &boundedBuffer{limit: maxSecretSize + 3, full: errTooMuch}, &boundedBuffer{limit: maxStderrShown}
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, stdout, stderr
	// A process group of its own, so that what the program started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if stdout.content.Len() == stdout.limit {
		return stdout.content.Bytes(), nil // too long for a secret, as the caller will say
	}
	if timed.Err() != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("%s did not end within %s", program, secretCommandTimeout)
	}
	if err != nil {
		return nil, fmt.Errorf("%s failed: %w%s", program, err, saidOn(stderr))
	}
	return stdout.content.Bytes(), nil
}

// saidOn is standard error as part of a sentence, on one line.
func saidOn(stderr *boundedBuffer) string {
	said := strings.TrimSpace(stderr.content.String())
	if said == "" {
		return ""
	}
	quoted := fmt.Sprintf("%q", said)
	return "; it said: " + quoted[1:len(quoted)-1]
}

// errTooMuch ends the output of a program.
var errTooMuch = errors.New("too much output")

// boundedBuffer keeps the first bytes. Further ones are dropped, or answered with
// full, which closes the pipe of the program that writes them.
type boundedBuffer struct {
	content bytes.Buffer
	limit   int
	full    error
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	kept := min(len(p), b.limit-b.content.Len())
	_, _ = b.content.Write(p[:kept]) // never fails
	if kept < len(p) && b.full != nil {
		return kept, b.full
	}
	return len(p), nil
}

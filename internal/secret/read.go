package secret

// Reads one secret from the place of its reference. No error quotes what was read.

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

	"xks-proxy/internal/guarded"
	"xks-proxy/internal/subprocess"
)

const (
	// MaxSize is the largest secret, in bytes. A PIN or an access key has less than 100.
	MaxSize = 4096
	// CredentialsVariable names the directory of systemd credentials (systemd.exec(5)).
	CredentialsVariable = "CREDENTIALS_DIRECTORY"

	secretCommandTimeout = 10 * time.Second
)

// trimSecret removes one newline at the end and refuses what is probably not meant as a secret. A
// character that an editor added would make the PIN wrong, and HSMs lock after a few wrong PINs.
func trimSecret(value []byte) ([]byte, error) {
	value = bytes.TrimSuffix(value, []byte("\n"))
	first, _ := utf8.DecodeRune(value)
	last, _ := utf8.DecodeLastRune(value)
	switch {
	case len(value) == 0:
		return nil, errors.New("is empty")
	case len(value) > MaxSize:
		return nil, fmt.Errorf("holds more than %d bytes, which no secret has", MaxSize)
	case bytes.HasPrefix(value, []byte(utf8Mark)):
		return nil, errors.New(
			"begins with a byte order mark, which would count as part of the secret; " +
				"save it as UTF-8 without one",
		)
	case bytes.HasPrefix(value, []byte(utf16LittleMark)),
		bytes.HasPrefix(value, []byte(utf16BigMark)):
		return nil, errors.New("is UTF-16; save it as plain text (UTF-8 without a byte order mark)")
	case bytes.HasSuffix(value, []byte("\r")):
		return nil, errors.New(
			"ends with a carriage return (a Windows line end), which would count as part of the " +
				"secret; save it with Unix line ends",
		)
	case bytes.ContainsAny(value, "\n\r\x00"):
		return nil, errors.New("holds more than one line; only the secret may be in it")
	case !utf8.Valid(value):
		return nil, errors.New("is not UTF-8; save it as plain text")
	case unicode.IsSpace(first), unicode.IsSpace(last):
		return nil, errors.New(
			"begins or ends with a blank, which would count as part of the secret; remove it",
		)
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
	f, err := guarded.OpenPrivate(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Two more bytes for a line end, and one to see that it is too long.
	return io.ReadAll(io.LimitReader(f, MaxSize+3))
}

func readSystemdCredential(name string) ([]byte, error) {
	dir := os.Getenv(CredentialsVariable)
	if dir == "" {
		return nil, fmt.Errorf(
			"systemd gave this process no credentials ($%s is not set); "+
				"add LoadCredential=%s:PATH to the unit",
			CredentialsVariable,
			name,
		)
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
		program = guarded.ResolvePath(dir, program)
	}
	cmd := exec.CommandContext(timed, program, command[1:]...)
	stdout, stderr := &subprocess.Beginning{
		Limit: MaxSize + 3,
		Full:  errTooMuch,
	}, &subprocess.Beginning{
		Limit: subprocess.MaxStderrShown,
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, stdout, stderr
	// A process group of its own, so that what the program started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if stdout.Content.Len() == stdout.Limit {
		return stdout.Content.Bytes(), nil // too long for a secret: trimSecret reports it
	}
	if timed.Err() != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("%s did not end within %s", program, secretCommandTimeout)
	}
	if err != nil {
		return nil, fmt.Errorf("%s failed: %w%s", program, err, saidOn(stderr))
	}
	return stdout.Content.Bytes(), nil
}

// saidOn is standard error as part of a sentence, on one line.
func saidOn(stderr *subprocess.Beginning) string {
	said := strings.TrimSpace(stderr.Content.String())
	if said == "" {
		return ""
	}
	quoted := fmt.Sprintf("%q", said)
	return "; it said: " + quoted[1:len(quoted)-1]
}

// errTooMuch ends the output of a program.
var errTooMuch = errors.New("too much output")

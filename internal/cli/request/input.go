package request

// What a request is about: bytes from a flag, a file, or standard input.

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/guarded"
	"xks-proxy/internal/xksclient"
)

// maxInputSize is far more than any proxy takes, so that its own limit answers.
const maxInputSize = 1 << 20 // bytes

// inputFlags are three ways to give bytes: --NAME TEXT, --NAME-file FILE, --NAME-base64 TEXT.
type inputFlags struct {
	name, text, file, encoded string
	command                   *cobra.Command
}

func (f *inputFlags) register(c *cobra.Command, name, what string) {
	f.name, f.command = name, c
	c.Flags().StringVar(&f.text, name, "", what+" as `text`")
	c.Flags().StringVar(&f.file, name+"-file", "", what+" from a `file`; - is standard input")
	c.Flags().StringVar(&f.encoded, name+"-base64", "", what+" in `Base64`")
	c.MarkFlagsMutuallyExclusive(name, name+"-file", name+"-base64")
}

// required is never nil: an empty text is a text.
func (f *inputFlags) required(stdin io.Reader) ([]byte, error) {
	value, err := f.optional(stdin)
	if err == nil && value == nil {
		return nil, command.UsageError(
			fmt.Errorf(
				"nothing to encrypt: give --%s TEXT, --%s-file FILE or --%s-base64 BASE64",
				f.name,
				f.name,
				f.name,
			),
		)
	}
	return value, err
}

// optional is nil if no flag was given.
func (f *inputFlags) optional(stdin io.Reader) ([]byte, error) {
	given := f.command.Flags().Changed
	switch {
	case given(f.name):
		return []byte(f.text), nil
	case given(f.name + "-file"):
		value, err := readInput(stdin, f.file)
		if err != nil {
			return nil, command.UsageError(fmt.Errorf("--%s-file: %w", f.name, err))
		}
		return xksclient.NotNil(value), nil
	case given(f.name + "-base64"):
		value, err := base64.StdEncoding.DecodeString(f.encoded)
		if err != nil {
			return nil, command.UsageError(
				fmt.Errorf("--%s-base64 is not standard Base64 with padding", f.name),
			)
		}
		return xksclient.NotNil(value), nil
	}
	return nil, nil
}

// readInput reads a file, or standard input for "-".
func readInput(stdin io.Reader, file string) ([]byte, error) {
	from := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, guarded.Problem(file, err)
		}
		defer f.Close()
		from = f
	}
	data, err := io.ReadAll(io.LimitReader(from, maxInputSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxInputSize {
		return nil, fmt.Errorf("it is longer than %d bytes, which no proxy takes", maxInputSize)
	}
	return data, nil
}

// readCiphertext reads the JSON that an encrypt answered.
func readCiphertext(stdin io.Reader, file string) (xksclient.EncryptAnswer, error) {
	if terminal, ok := stdin.(*os.File); ok && file == "-" && isTerminal(terminal) {
		return xksclient.EncryptAnswer{}, command.UsageError(
			errors.New(
				"nothing to decrypt: pipe the output of `request encrypt --json` in, or give --ciphertext-file",
			),
		)
	}
	data, err := readInput(stdin, file)
	if err != nil {
		return xksclient.EncryptAnswer{}, command.UsageError(
			fmt.Errorf("--ciphertext-file: %w", err),
		)
	}
	var sealed xksclient.EncryptAnswer
	var refused struct {
		ErrorName string `json:"errorName"`
	}
	err = errors.Join(json.Unmarshal(data, &sealed), json.Unmarshal(data, &refused))
	switch {
	case err == nil && refused.ErrorName != "":
		return xksclient.EncryptAnswer{}, command.UsageError(fmt.Errorf(
			"nothing to decrypt: the encrypt before was answered with %s", refused.ErrorName))
	case err != nil || sealed.IV == nil || sealed.Tag == nil:
		return xksclient.EncryptAnswer{}, command.UsageError(
			errors.New(
				"what was given to decrypt is not the JSON that `request encrypt --json` prints",
			),
		)
	}
	return sealed, nil
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

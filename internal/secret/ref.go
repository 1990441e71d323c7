package secret

// References to secrets.

import (
	"context"
	"errors"
	"fmt"
)

// Ref says where a secret is. Exactly one field is set. It is not a secret
// itself: it may be logged and shown.
type Ref struct {
	File       string   `mapstructure:"file" fill:"path" path:"true" doc:"File that holds it. Refused if others than owner and group can read it."`
	Env        string   `mapstructure:"env" doc:"Environment variable that holds it. It is taken out of the environment when it is read, so that no child process has it."`
	Credential string   `mapstructure:"credential" doc:"systemd credential of this name (LoadCredential=): a file in $CREDENTIALS_DIRECTORY."`
	Command    []string `mapstructure:"command" doc:"Program and arguments, run without a shell in the directory of the file that this stands in; its standard output is the secret."`
}

// Read returns the secret without a line end. Commands run in dir, for 10 seconds at most. No error
// quotes what was read.
func (s Ref) Read(ctx context.Context, dir string) (Secret, error) {
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
		return Secret{}, err
	}
	value, err = trimSecret(value)
	if err != nil {
		return Secret{}, fmt.Errorf("%s %w", s, err)
	}
	return New(string(value)), nil
}

// IsZero reports whether no place is given.
func (s Ref) IsZero() bool {
	return s.File == "" && s.Env == "" && s.Credential == "" && len(s.Command) == 0
}

// String names the place. It is not secret.
func (s Ref) String() string {
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

package fleet

// Making the proxy's own test key on an HSM: what the parent asks of the child process that loads
// the module, and what the child does. Both `hsm create-test-key` and serve ask. What the child
// needs, PIN included, comes over its standard input.

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"time"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/secret"
	"xks-proxy/internal/subprocess"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
)

const (
	testKeyTimeout = time.Minute // for each HSM
	testKeyVersion = 1

	testKeyAttempts = 10
	testKeyPause    = 500 * time.Millisecond // at most, before the second attempt; then more
	// TestKeyCommand is the hidden command below hsm that is the child.
	TestKeyCommand = "make-test-key"
)

// TestKeyOrder is the order to the child. The PIN in it prints as redacted.
type TestKeyOrder struct {
	Token pkcs11.Config `json:"token"`
	Label string        `json:"label"`
}

// CreateTestKey runs a child that makes the test key, confined like the process of that HSM, and
// returns the output of the child.
func CreateTestKey(
	ctx context.Context, dir string, confined *Confinement, pin secret.Secret, label string,
) (string, error) {
	h := confined.hsm
	token := TokenSettings(h, pin, KeyIdentity{})
	token.Sessions = 1
	err := token.Validate()
	if err != nil {
		return "", fmt.Errorf("HSM %s: %w", h.Name, err)
	}
	input, err := json.Marshal(TestKeyOrder{Token: token, Label: label})
	if err != nil {
		return "", fmt.Errorf("HSM %s: %w", h.Name, err)
	}
	defer clear(input)
	ctx, cancel := context.WithTimeout(ctx, testKeyTimeout)
	defer cancel()
	maker, err := confined.Confine(subprocess.Child{
		Arguments: []string{"hsm", TestKeyCommand}, Directory: dir,
		Environment: schema.ChildEnvironment(h.Environment...), Input: input,
	})
	if err != nil {
		return "", childError(h.Name, "", err)
	}
	said, complaint, err := maker.Run(ctx)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "", fmt.Errorf(
			"HSM %s: no answer within %v; the key may have been made: run this again",
			h.Name,
			testKeyTimeout,
		)
	case ctx.Err() != nil:
		return "", subprocess.ErrInterrupted
	case err != nil:
		return "", childError(h.Name, complaint, err)
	}
	return said, nil
}

// childError is what a child complained of. A refused PIN keeps its kind.
func childError(name, complaint string, err error) error {
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() == ExitPINRefused {
		return &hsm.Error{HSM: name, Op: "log in", Kind: hsm.ErrPINIncorrect, Detail: complaint}
	}
	return fmt.Errorf("HSM %s: %s", name, cmp.Or(complaint, err.Error()))
}

// ExitPINRefused is how a child says that the HSM compared the PIN and found it wrong.
const ExitPINRefused = 3

// CarryOut opens the token, makes the test key if it is missing, and says in words what it did.
func (o TestKeyOrder) CarryOut(ctx context.Context) (string, error) {
	token, err := pkcs11.Open(ctx, o.Token)
	if err != nil {
		return "", err
	}
	said, err := o.ensure(ctx, token)
	return said, errors.Join(err, token.Close(ctx))
}

// ensure makes the key unless the token has a good one. Several proxies that share an HSM may start
// at the same moment: those that are not alone with their key look again a random time later.
func (o TestKeyOrder) ensure(ctx context.Context, token *pkcs11.Token) (string, error) {
	for attempt := 1; ; attempt++ {
		said, err := o.ensureOnce(ctx, token)
		mayPass := errors.Is(err, hsm.ErrDuplicateKey) || errors.Is(err, errUnreadableTestKey)
		if !mayPass || attempt == testKeyAttempts {
			return said, err
		}
		select {
		case <-time.After(time.Duration(rand.Int64N(int64(testKeyPause) * int64(attempt)))):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// ensureOnce never makes a second version of a bad key: that is somebody's key.
func (o TestKeyOrder) ensureOnce(ctx context.Context, token *pkcs11.Token) (string, error) {
	found, err := token.Find(ctx, o.Label)
	if err != nil {
		return "", err
	}
	there, err := hasTestKey(o.Label, found)
	if there {
		return fmt.Sprintf("has the test key %q already", o.Label), nil
	}
	if err != nil {
		return "", err
	}
	err = token.CreateLoneKey(ctx, pkcs11.NewKey{
		Label: o.Label, Version: testKeyVersion, HasVersion: true,
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("made the test key %q, version %d: AES-256, generated on the HSM, "+
		"not extractable", o.Label, testKeyVersion), nil
}

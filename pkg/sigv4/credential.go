// This file has the form of a credential, generates new ones, and keeps secrets out of logs.

package sigv4

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Credential is one access key of a key store. It prints and marshals with its secret redacted.
type Credential struct {
	AccessKeyID     string // 20 to 30 characters of A-Z2-7
	SecretAccessKey string // 43 to 64 characters of A-Za-z0-9/+=
}

// Errors of Validate.
var (
	ErrAccessKeyID     = errors.New("access key id must be 20 to 30 characters of A-Z and 2-7")
	ErrSecretAccessKey = errors.New(
		"secret access key must be 43 to 64 characters of A-Z, a-z, 0-9, '/', '+' and '='",
	)
)

// Validate checks the form that AWS KMS requires (A6). Its error is ErrAccessKeyID or
// ErrSecretAccessKey, wrapped. It never quotes the secret, nor a malformed id, which may be the
// secret in the wrong field.
func (c Credential) Validate() error {
	if !IsAccessKeyID(c.AccessKeyID) {
		return fmt.Errorf("%w (this one has %d)", ErrAccessKeyID, len(c.AccessKeyID))
	}
	if !isSecretAccessKey(c.SecretAccessKey) {
		return fmt.Errorf(
			"access key id %s: %w (this one has %d)", c.AccessKeyID, ErrSecretAccessKey,
			len(c.SecretAccessKey),
		)
	}
	return nil
}

// GenerateCredential returns a new credential of the form of A6. The secret is 32 random bytes in
// Base64 without padding (43 characters). The id is 26 characters of Base32 with at least 128
// random bits, independent of the secret.
func GenerateCredential() (Credential, error) {
	secret := make([]byte, 32)
	_, err := rand.Read(secret)
	if err != nil {
		return Credential{}, fmt.Errorf("read random bytes for a secret access key: %w", err)
	}
	return Credential{
		AccessKeyID: rand.Text(), SecretAccessKey: base64.RawStdEncoding.EncodeToString(secret),
	}, nil
}

// String returns the access key id without the secret.
func (c Credential) String() string {
	id := "malformed"
	if IsAccessKeyID(c.AccessKeyID) {
		id = c.AccessKeyID
	}
	return "{" + id + " [redacted]}"
}

// Format implements fmt.Formatter: it writes String for every verb.
func (c Credential) Format(state fmt.State, _ rune) {
	fmt.Fprint(state, c.String())
}

// MarshalText implements encoding.TextMarshaler: it returns String, for JSON, YAML and structured
// logs.
func (c Credential) MarshalText() ([]byte, error) {
	return []byte(c.String()), nil
}

// IsAccessKeyID reports whether a text has the form of an access key id of AWS KMS: 20 to 30
// characters of A-Z and 2-7 (requirement A6).
func IsAccessKeyID(s string) bool {
	return len(s) >= 20 && len(s) <= 30 && consistsOf(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
}

func isSecretAccessKey(s string) bool {
	return len(s) >= 43 && len(s) <= 64 &&
		consistsOf(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/+=")
}

// consistsOf reports whether s has characters of an ASCII alphabet only.
func consistsOf(s, alphabet string) bool {
	for i := range len(s) {
		if strings.IndexByte(alphabet, s[i]) < 0 {
			return false
		}
	}
	return true
}

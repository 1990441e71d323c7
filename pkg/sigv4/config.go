// This file has the configuration of signatures and its check.

package sigv4

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// DefaultService is the service in the credential scope of every XKS request (A1).
const DefaultService = "kms-xks-proxy"

// MaxSkew is how far a request's timestamp may be from this host's clock, in either direction (A3).
// It is the only replay protection (A9), so a configuration may narrow it but not widen it.
const MaxSkew = 5 * time.Minute

// Config is what one key store accepts. It is valid if Validate returns nil.
type Config struct {
	Service     string        // in the credential scope; empty: DefaultService
	Regions     []string      // accepted regions in the credential scope; empty: any
	Credentials []Credential  // at least one; two while they rotate (A5)
	MaxSkew     time.Duration // 0: MaxSkew
}

// Errors of Config.Validate.
var (
	ErrNoCredential         = errors.New("no credential: a key store needs at least one")
	ErrDuplicateAccessKeyID = errors.New("the same access key id twice in one key store")
	ErrService              = errors.New("service must be 1 to 64 characters of a-z, 0-9 and '-'")
	ErrRegion               = errors.New("region must be 1 to 32 characters of a-z, 0-9 and '-'")
	ErrMaxSkew              = fmt.Errorf("clock skew must be between 0 and %s", MaxSkew)
)

// Validate returns the first fault: one of the errors above or of Credential.Validate, wrapped.
func (c Config) Validate() error {
	if c.Service != "" && !isService(c.Service) {
		return fmt.Errorf("%w: not %q", ErrService, excerpt(c.Service))
	}
	for _, region := range c.Regions {
		if !IsRegion(region) {
			return fmt.Errorf("%w: not %q", ErrRegion, excerpt(region))
		}
	}
	if c.MaxSkew < 0 || c.MaxSkew > MaxSkew {
		return fmt.Errorf("%w: not %s", ErrMaxSkew, c.MaxSkew)
	}
	if len(c.Credentials) == 0 {
		return ErrNoCredential
	}
	for i, credential := range c.Credentials {
		err := credential.Validate()
		if err != nil {
			return fmt.Errorf("credential %d: %w", i+1, err)
		}
		first := slices.IndexFunc(
			c.Credentials,
			func(other Credential) bool { return other.AccessKeyID == credential.AccessKeyID },
		)
		if first < i {
			return fmt.Errorf(
				"credentials %d and %d: %w: %s", first+1, i+1, ErrDuplicateAccessKeyID,
				credential.AccessKeyID,
			)
		}
	}
	return nil
}

func isService(s string) bool {
	return len(s) >= 1 && len(s) <= 64 && consistsOf(s, scopeCharacters)
}

// IsRegion reports whether a credential scope can name a region: 1 to 32 characters of a-z, 0-9
// and -.
func IsRegion(s string) bool {
	return len(s) >= 1 && len(s) <= 32 && consistsOf(s, scopeCharacters)
}

const scopeCharacters = "abcdefghijklmnopqrstuvwxyz0123456789-"

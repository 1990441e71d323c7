package xks

// Decrypt (requirements D1–D3).

import (
	"errors"
	"fmt"

	"xks-proxy/pkg/hsm"
)

// checkDecrypt checks the request alone, without its key.
func (x *exchange) checkDecrypt() error {
	f := x.fields
	for _, field := range [...]struct {
		name  string
		value []byte
	}{
		{"ciphertext", f.Ciphertext}, {"initializationVector", f.InitializationVector},
		{"authenticationTag", f.AuthenticationTag},
	} {
		if field.value == nil {
			return missing(field.name)
		}
	}
	if err := x.checkAlgorithm(); err != nil {
		return err
	}
	return x.checkSizes(f.Ciphertext)
}

func (x *exchange) decrypt() (response, error) {
	f := x.fields
	if err := x.findKey(); err != nil {
		return nil, err
	}
	if err := x.keyBlocked(); err != nil {
		return nil, err
	}
	if err := x.findVersion(); err != nil {
		return nil, err
	}
	if err := x.key.CheckDecrypt(x.version); err != nil {
		return nil, err
	}
	if err := checkLengths(f); err != nil {
		return nil, err
	}
	if err := x.checkBacklog(1); err != nil {
		return nil, err
	}
	plaintext, trace, err := x.store.group.Decrypt(
		x.ctx, x.keyRef(), frameAAD(f.AAD, f.CiphertextMetadata),
		hsm.Sealed{IV: f.InitializationVector, Ciphertext: f.Ciphertext, Tag: f.AuthenticationTag},
	)
	x.hsmCalls.add(trace)
	x.hsmCalls.servedBy = trace.HSM
	if errors.Is(err, hsm.ErrKeyNotFound) && x.keyExists() {
		return nil, badCiphertext(errors.New(err.Error())) // only its version is gone
	}
	if err != nil {
		return nil, err
	}
	x.plaintext = plaintext
	return &decryptResponse{plaintext: plaintext}, nil
}

// findVersion reads the key version from the ciphertext's metadata and checks that some HSM has it.
// A version on no HSM never made this ciphertext (requirement D2). A version that may be on an
// unreachable HSM gives another error (X7).
func (x *exchange) findVersion() error {
	if err := x.key.CheckDecryptAny(); err != nil {
		return err // the error is about the key's usage, not about the ciphertext
	}
	version, err := keyVersionOf(x.fields.CiphertextMetadata)
	if err != nil {
		return badCiphertext(err)
	}
	x.version, x.hasKey = version, true
	key, err := x.store.load.resolver.KeyWithVersion(x.ctx, x.keyRef())
	switch {
	case errors.Is(err, hsm.ErrKeyNotFound):
		return badCiphertext(errors.New(err.Error()))
	case err != nil:
		return err
	}
	x.key = key
	return nil
}

// checkLengths refuses lengths that no ciphertext of this proxy has (requirement D2).
func checkLengths(f *request) error {
	if n := len(f.InitializationVector); n != hsm.IVSize && n != hsm.LongIVSize {
		return badCiphertext(fmt.Errorf("an initialization vector of %d bytes", n))
	}
	if n := len(f.AuthenticationTag); n != hsm.TagSize {
		return badCiphertext(fmt.Errorf("an authentication tag of %d bytes", n))
	}
	return nil
}

func badCiphertext(cause error) error {
	return fmt.Errorf("%w: %w", hsm.ErrInvalidCiphertext, cause)
}

package xks

// Encrypt (requirements E1–E6).

import (
	"errors"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
)

const (
	algorithmGCM    = "AES_GCM"
	algorithmSHA256 = "SHA_256"
)

// checkEncrypt checks the request alone, without its key.
func (x *exchange) checkEncrypt() error {
	f := x.fields
	if f.Plaintext == nil {
		return missing("plaintext")
	}
	if err := x.checkAlgorithm(); err != nil {
		return err
	}
	if f.CDIVAlgorithm != nil && *f.CDIVAlgorithm != algorithmSHA256 {
		return failure(
			unsupported, "The ciphertextDataIntegrityValueAlgorithm is not supported.", nil,
		)
	}
	return x.checkSizes(f.Plaintext)
}

func (x *exchange) encrypt() (response, error) {
	if err := x.findKey(); err != nil {
		return nil, err
	}
	if err := x.keyBlocked(); err != nil {
		return nil, err
	}
	version, err := x.key.EncryptVersion()
	if err != nil {
		return nil, err
	}
	x.version, x.hasKey = version, true
	if x.fields.CDIVAlgorithm == nil {
		if err := x.checkBacklog(1); err != nil {
			return nil, err
		}
		return x.encryptOnce()
	}
	if err := x.key.CheckDecrypt(version); err != nil {
		return nil, err // requirement E5
	}
	if err := x.checkBacklog(2); err != nil {
		return nil, err
	}
	return x.encryptVerified()
}

// encryptOnce returns a new ciphertext.
func (x *exchange) encryptOnce() (response, error) {
	sealed, trace, err := x.store.group.Encrypt(
		x.ctx, x.keyRef(), x.framedAAD(), x.fields.Plaintext,
	)
	x.hsmCalls.add(trace)
	x.hsmCalls.servedBy = trace.HSM
	if err != nil {
		return nil, x.changedMeanwhile(err)
	}
	return x.sealedAnswer(sealed), nil
}

// encryptVerified returns a new ciphertext only after it was decrypted again (requirement E4). It
// computes the integrity value before that, over the bytes that are decrypted.
func (x *exchange) encryptVerified() (response, error) {
	answer, trace, err := group.EncryptVerified(
		x.ctx,
		x.store.group,
		x.keyRef(),
		x.framedAAD(),
		x.fields.Plaintext,
		group.Verification[*encryptResponse]{
			OnSame: x.store.verifyOnSame,
			Answer: func(sealed hsm.Sealed) *encryptResponse {
				a := x.sealedAnswer(sealed)
				a.cdiv = ciphertextDataIntegrityValue(
					x.fields.AAD, a.metadata, a.iv, a.ciphertext, a.tag,
				)
				return a
			},
		},
	)
	x.hsmCalls.add(trace.Trace)
	x.hsmCalls.servedBy, x.hsmCalls.verifiedBy = trace.HSM, trace.VerifiedBy
	switch {
	case errors.Is(err, group.ErrIntegrity):
		return nil, failure(internal, "The ciphertext could not be verified.", err)
	case err != nil:
		return nil, x.changedMeanwhile(err)
	}
	return answer, nil
}

func (x *exchange) sealedAnswer(sealed hsm.Sealed) *encryptResponse {
	return &encryptResponse{
		ciphertext: sealed.Ciphertext, metadata: ciphertextMetadata(x.version), iv: sealed.IV,
		tag: sealed.Tag,
	}
}

func (x *exchange) framedAAD() []byte {
	return frameAAD(x.fields.AAD, ciphertextMetadata(x.version))
}

// changedMeanwhile maps the error for a key whose version was just deleted (X7).
func (x *exchange) changedMeanwhile(err error) error {
	if errors.Is(err, hsm.ErrKeyNotFound) && x.keyExists() {
		return failure(internal, "The external key has changed.", err)
	}
	return err
}

func (x *exchange) keyRef() hsm.KeyRef {
	return hsm.KeyRef{Label: x.key.Label, Version: x.version}
}

// checkAlgorithm returns a ValidationException if the algorithm is absent, and an
// UnsupportedOperationException if it is another one (requirement E1).
func (x *exchange) checkAlgorithm() error {
	switch algorithm := x.fields.EncryptionAlgorithm; {
	case algorithm == nil:
		return missing("encryptionAlgorithm")
	case *algorithm != algorithmGCM:
		return failure(unsupported, "The encryptionAlgorithm is not supported.", nil)
	}
	return nil
}

// checkSizes returns an error if plaintext, ciphertext or AAD are too long (requirement U9).
func (x *exchange) checkSizes(data []byte) error {
	if len(data) > x.config.MaxData {
		return failure(
			unsupported, "The plaintext or ciphertext is larger than this proxy supports.", nil,
		)
	}
	if len(x.fields.AAD) > x.config.MaxAAD {
		return failure(
			unsupported, "The additionalAuthenticatedData is larger than this proxy supports.", nil,
		)
	}
	return nil
}

package xks

// Encrypt (requirements E1–E6).

import (
	"bytes"
	"errors"
	"fmt"

	"xks-proxy/pkg/hsm"
)

const (
	algorithmGCM    = "AES_GCM"
	algorithmSHA256 = "SHA_256"
)

// checkEncrypt is about the request alone; no key is looked at.
func (x *exchange) checkEncrypt() error {
	f := x.fields
	if f.Plaintext == nil {
		return missing("plaintext")
	}
	if err := x.checkAlgorithm(); err != nil {
		return err
	}
	if f.CDIVAlgorithm != nil && *f.CDIVAlgorithm != algorithmSHA256 {
		return failure(unsupported, "The ciphertextDataIntegrityValueAlgorithm is not supported.", nil)
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
		if err := x.waitInLine(1); err != nil {
			return nil, err
		}
		return orError(x.encryptOnce())
	}
	if err := x.key.CheckDecrypt(version); err != nil {
		return nil, err // requirement E5
	}
	if err := x.waitInLine(2); err != nil {
		return nil, err
	}
	return x.encryptVerified()
}

// encryptOnce makes one ciphertext, if possible apart from the HSMs named.
func (x *exchange) encryptOnce(apart ...string) (*encryptResponse, error) {
	metadata := ciphertextMetadata(x.version)
	sealed, trace, err := x.store.group.Encrypt(x.ctx, x.keyRef(), frameAAD(x.fields.AAD, metadata), x.fields.Plaintext, apart...)
	x.hsmCalls.add(trace)
	x.hsmCalls.servedBy = trace.HSM
	if errors.Is(err, hsm.ErrKeyNotFound) && x.keyExists() {
		return nil, failure(internal, "The external key has changed.", err) // its version was deleted just now (X7)
	}
	if err != nil {
		return nil, err
	}
	return &encryptResponse{ciphertext: sealed.Ciphertext, metadata: metadata, iv: sealed.IV, tag: sealed.Tag}, nil
}

// encryptVerified answers only what was seen to decrypt (requirement E4): the
// integrity value is computed first, then the very bytes of the answer are decrypted,
// by another HSM where there is an equal: so that two HSMs with different keys under one
// label are found out before data depends on it. When the two disagree they change places,
// which mends what one of them does wrongly in one direction. If they still disagree, each is
// asked to verify itself: one that cannot is broken, and the other's answer is good; if both can, their keys differ.
func (x *exchange) encryptVerified() (response, error) {
	answer, err := x.encryptAndVerify(nil, nil)
	if !errors.Is(err, errIntegrity) {
		return orError(answer, err)
	}
	calls := &x.hsmCalls
	one, other := calls.servedBy, calls.verifiedBy
	x.store.group.Probe(one)
	x.store.group.Probe(other)
	calls.faults = append(calls.faults, err) // the operator must hear of it, also when the next try is good
	answer, err = x.encryptAndVerify([]string{one}, nil)
	if !errors.Is(err, errIntegrity) {
		return orError(answer, err)
	}
	var sound []*encryptResponse
	for _, hsm := range []string{one, other} {
		others := x.store.group.Others(hsm)
		answer, err := x.encryptAndVerify(others, others)
		if err == nil && calls.servedBy == hsm && calls.verifiedBy == hsm {
			sound = append(sound, answer)
		}
	}
	if len(sound) == 1 && one != other {
		return sound[0], nil
	}
	x.store.group.Doubt(x.key.Label)
	return nil, failure(internal, "The ciphertext could not be verified.", errIntegrity)
}

func orError(answer *encryptResponse, err error) (response, error) {
	if err != nil {
		return nil, err // not a nil *encryptResponse
	}
	return answer, nil
}

// encryptAndVerify encrypts apart from some HSMs, and decrypts apart from others; if none
// are named, on another HSM than the one that encrypted, or on the same, as the key store says.
func (x *exchange) encryptAndVerify(encryptApart, verifyApart []string) (*encryptResponse, error) {
	answer, err := x.encryptOnce(encryptApart...)
	if err != nil {
		return nil, err
	}
	answer.cdiv = ciphertextDataIntegrityValue(x.fields.AAD, answer.metadata, answer.iv, answer.ciphertext, answer.tag)
	switch {
	case verifyApart != nil:
	case x.store.verifyOnSame:
		verifyApart = x.store.group.Others(x.hsmCalls.servedBy)
	default:
		verifyApart = []string{x.hsmCalls.servedBy}
	}
	err = x.verify(answer, verifyApart)
	if err != nil {
		return nil, err
	}
	return answer, nil
}

var errIntegrity = errors.New("a new ciphertext does not decrypt to its plaintext: an HSM computes wrongly, or two HSMs hold different keys under one label")

func (x *exchange) verify(answer *encryptResponse, apart []string) error {
	plaintext, trace, err := x.store.group.Verify(x.ctx, x.keyRef(), frameAAD(x.fields.AAD, answer.metadata),
		hsm.Sealed{IV: answer.iv, Ciphertext: answer.ciphertext, Tag: answer.tag}, apart...)
	defer clear(plaintext)
	x.hsmCalls.add(trace)
	x.hsmCalls.verifiedBy = trace.HSM
	switch {
	case errors.Is(err, hsm.ErrInvalidCiphertext):
		return fmt.Errorf("%w: %w", errIntegrity, errors.New(err.Error())) // its sentinel is about a caller's ciphertext
	case err != nil:
		return err
	case !bytes.Equal(plaintext, x.fields.Plaintext):
		return fmt.Errorf("%w (encrypted by %s, decrypted by %s)", errIntegrity, x.hsmCalls.servedBy, trace.HSM)
	}
	return nil
}

func (x *exchange) keyRef() hsm.KeyRef {
	return hsm.KeyRef{Label: x.key.Label, Version: x.version}
}

// checkAlgorithm is requirement E1: absent is a ValidationException, unknown is not.
func (x *exchange) checkAlgorithm() error {
	switch algorithm := x.fields.EncryptionAlgorithm; {
	case algorithm == nil:
		return missing("encryptionAlgorithm")
	case *algorithm != algorithmGCM:
		return failure(unsupported, "The encryptionAlgorithm is not supported.", nil)
	}
	return nil
}

// checkSizes is requirement U9.
func (x *exchange) checkSizes(data []byte) error {
	if len(data) > x.config.MaxData {
		return failure(unsupported, "The plaintext or ciphertext is larger than this proxy supports.", nil)
	}
	if len(x.fields.AAD) > x.config.MaxAAD {
		return failure(unsupported, "The additionalAuthenticatedData is larger than this proxy supports.", nil)
	}
	return nil
}

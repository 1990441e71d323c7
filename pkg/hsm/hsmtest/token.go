// Package hsmtest provides an HSM in memory for tests: a hsm.Token that really does AES-256-GCM,
// with a hook that can make it fail, wait or return wrong data.
package hsmtest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"

	"xks-proxy/pkg/hsm"
)

// Op names a method of hsm.Token to a Hook.
type Op string

// The operations that a Hook sees.
const (
	OpEncrypt Op = "encrypt"
	OpDecrypt Op = "decrypt"
	OpKeys    Op = "keys"
	OpFind    Op = "find"
)

// ErrFlipBit, returned by a Hook, makes Encrypt or Decrypt succeed with one flipped bit in the
// ciphertext or plaintext.
var ErrFlipBit = errors.New("hsmtest: flip a bit of the output")

// Hook runs before each operation and returns its error; nil lets the operation continue. It may
// block until ctx ends.
type Hook func(ctx context.Context, op Op, key hsm.KeyRef) error

// Token is an HSM in memory. Use New to create one. It is safe for concurrent use.
type Token struct {
	info hsm.Info

	mu     sync.Mutex
	hook   Hook
	keys   []key
	rule   hsm.VersionRule
	closed bool
	calls  map[Op]int
}

type key struct {
	object hsm.Object
	value  []byte
}

// New returns an empty, logged-in token.
func New(name string) *Token {
	return &Token{
		info: hsm.Info{
			Label:        name,
			Serial:       "mem-" + name,
			Manufacturer: "hsmtest",
			Model:        "memory",
			Sessions:     16,
		},
		calls: map[Op]int{},
	}
}

// SetHook sets the hook of all later operations. nil removes it.
func (t *Token) SetHook(h Hook) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hook = h
}

// ReadVersions sets the version rule, as the configuration of a real token does.
func (t *Token) ReadVersions(rule hsm.VersionRule) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rule = rule
}

// Calls returns how often an operation was started.
func (t *Token) Calls(op Op) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calls[op]
}

// AddKey adds an AES-256 key that may encrypt and decrypt. Its value depends only on label and
// version, so two tokens with the same key hold the same material.
func (t *Token) AddKey(label string, version uint32) {
	value := sha256.Sum256(append(hsm.VersionID(version), label...))
	t.AddObject(Object(label, version), value[:])
}

// Object returns the key object that AddKey adds, for tests that change it first.
func Object(label string, version uint32) hsm.Object {
	return hsm.Object{
		Label: label, ID: hsm.VersionID(version),
		Class: hsm.SecretKey, KeyType: "AES", Bits: hsm.KeySize * 8,
		Usage:     hsm.CanEncrypt | hsm.CanDecrypt,
		Sensitive: true, AlwaysSensitive: true, NeverExtractable: true, Local: true,
	}
}

// AddObject adds any key object. Only AES-256 keys need a value, of 32 bytes.
func (t *Token) AddObject(object hsm.Object, value []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys = append(t.keys, key{object, value})
}

// RemoveKey deletes all objects of the label.
func (t *Token) RemoveKey(label string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys = slices.DeleteFunc(t.keys, func(k key) bool { return k.object.Label == label })
}

// Encrypt implements hsm.Token.
func (t *Token) Encrypt(
	ctx context.Context,
	ref hsm.KeyRef,
	aad, plaintext []byte,
) (hsm.Sealed, error) {
	flip, err := t.begin(ctx, OpEncrypt, ref)
	if err != nil {
		return hsm.Sealed{}, err
	}
	aead, err := t.aead(OpEncrypt, ref, hsm.CanEncrypt, hsm.IVSize)
	if err != nil {
		return hsm.Sealed{}, err
	}
	iv := make([]byte, hsm.IVSize)
	rand.Read(iv) // never fails (crypto/rand)
	out := aead.Seal(nil, iv, plaintext, aad)
	if flip {
		out[0] ^= 1
	}
	n := len(plaintext)
	return hsm.Sealed{IV: iv, Ciphertext: out[:n:n], Tag: out[n:]}, nil
}

// Decrypt implements hsm.Token.
func (t *Token) Decrypt(
	ctx context.Context,
	ref hsm.KeyRef,
	aad []byte,
	sealed hsm.Sealed,
) ([]byte, error) {
	flip, err := t.begin(ctx, OpDecrypt, ref)
	if err != nil {
		return nil, err
	}
	plaintext, err := t.open(ref, aad, sealed)
	if err != nil {
		return nil, err
	}
	if flip && len(plaintext) > 0 {
		plaintext[0] ^= 1
	}
	return plaintext, nil
}

// open tries every object that may have made the ciphertext.
func (t *Token) open(ref hsm.KeyRef, aad []byte, sealed hsm.Sealed) ([]byte, error) {
	keys, err := t.readers(ref)
	for _, k := range keys {
		var aead cipher.AEAD
		aead, err = k.aead(OpDecrypt, hsm.CanDecrypt, len(sealed.IV))
		if err != nil {
			continue
		}
		var plaintext []byte
		plaintext, err = aead.Open(
			nil,
			sealed.IV,
			slices.Concat(sealed.Ciphertext, sealed.Tag),
			aad,
		)
		if err == nil {
			return plaintext, nil
		}
		err = &hsm.Error{Op: string(OpDecrypt), Kind: hsm.ErrInvalidCiphertext}
	}
	return nil, err
}

// readers returns the objects that may have made a ciphertext or, if none of them is AES-256, an
// object of the version.
func (t *Token) readers(ref hsm.KeyRef) ([]key, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var same, found []key
	var objects []hsm.Object
	for _, k := range t.keys {
		if k.object.Label == ref.Label {
			same, objects = append(same, k), append(objects, k.object.ReadBy(t.rule))
		}
	}
	for _, i := range hsm.TrialCandidates(objects, ref.Version) {
		found = append(found, same[i])
	}
	for i := range same {
		if len(found) == 0 && objects[i].Version() == ref.Version {
			return same[i : i+1], nil
		}
	}
	if len(found) == 0 {
		return nil, &hsm.Error{Op: string(OpDecrypt), Kind: hsm.ErrKeyNotFound}
	}
	return found, nil
}

// Keys implements hsm.Token.
func (t *Token) Keys(ctx context.Context) ([]hsm.Object, error) {
	return t.list(ctx, OpKeys, hsm.KeyRef{}, func(hsm.Object) bool { return true })
}

// Find implements hsm.Token.
func (t *Token) Find(ctx context.Context, label string) ([]hsm.Object, error) {
	return t.list(
		ctx,
		OpFind,
		hsm.KeyRef{Label: label},
		func(o hsm.Object) bool { return o.Label == label },
	)
}

// Info implements hsm.Token.
func (t *Token) Info() hsm.Info { return t.info }

// Close implements hsm.Token.
func (t *Token) Close(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	return nil
}

// begin counts the call and runs the hook. It reports whether to flip a bit.
func (t *Token) begin(ctx context.Context, op Op, ref hsm.KeyRef) (bool, error) {
	t.mu.Lock()
	t.calls[op]++
	hook, closed := t.hook, t.closed
	t.mu.Unlock()
	if closed {
		return false, &hsm.Error{Op: string(op), Kind: hsm.ErrUnavailable, Detail: "closed"}
	}
	if hook == nil {
		return false, nil
	}
	err := hook(ctx, op, ref)
	switch {
	case errors.Is(err, ErrFlipBit):
		return true, nil
	case err != nil && ctx.Err() != nil:
		return false, &hsm.Error{Op: string(op), Kind: hsm.Timeout(ctx.Err())}
	}
	return false, err
}

func (t *Token) list(
	ctx context.Context,
	op Op,
	ref hsm.KeyRef,
	want func(hsm.Object) bool,
) ([]hsm.Object, error) {
	if _, err := t.begin(ctx, op, ref); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var objects []hsm.Object
	for _, k := range t.keys {
		if want(k.object) {
			objects = append(objects, k.object)
		}
	}
	return objects, nil
}

func (t *Token) aead(op Op, ref hsm.KeyRef, need hsm.Usage, ivSize int) (cipher.AEAD, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []key
	for _, k := range t.keys {
		if k.object.Label == ref.Label && k.object.ReadBy(t.rule).Version() == ref.Version {
			found = append(found, k)
		}
	}
	switch {
	case len(found) == 0:
		return nil, &hsm.Error{Op: string(op), Kind: hsm.ErrKeyNotFound}
	case len(found) > 1:
		return nil, &hsm.Error{Op: string(op), Kind: hsm.ErrDuplicateKey}
	}
	return found[0].aead(op, need, ivSize)
}

func (k key) aead(op Op, need hsm.Usage, ivSize int) (cipher.AEAD, error) {
	if !k.object.IsAES256() || k.object.Usage&need == 0 {
		return nil, &hsm.Error{Op: string(op), Kind: hsm.ErrKeyUsage}
	}
	block, err := aes.NewCipher(k.value)
	if err != nil {
		return nil, &hsm.Error{Op: string(op), Kind: hsm.ErrUnavailable, Detail: err.Error()}
	}
	aead, err := cipher.NewGCMWithNonceSize(block, ivSize)
	if err != nil {
		return nil, &hsm.Error{Op: string(op), Kind: hsm.ErrInvalidCiphertext, Detail: err.Error()}
	}
	return aead, nil
}

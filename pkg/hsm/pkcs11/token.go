package pkcs11

// Token: the methods of hsm.Token.

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/singleflight"

	"xks-proxy/pkg/hsm"
)

// adminSessions serve listings and searches, beside the sessions that encrypt.
const adminSessions = 2

// Token is one HSM, logged in. It implements hsm.Token, with one difference that
// suits a process of its own: a call that is inside the module is waited for, also
// when its context ends. The context is watched before the call and wherever there
// is something to wait for; who starts the process watches the time.
type Token struct {
	config   Config
	profile  Profile
	module   *module
	slot     uint
	info     hsm.Info
	login    *login
	keys     table
	canary   canary
	doubt    doubt // of ambiguous answers
	evidence evidence
	flaky    doubt        // of faults: the test key failed
	helpers  atomic.Int64 // goroutines in help
	blames   blames
	samples  samples
	sizes    [2]sizeLimits // of encrypt, of decrypt
	finding  singleflight.Group
	listing  chan struct{} // one listing of the whole token at a time
	closed   atomic.Bool

	prepared chan struct{} // closed when the test key was looked for and the canary made

	work  *pool // encrypts and decrypts
	admin *pool // lists and searches
}

var _ hsm.Token = (*Token)(nil)

// Encrypt implements hsm.Token.
func (t *Token) Encrypt(ctx context.Context, key hsm.KeyRef, aad, plaintext []byte) (hsm.Sealed, error) {
	err := t.checkSizes("encrypt", aad, plaintext)
	if err != nil {
		return hsm.Sealed{}, err
	}
	op := operation{name: "encrypt", key: key, aad: aad, data: plaintext}
	err = t.do(ctx, &op, t.work)
	if err != nil {
		return hsm.Sealed{}, err
	}
	return op.sealed, nil
}

// Decrypt implements hsm.Token.
func (t *Token) Decrypt(ctx context.Context, key hsm.KeyRef, aad []byte, sealed hsm.Sealed) ([]byte, error) {
	err := t.checkSizes("decrypt", aad, sealed.Ciphertext)
	if err != nil {
		return nil, err
	}
	// Modules take odd lengths badly (some leave the operation active), so they
	// never see them.
	if len(sealed.Tag) != hsm.TagSize || len(sealed.IV) != hsm.IVSize && len(sealed.IV) != hsm.LongIVSize {
		return nil, &hsm.Error{Op: "decrypt", Kind: hsm.ErrInvalidCiphertext,
			Detail: fmt.Sprintf("the tag has %d bytes and the IV %d", len(sealed.Tag), len(sealed.IV))}
	}
	op := operation{name: "decrypt", decrypt: true, key: key, aad: aad, data: sealed.Ciphertext, iv: sealed.IV, tag: sealed.Tag}
	err = t.decrypt(ctx, &op)
	if err != nil {
		return nil, err
	}
	return op.plaintext, nil
}

func (t *Token) checkSizes(op string, aad, data []byte) error {
	if len(aad) > t.profile.MaxAAD {
		return &hsm.Error{Op: op, Kind: hsm.ErrTooLarge, Detail: fmt.Sprintf("%d bytes of AAD, the HSM takes %d", len(aad), t.profile.MaxAAD)}
	}
	if len(data) > t.profile.MaxData {
		return &hsm.Error{Op: op, Kind: hsm.ErrTooLarge, Detail: fmt.Sprintf("%d bytes of data, the HSM takes %d", len(data), t.profile.MaxData)}
	}
	return nil
}

// Keys implements hsm.Token. It also brings the handles of Encrypt and Decrypt up to date.
func (t *Token) Keys(ctx context.Context) ([]hsm.Object, error) {
	found, err := t.listAll(ctx)
	if err != nil {
		return nil, named("list keys", err)
	}
	return objects(found), nil
}

// listAll lists the token and replaces the key table.
func (t *Token) listAll(ctx context.Context) ([]listed, error) {
	select {
	case <-t.listing:
		defer func() { t.listing <- struct{}{} }()
	case <-ctx.Done():
		return nil, timeout("wait for another listing", ctx)
	}
	t.keys.begin()
	found, err := t.list(ctx, search{all: true})
	if err != nil {
		t.keys.end()
		return nil, err
	}
	t.keys.replaceAll(found)
	return found, nil
}

// Find implements hsm.Token. Callers that ask for one label at once share one search.
func (t *Token) Find(ctx context.Context, label string) ([]hsm.Object, error) {
	found, err := t.findOnce(ctx, label)
	if err != nil {
		return nil, named("find key", err)
	}
	return objects(found.all), nil
}

func objects(found []listed) []hsm.Object {
	result := make([]hsm.Object, len(found))
	for i, one := range found {
		result[i] = one.object
		result[i].ID = bytes.Clone(one.object.ID) // the table keeps its own
	}
	return result
}

// Info implements hsm.Token.
func (t *Token) Info() hsm.Info { return t.info }

// Alive asks the token, now, whether it is present and the login stands; it logs
// in again if it does not. An error is always a fault. Some modules never find back
// to a token that was away until C_Finalize: when Alive keeps failing, end the
// process and start anew.
func (t *Token) Alive(ctx context.Context) error {
	err := t.login.ensure(ctx)
	if err != nil {
		return named("check", err)
	}
	return nil
}

// Close implements hsm.Token. It waits for calls in flight, closes the sessions,
// the last of which logs out, and finalizes the module if no other token of
// this process uses it. If a call is still inside the module when ctx ends, Close
// returns ErrTimeout and leaves all as it is: only the end of the process helps then.
func (t *Token) Close(ctx context.Context) error {
	if t.closed.Swap(true) {
		return nil
	}
	idle := t.work.close(ctx)
	idle = t.admin.close(ctx) && idle
	idle = idle && t.login.close(ctx)
	t.module.release(idle)
	if !idle {
		return timeout("close", ctx)
	}
	return nil
}

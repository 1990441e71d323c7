package fleet

// The test key that serve makes: once for each process that comes without it, never beside a key
// that is there, and no failure of it is the HSM's.

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/pkg/hsm"
)

// keylessToken is a token as the maker sees it.
type keylessToken struct {
	mu          sync.Mutex
	objects     []hsm.Object
	err         error
	incarnation uint64
	changed     chan struct{}
	created     int
	refuse      error // of who makes the key
}

func (k *keylessToken) Find(context.Context, string) ([]hsm.Object, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.objects, k.err
}

func (k *keylessToken) Changed(context.Context) <-chan struct{} { return k.changed }

func (k *keylessToken) Incarnation() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.incarnation
}

func (k *keylessToken) create(context.Context) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.created++
	if k.refuse != nil {
		return "", k.refuse
	}
	k.objects = []hsm.Object{goodTestKey()}
	return "made", nil
}

// open is a new process for the token, with this on it.
func (k *keylessToken) open(err error, objects ...hsm.Object) {
	k.mu.Lock()
	k.incarnation++
	k.objects, k.err = objects, err
	k.mu.Unlock()
	k.changed <- struct{}{}
	synctest.Wait()
}

// set is what the HSM answers from now on, to a look and to who makes the key.
func (k *keylessToken) set(err, refuse error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.objects, k.err, k.refuse = nil, err, refuse
}

func goodTestKey() hsm.Object {
	return hsm.Object{
		Label:   "test",
		Class:   hsm.SecretKey,
		KeyType: "AES",
		Bits:    8 * hsm.KeySize,
		Usage:   hsm.CanEncrypt | hsm.CanDecrypt,
	}
}

func TestServeMakesTheTestKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, lines := observer.New(zap.InfoLevel)
		token := &keylessToken{changed: make(chan struct{}, 1)}
		maker := newTestKeyMaker("test", token, token.create, zap.New(core))
		defer maker.close()
		expect := func(what string, created int, made, failed int64, says string) {
			t.Helper()
			if token.created != created || maker.Made.Load() != made ||
				maker.Failed.Load() != failed {
				t.Errorf(
					"%s: asked for %d keys, %d made, %d failed",
					what,
					token.created,
					maker.Made.Load(),
					maker.Failed.Load(),
				)
			}
			said := lines.TakeAll()
			if (says == "") != (len(said) == 0) ||
				says != "" && !strings.Contains(said[0].Message, says) {
				t.Errorf("%s: logs %v", what, said)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		expect("before the token is open", 0, 0, 0, "")
		token.open(nil)
		expect("without the key", 1, 1, 0, "did not have the proxy's test key: made")
		token.open(nil, goodTestKey())
		expect("with the key", 1, 1, 0, "")
		token.open(nil)
		expect("another token without it", 2, 2, 0, "did not have")
		other := goodTestKey()
		other.Usage = hsm.CanDecrypt
		token.open(nil, other)
		expect("somebody's key of that label", 2, 2, 1, "cannot make")
		token.open(errors.New("busy"))
		expect("no answer", 2, 2, 1, "")
		token.set(nil, nil) // the next look has one
		time.Sleep(testKeyRetry + time.Second)
		synctest.Wait()
		expect("an answer in the end", 3, 3, 1, "did not have")
		token.set(nil, errors.New("C_OpenSession: CKR_TOKEN_WRITE_PROTECTED (0xE2)"))
		token.open(nil)
		expect("a read-only token", 4, 3, 2, "xks-proxy hsm create-test-key")
		time.Sleep(time.Hour)
		synctest.Wait()
		expect("an hour later", 4, 3, 2, "")
	})
}

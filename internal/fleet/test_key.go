package fleet

// The proxy's own test key, made by serve where it is missing (test_key.create). A child process
// makes it, as for `hsm create-test-key`: the process that serves never writes to its token, and a
// module that hangs while it makes a key holds nothing up.

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/worker"
)

const (
	testKeyFindTimeout = 10 * time.Second
	testKeyRetry       = 15 * time.Second // after an HSM did not say whether it has the key
)

// TestKeyMaker looks after the test key of one HSM: once for each process that opens its token.
type TestKeyMaker struct {
	label string
	token testKeyToken
	make  func(ctx context.Context) (string, error) // as CreateTestKey
	log   *zap.Logger

	Made, Failed atomic.Int64

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// testKeyToken is what the maker needs of a *worker.Worker.
type testKeyToken interface {
	Find(ctx context.Context, label string) ([]hsm.Object, error)
	Changed(ctx context.Context) <-chan struct{}
	Incarnation() uint64
}

// testKeyProcess is a worker with a maker that ends before it.
type testKeyProcess struct {
	*worker.Worker
	maker *TestKeyMaker
}

// TestKeyMakerOf is what makes the test key of an HSM; nil if nothing does.
func TestKeyMakerOf(p HSMProcess) *TestKeyMaker {
	running, ok := p.(*runningHSM)
	if !ok {
		return nil
	}
	process, ok := running.fleetProcess.(*testKeyProcess)
	if !ok {
		return nil
	}
	return process.maker
}

// Close implements hsm.Token.
func (p *testKeyProcess) Close(ctx context.Context) error {
	p.maker.close()
	return p.Worker.Close(ctx)
}

// makeTestKey is a fleetProcess that makes the test key of an HSM.
func makeTestKey(w *worker.Worker, spec hsmSpec, keeper *pinKeeper, log *zap.Logger) fleetProcess {
	maker := newTestKeyMaker(spec.keys.TestKey, w, func(ctx context.Context) (string, error) {
		pin := keeper.current()
		said, err := CreateTestKey(ctx, spec.dir, spec.confinement, pin, spec.keys.TestKey)
		if err != nil { // that the PIN was good the worker has noted
			keeper.refused.Note(spec.hsm, pin, err)
		}
		return said, err
	}, log)
	return &testKeyProcess{Worker: w, maker: maker}
}

func newTestKeyMaker(
	label string, token testKeyToken, create func(context.Context) (string, error), log *zap.Logger,
) *TestKeyMaker {
	ctx, cancel := context.WithCancel(context.Background())
	m := &TestKeyMaker{
		label:  label,
		token:  token,
		make:   create,
		log:    log.With(zap.String("test_key", label)),
		cancel: cancel,
	}
	changed := token.Changed(ctx)
	m.running.Go(func() { m.run(ctx, changed) })
	return m
}

// close waits until nothing is made any more.
func (m *TestKeyMaker) close() {
	m.cancel()
	m.running.Wait()
}

// run looks at each process that has opened the token, until one look says all.
func (m *TestKeyMaker) run(ctx context.Context, changed <-chan struct{}) {
	var done uint64 // the process that was looked at last
	for {
		incarnation := m.token.Incarnation()
		if incarnation != done && m.ensure(ctx) {
			done = incarnation
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(testKeyRetry):
		}
	}
}

// ensure reports whether no more is to be done for this process. A failure to make the key is final
// for it: what the HSM refuses once it would refuse again.
func (m *TestKeyMaker) ensure(ctx context.Context) bool {
	bounded, cancel := context.WithTimeout(ctx, testKeyFindTimeout)
	defer cancel()
	found, err := m.token.Find(bounded, m.label)
	if err != nil {
		return false // it is away, or does not say: the probes report that
	}
	there, err := hasTestKey(m.label, found)
	if there {
		return true
	}
	if errors.Is(err, errUnreadableTestKey) {
		return false // if it stays so, the probes report that
	}
	if err == nil {
		var said string
		said, err = m.make(ctx)
		if err == nil {
			m.Made.Add(1)
			m.log.Info("the HSM did not have the proxy's test key: " + said)
			return true
		}
	}
	if ctx.Err() != nil {
		return true
	}
	m.Failed.Add(1)
	m.log.Warn("cannot make the proxy's test key, so probes of this HSM encrypt nothing; "+
		"make it with an account that may: xks-proxy hsm create-test-key, or the HSM's own tools",
		zap.Error(err))
	return true
}

// errUnreadableTestKey may pass: another program that makes the test key at the same moment
// destroys its own again, and an object can vanish between being found and being read.
var errUnreadableTestKey = errors.New("an object of the test key cannot be read")

// hasTestKey reports whether a good test key is among the objects of its label. It returns an error
// if the token holds another object of that label, which may be a key of somebody else.
func hasTestKey(label string, found []hsm.Object) (bool, error) {
	for _, object := range found {
		if object.IsAES256() && object.Usage&hsm.CanEncrypt != 0 &&
			object.Usage&hsm.CanDecrypt != 0 {
			return true, nil
		}
	}
	_, unreadable := hsm.SplitUnreadable(found)
	if len(unreadable) > 0 {
		return false, fmt.Errorf(
			"%w: %w",
			errUnreadableTestKey,
			hsm.UnreadableError("find the test key", unreadable[0]),
		)
	}
	if len(found) > 0 {
		return false, fmt.Errorf(
			"there is a key %q that is not an AES-256 key for encrypting and decrypting; "+
				"delete it if it is nobody's, or choose another test_key",
			label,
		)
	}
	return false, nil
}

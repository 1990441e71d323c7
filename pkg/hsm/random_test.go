package hsm_test

// Random faults from a seed, and what must hold whatever they are: every
// acknowledged ciphertext decrypts on every HSM to its plaintext, and while one
// HSM is well no request fails (requirements R1, R2).

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/hsmtest"
)

// weather is what one HSM is doing to all who call it; it changes as time goes by.
type weather struct {
	mu     sync.Mutex
	rand   *rand.Rand
	spoilt float64 // part of the calls that go wrong
	kinds  []hsmtest.Hook
}

func (w *weather) hook(ctx context.Context, op hsmtest.Op, key hsm.KeyRef) error {
	w.mu.Lock()
	bad, i := w.rand.Float64() < w.spoilt, w.rand.IntN(len(w.kinds))
	kind := w.kinds[i]
	w.mu.Unlock()
	if !bad {
		return nil
	}
	return kind(ctx, op, key)
}

func (w *weather) set(spoilt float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spoilt = spoilt
}

var badWeather = []hsmtest.Hook{
	down, hang, slow(30 * time.Millisecond), slow(90 * time.Millisecond), slow(3 * time.Second),
	failWith(hsm.ErrBusy), failWith(hsm.ErrTimeout), failWith(hsm.ErrPINLocked), failWith(hsm.ErrTokenNotFound),
	failWithPlain(errors.New("an error without a kind")),
}

// acknowledged is one ciphertext that a caller was given.
type acknowledged struct {
	ref       hsm.KeyRef
	sealed    hsm.Sealed
	plaintext []byte
}

// caller makes requests as xks does, and keeps what it was given.
type caller struct {
	t       *testing.T
	g       *hsm.Group
	rand    *rand.Rand
	kept    []acknowledged
	failed  []error
	tooLate int
}

// within makes one request.
func (c *caller) within(budget time.Duration, request func(context.Context) error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), budget)
	defer cancel()
	began := time.Now()
	err := request(ctx)
	if err != nil {
		c.failed = append(c.failed, err)
	}
	if time.Since(began) > budget {
		c.tooLate++
	}
}

func (c *caller) encrypt(ctx context.Context) error {
	key, err := c.g.Key(ctx, "k")
	if err != nil {
		return err
	}
	version, err := key.EncryptVersion()
	if err != nil {
		return err
	}
	ref := hsm.KeyRef{Label: "k", Version: version}
	plaintext := make([]byte, c.rand.IntN(64))
	for i := range plaintext {
		plaintext[i] = byte(c.rand.Uint32())
	}
	sealed, _, err := c.g.Encrypt(ctx, ref, aad, plaintext)
	if err != nil {
		return err
	}
	c.kept = append(c.kept, acknowledged{ref, sealed, plaintext})
	return nil
}

func (c *caller) decrypt(ctx context.Context) error {
	if len(c.kept) == 0 {
		return nil
	}
	old := c.kept[c.rand.IntN(len(c.kept))]
	_, err := c.g.KeyWithVersion(ctx, old.ref)
	if err != nil {
		return err
	}
	got, _, err := c.g.Decrypt(ctx, old.ref, aad, old.sealed)
	if err == nil && !bytes.Equal(got, old.plaintext) {
		c.t.Errorf("an old ciphertext decrypts to something else")
	}
	return err
}

func TestRandomFaults(t *testing.T) {
	for _, mode := range []struct {
		name string
		both bool // whether both HSMs may be unwell at once
	}{{"one at a time", false}, {"any", true}} {
		for seed := range uint64(6) {
			t.Run(fmt.Sprintf("%s/seed %d", mode.name, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { randomFaults(t, seed, mode.both) })
			})
		}
	}
}

func randomFaults(t *testing.T, seed uint64, both bool) {
	random := rand.New(rand.NewPCG(seed, 1))
	tokens := newTokens(2)
	var skies []*weather
	for i, token := range tokens {
		w := &weather{rand: rand.New(rand.NewPCG(seed, uint64(2+i))), kinds: badWeather}
		skies = append(skies, w)
		token.SetHook(w.hook)
	}
	options := []option{rememberIn(t.TempDir())}
	if seed%2 == 0 {
		options = append(options, inOrder)
	}
	g := start(t, tokens, options...)

	stop := make(chan struct{})
	var running sync.WaitGroup
	callers := make([]*caller, 4)
	for i := range callers {
		c := &caller{t: t, g: g, rand: rand.New(rand.NewPCG(seed, uint64(100+i)))}
		callers[i] = c
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(c.rand.IntN(150)) * time.Millisecond):
					c.within(budget, c.encrypt)
					c.within(budget, c.decrypt)
				}
			}
		})
	}
	version := uint32(1)
	for range 10 {
		change(random, skies, both)
		if random.IntN(4) == 0 { // a rotation: first on one HSM, after a while on the other
			version++
			first := random.IntN(2)
			tokens[first].AddKey("k", version)
			time.Sleep(time.Duration(random.IntN(2000)) * time.Millisecond)
			tokens[1-first].AddKey("k", version)
		}
		time.Sleep(time.Duration(random.IntN(5000)) * time.Millisecond)
	}
	close(stop)
	running.Wait()
	g.Close()
	judge(t, callers, tokens, both)
}

// change gives both HSMs new weather. One at a time means with a pause in which
// both are well and a probe has come back.
func change(random *rand.Rand, skies []*weather, both bool) {
	one := random.IntN(2)
	if both {
		skies[one].set(random.Float64())
		return
	}
	skies[1-one].set(0)
	skies[one].set(0)
	time.Sleep(8 * time.Second)
	skies[one].set([]float64{0.05, 0.5, 1}[random.IntN(3)])
}

func judge(t *testing.T, callers []*caller, tokens []*hsmtest.Token, both bool) {
	total, failed := 0, 0
	for _, c := range callers {
		total += len(c.kept)
		failed += len(c.failed)
		if c.tooLate > 0 {
			t.Errorf("%d requests took longer than their budget", c.tooLate)
		}
		if !both && len(c.failed) > 0 {
			t.Errorf("%d requests failed that one HSM could have served; the first: %v", len(c.failed), c.failed[0])
		}
		for _, err := range c.failed {
			if errors.Is(err, hsm.ErrKeyNotFound) || errors.Is(err, hsm.ErrInvalidCiphertext) || errors.Is(err, hsm.ErrIncomplete) {
				t.Fatalf("an outage was blamed on the request: %v", err)
			}
		}
	}
	for _, token := range tokens {
		token.SetHook(nil)
		for _, c := range callers {
			for _, a := range c.kept {
				got, err := token.Decrypt(t.Context(), a.ref, aad, a.sealed)
				if err != nil || !bytes.Equal(got, a.plaintext) {
					t.Fatalf("on %s: version %d: %v", token.Info().Label, a.ref.Version, err)
				}
			}
		}
	}
	if total < 200 {
		t.Errorf("only %d ciphertexts were made", total)
	}
	t.Logf("%d acknowledged ciphertexts checked on both HSMs, %d requests failed", total, failed)
}

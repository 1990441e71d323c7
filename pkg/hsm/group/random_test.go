package group_test

// Random faults from a seed, and what must hold whatever they are: every acknowledged ciphertext
// decrypts on every HSM to its plaintext, and while one HSM is well and not drained no request
// fails (requirements R1, R2). Hedging, suspicion and an operator who drains are part of it.

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
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/group"
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
	down, hang, slow(15 * time.Millisecond), slow(30 * time.Millisecond), slow(90 * time.Millisecond), slow(3 * time.Second),
	failWith(
		hsm.ErrBusy,
	), failWith(hsm.ErrTimeout), failWith(hsm.ErrPINLocked), failWith(hsm.ErrTokenNotFound),
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
	g       *group.Group
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
		hsms int
		any  bool // whether all HSMs may be unwell at once
	}{{"one of two is well", 2, false}, {"one of three is well", 3, false}, {"any", 2, true}} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s/seed %d", mode.name, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { randomFaults(t, seed, mode.hsms, mode.any) })
			})
		}
	}
}

func randomFaults(t *testing.T, seed uint64, hsms int, any bool) {
	random := rand.New(rand.NewPCG(seed, 1))
	tokens := newTokens(hsms)
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
	if seed%3 == 0 {
		options = append(options, func(c *group.Config) { c.HedgePercent = 0 })
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
	for range 8 {
		well := change(t, random, g, skies, any)
		if random.IntN(2) == 0 {
			drainOne(t, random, g, hsms, well)
		}
		if random.IntN(4) == 0 { // a rotation: first on one HSM, after a while on the others
			version++
			for _, i := range random.Perm(hsms) {
				tokens[i].AddKey("k", version)
				time.Sleep(time.Duration(random.IntN(2000)) * time.Millisecond)
			}
		}
		time.Sleep(time.Duration(random.IntN(5000)) * time.Millisecond)
	}
	close(stop)
	running.Wait()
	g.Close()
	judge(t, callers, tokens, any)
}

// change gives the HSMs new weather, and says which one is well; if any may be
// unwell, that is of no importance. Otherwise there is a pause before, in which all are well and
// a probe has come back.
func change(t *testing.T, random *rand.Rand, g *group.Group, skies []*weather, any bool) int {
	well := random.IntN(len(skies))
	if any {
		skies[well].set(random.Float64())
		return well
	}
	for i, sky := range skies {
		sky.set(0)
		err := g.Resume(name(i))
		if err != nil {
			t.Error(err)
		}
	}
	time.Sleep(8 * time.Second)
	for i, sky := range skies {
		if i != well {
			sky.set([]float64{0.05, 0.5, 1}[random.IntN(3)])
		}
	}
	return well
}

// drainOne is an operator at work on an HSM that need not be well. The one that is well is refused
// or left alone.
func drainOne(t *testing.T, random *rand.Rand, g *group.Group, hsms, well int) {
	one := (well + 1 + random.IntN(hsms-1)) % hsms
	err := g.Drain(t.Context(), name(one), false)
	if err != nil && !errors.Is(err, group.ErrLastHSM) {
		t.Error(err)
	}
	if m := g.Status().Members[one]; err == nil && m.InFlight != 0 {
		t.Errorf("%d requests in flight on a drained HSM", m.InFlight)
	}
	time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
	if random.IntN(2) == 0 {
		err = g.Resume(name(one))
		if err != nil {
			t.Error(err)
		}
	}
}

func name(i int) string { return string(rune('a' + i)) }

func judge(t *testing.T, callers []*caller, tokens []*hsmtest.Token, any bool) {
	total, failed := 0, 0
	for _, c := range callers {
		total += len(c.kept)
		failed += len(c.failed)
		if c.tooLate > 0 {
			t.Errorf("%d requests took longer than their budget", c.tooLate)
		}
		if !any && len(c.failed) > 0 {
			t.Errorf(
				"%d requests failed that one HSM could have served; the first: %v",
				len(c.failed),
				c.failed[0],
			)
		}
		for _, err := range c.failed {
			if errors.Is(err, hsm.ErrKeyNotFound) || errors.Is(err, hsm.ErrInvalidCiphertext) ||
				errors.Is(err, catalogue.ErrIncomplete) {
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

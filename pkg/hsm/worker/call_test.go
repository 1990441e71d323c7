package worker

// Calls while the process is well: answers, errors and limits.

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/hsmtest"
)

var key1 = hsm.KeyRef{Label: "key", Version: 1}

// command is a label that the fake token takes as a command.
func command(c string) hsm.KeyRef { return hsm.KeyRef{Label: c} }

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// wantKind checks that err is an *hsm.Error of a kind, that it names the HSM,
// and returns it.
func wantKind(t testing.TB, err, kind error) *hsm.Error {
	t.Helper()
	var e *hsm.Error
	if !errors.Is(err, kind) || !errors.As(err, &e) {
		t.Fatalf("error is %v (%T), want an *hsm.Error of kind %q", err, err, kind)
	}
	if e.HSM != "hsm-a" {
		t.Fatalf("error %v names HSM %q", err, e.HSM)
	}
	return e
}

// Sizes of the issue, and the largest that the contract of hsm.Token allows.
func TestRoundTrip(t *testing.T) {
	w := readyWorker(t, testConfig(t, testSettings{}))
	other := hsmtest.New("other")
	other.AddKey("key", 1)
	for _, size := range []int{0, 1, 16, 4300, 8192, hsm.MaxDataSize} {
		for _, aadSize := range []int{0, 33, 8192, 65535, hsm.MaxAADSize} {
			plaintext, aad := bytes.Repeat([]byte{7}, size), bytes.Repeat([]byte{9}, aadSize)
			sealed, err := w.Encrypt(t.Context(), key1, aad, plaintext)
			if err != nil {
				t.Fatalf("encrypt %d bytes, AAD %d: %v", size, aadSize, err)
			}
			if len(sealed.IV) != hsm.IVSize || len(sealed.Tag) != hsm.TagSize || len(sealed.Ciphertext) != size {
				t.Fatalf("IV %d, tag %d, ciphertext %d bytes for %d", len(sealed.IV), len(sealed.Tag), len(sealed.Ciphertext), size)
			}
			for name, token := range map[string]hsm.Token{"worker": w, "another HSM": other} {
				got, err := token.Decrypt(t.Context(), key1, aad, sealed)
				if err != nil || !bytes.Equal(got, plaintext) {
					t.Fatalf("decrypt of %d bytes, AAD %d, by %s: %v", size, aadSize, name, err)
				}
			}
		}
	}
	if got := w.Info(); got.Label != "fake" || got.Serial != "mem-fake" {
		t.Errorf("Info is %+v", got)
	}
}

func TestErrorsCrossTheWire(t *testing.T) {
	w := readyWorker(t, testConfig(t, testSettings{}))
	ctx := within(t, 10*time.Second)

	sealed, err := w.Encrypt(ctx, key1, nil, []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	sealed.Tag[0] ^= 1
	plaintext, err := w.Decrypt(ctx, key1, nil, sealed)
	wantKind(t, err, hsm.ErrInvalidCiphertext)
	if plaintext != nil || hsm.IsFault(err) {
		t.Errorf("plaintext %v, fault %v", plaintext, hsm.IsFault(err))
	}
	_, err = w.Decrypt(ctx, key1, nil, hsm.Sealed{IV: make([]byte, 256), Tag: make([]byte, 16)})
	wantKind(t, err, hsm.ErrInvalidCiphertext)
	_, err = w.Encrypt(ctx, hsm.KeyRef{Label: "absent"}, nil, nil)
	wantKind(t, err, hsm.ErrKeyNotFound)
	_, err = w.Encrypt(ctx, key1, make([]byte, hsm.MaxAADSize+1), nil)
	wantKind(t, err, hsm.ErrTooLarge)
	_, err = w.Encrypt(ctx, key1, nil, make([]byte, hsm.MaxDataSize+1))
	wantKind(t, err, hsm.ErrTooLarge)

	_, err = w.Encrypt(ctx, command("ckr"), nil, nil)
	e := wantKind(t, err, hsm.ErrUnavailable)
	want := hsm.Error{HSM: "hsm-a", Op: "encrypt", Function: "C_Encrypt", Code: 0x80000004, Kind: hsm.ErrUnavailable, Detail: "as told"}
	if *e != want {
		t.Errorf("error is %+v, want %+v", *e, want)
	}
	_, err = w.Encrypt(ctx, command("bare"), nil, nil)
	e = wantKind(t, err, hsm.ErrUnavailable)
	if e.Op != "encrypt" || e.Detail != "no *hsm.Error" {
		t.Errorf("error is %+v", *e)
	}
	if s := w.State(); s.Restarts != 0 || s.Phase != Running {
		t.Errorf("state is %+v", s)
	}
}

func TestKinds(t *testing.T) {
	for _, kind := range kinds {
		err := newFailure("op", &hsm.Error{Op: "login", Function: "C_Login", Code: 3, Kind: kind, Detail: "d"}).err("hsm-a")
		wantKind(t, err, kind)
		if err.Op != "login" || err.Function != "C_Login" || err.Code != 3 || err.Detail != "d" {
			t.Errorf("%v came out as %+v", kind, err)
		}
	}
	if !errors.Is(newFailure("", hsm.Timeout(context.Canceled)).err(""), context.DeadlineExceeded) {
		t.Error("a timeout of the process does not say so")
	}
	if err := (failure{Kind: 999}).err("x"); err.Kind != hsm.ErrUnavailable {
		t.Errorf("an unknown kind came out as %v", err)
	}
}

func TestObjects(t *testing.T) {
	c := testConfig(t, testSettings{})
	c.PingTimeout = 20 * time.Second // the race detector makes megabytes of JSON slow
	w := readyWorker(t, c)
	ctx := within(t, time.Minute)
	keys, err := w.Keys(ctx)
	if err != nil || len(keys) != 2 || keys[1].Version() != 2 || keys[0].Spec() != "AES_256" {
		t.Fatalf("Keys: %+v, %v", keys, err)
	}
	none, err := w.Find(ctx, "absent")
	if err != nil || len(none) != 0 {
		t.Fatalf("Find of an absent key: %v, %v", none, err)
	}
	many, err := w.Find(ctx, "many:10000")
	if err != nil || len(many) != 10000 || many[9999].Label != "key-9999" {
		t.Fatalf("10,000 keys: %d, %v", len(many), err)
	}
	large, err := w.Find(ctx, "wide:2000") // 2.4 MB
	if err != nil || len(large) != 2000 || len(large[0].Label) != 1001 {
		t.Fatalf("2,000 keys with long labels: %d, %v", len(large), err)
	}
	_, err = w.Find(ctx, "wide:15000") // 18 MB
	e := wantKind(t, err, hsm.ErrUnavailable)
	if !strings.Contains(e.Detail, "the list of 15000 keys") {
		t.Errorf("error is %v", e)
	}
}

// A caller whose time is over leaves at once; the reply, when it comes, is dropped.
func TestCallerLeaves(t *testing.T) {
	w := readyWorker(t, testConfig(t, testSettings{}))
	begin := time.Now()
	_, err := w.Encrypt(within(t, 50*time.Millisecond), command("sleep:2s"), nil, nil)
	took := time.Since(begin)
	wantKind(t, err, hsm.ErrTimeout)
	if !errors.Is(err, context.DeadlineExceeded) || took > 1500*time.Millisecond {
		t.Fatalf("after %v: %v", took, err)
	}
	if n := w.State().InFlight; n != 1 {
		t.Errorf("%d in flight, want the abandoned call", n)
	}
	eventually(t, 20*time.Second, "the abandoned call is still in flight", func() bool { return w.State().InFlight == 0 })

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = w.Encrypt(ctx, key1, nil, nil)
	wantKind(t, err, hsm.ErrTimeout)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled call: %v", err)
	}
	if n := w.State().InFlight; n != 0 {
		t.Errorf("a call that was cancelled before it began is in flight")
	}
}

func TestBusy(t *testing.T) {
	c := testConfig(t, testSettings{Sessions: 1})
	c.MaxInFlight = 3
	w := readyWorker(t, c)
	var calls sync.WaitGroup
	for range 3 {
		calls.Go(func() {
			_, err := w.Encrypt(context.Background(), command("sleep:500ms"), nil, nil) // long enough for all three to come
			if err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, 5*time.Second, "three calls are not in flight", func() bool { return w.State().InFlight == 3 })
	_, err := w.Encrypt(t.Context(), key1, nil, nil)
	wantKind(t, err, hsm.ErrBusy)
	if n := w.State().InFlight; n == 0 {
		t.Error("ErrBusy came when nothing was in flight any more")
	}
	calls.Wait()
	_, err = w.Encrypt(t.Context(), key1, nil, nil)
	if err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Calls that nobody waits for any more do not cost the HSM anything: it catches
// up as soon as it can.
func TestLateCallsAreSkipped(t *testing.T) {
	w := readyWorker(t, testConfig(t, testSettings{Sessions: 1}))
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			_, err := w.Encrypt(ctx, command("sleep:300ms"), nil, nil)
			if !errors.Is(err, hsm.ErrTimeout) {
				t.Errorf("a late call: %v", err)
			}
		})
	}
	calls.Wait()
	begin := time.Now()
	_, err := w.Encrypt(t.Context(), key1, nil, nil)
	took := time.Since(begin)
	if err != nil || took > 4*time.Second { // 20 calls of 300 ms would be 6 s
		t.Fatalf("the next call took %v: %v", took, err)
	}
	t.Logf("20 late calls of 300 ms, and the next call took %v", took)
}

func TestManyCallers(t *testing.T) {
	w := readyWorker(t, testConfig(t, testSettings{Sessions: 8}))
	var calls sync.WaitGroup
	for i := range 32 {
		calls.Go(func() {
			plaintext := bytes.Repeat([]byte{byte(i)}, 100*i)
			for range 50 {
				sealed, err := w.Encrypt(context.Background(), key1, []byte{byte(i)}, plaintext)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := w.Decrypt(context.Background(), key1, []byte{byte(i)}, sealed)
				if err != nil || !bytes.Equal(got, plaintext) {
					t.Errorf("caller %d got another's answer: %v", i, err)
					return
				}
			}
		})
	}
	calls.Wait()
}

// eventually waits for a condition, with a bound.
func eventually(t testing.TB, bound time.Duration, otherwise string, condition func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !condition() {
		if time.Since(begin) > bound {
			t.Fatalf("after %v: %s", bound, otherwise)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(begin)
}

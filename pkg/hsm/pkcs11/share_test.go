package pkcs11

// A check that is shared by those who need it at once: in fake time, and as the canary under a flood.

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

// runNumber is a result that says of which run it is.
type runNumber int

func (runNumber) Error() string { return "a run" }

// Every caller gets the result of the first run that begins after it came, and runs come one after the other.
func TestSharedCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const runTime, callers, lasts = 10 * time.Millisecond, 1000, 95
		var mu sync.Mutex
		var began []time.Time
		c := newSharedCheck(func(context.Context) error {
			mu.Lock()
			began = append(began, time.Now())
			run := runNumber(len(began) - 1)
			mu.Unlock()
			time.Sleep(runTime)
			return run
		})
		var group sync.WaitGroup
		for i := range callers {
			group.Go(func() {
				time.Sleep(time.Duration(i%lasts) * time.Millisecond)
				came := time.Now()
				err := c.do(t.Context())
				took := time.Since(came)
				mu.Lock()
				defer mu.Unlock()
				var run runNumber
				if !errors.As(err, &run) || began[run].Before(came) || run > 0 && began[run-1].After(came) || took > 2*runTime {
					t.Errorf("came at %d ms: %v %d after %v", i%lasts, err, run, took)
				}
			})
		}
		group.Wait()
		for i := range began[1:] {
			if began[i+1].Sub(began[i]) < runTime {
				t.Error("two runs at once")
			}
		}
		if len(began) != 11 {
			t.Errorf("%d runs of %v for %d callers in %d ms", len(began), runTime, callers, lasts)
		}
	})
}

// The leader's end fails nobody; and a run that hangs holds its leader, the others for a bounded time.
func TestSharedCheckWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		c := newSharedCheck(func(ctx context.Context) error {
			<-release
			return ctx.Err()
		})
		ended, end := context.WithCancel(t.Context())
		end()
		start := time.Now()
		took := func(ctx context.Context) chan error {
			result := make(chan error, 1)
			go func() { result <- c.do(ctx) }()
			synctest.Wait()
			return result
		}
		leader := took(ended)
		second := took(ended) // leads the next run
		follower := took(t.Context())
		gone := took(ended)
		err := <-gone
		if !errors.Is(err, hsm.ErrTimeout) || time.Since(start) != 0 {
			t.Errorf("a follower whose time is up: %v after %v", err, time.Since(start))
		}
		for name, waiter := range map[string]chan error{"the next leader": second, "its follower": follower} {
			err := <-waiter
			if !errors.Is(err, hsm.ErrTimeout) || time.Since(start) != shareTimeout {
				t.Errorf("%s, behind a run that hangs: %v after %v", name, err, time.Since(start))
			}
		}
		select {
		case err := <-leader:
			t.Errorf("the leader came back from a call that hangs: %v", err)
		default:
		}
		close(release)
		<-leader
		err = c.do(ended)
		if err != nil {
			t.Errorf("a leader whose time is up: %v", err)
		}
	})
}

// flood asks for tampered and good decrypts, so many a second, whatever has become of those before, and
// says how many good ones there were and how many of them failed. They have less time than the tampered ones.
func flood(t *testing.T, v vendor, badRate, goodRate int, lasts time.Duration) (int, int) {
	t.Helper()
	aad := []byte("AAD")
	good := sealWithGo(t, v.value, 12, aad, bytes.Repeat([]byte("x"), 32))
	var mu sync.Mutex
	var group sync.WaitGroup
	var took []time.Duration
	failed, verdicts := 0, 0
	start := time.Now()
	each := func(rate int, patience time.Duration, do func(context.Context)) {
		for i := 0; time.Since(start) < lasts; i++ {
			time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(rate))))
			group.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				do(ctx)
			})
		}
	}
	group.Go(func() {
		each(badRate, time.Second, func(ctx context.Context) {
			_, err := v.Decrypt(ctx, ref("k", 0), []byte("wrong"), good)
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, hsm.ErrInvalidCiphertext) {
				verdicts++
			}
		})
	})
	group.Go(func() {
		each(goodRate, 250*time.Millisecond, func(ctx context.Context) {
			start := time.Now()
			_, err := v.Decrypt(ctx, ref("k", 0), aad, good)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(start))
			if err != nil {
				failed++
			}
		})
	})
	group.Wait()
	slices.Sort(took)
	t.Logf("%d verdicts on tampered; %d good, %d failed, p50 %v, p99 %v, max %v", verdicts, len(took), failed,
		took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	return len(took), failed
}

// Whoever may decrypt can ask for the wrong AAD as often as he likes. On an HSM whose answer to that
// is vague it must not starve the others.
func TestTamperedDoNotStarveGood(t *testing.T) {
	const sessions = 16
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(sessions + 2)) // as package worker does
	v := openVendor(t, func(c *Config) { c.Sessions = sessions })
	v.set(t, faulty.Rule{Function: "C_Decrypt", Action: faulty.Delay, Delay: 2 * time.Millisecond})
	before := v.Calls("C_Decrypt")
	good, failed := flood(t, v, 900, 50, 2*time.Second)
	if failed > 0 || good < 90 {
		t.Errorf("%d of %d good decrypts failed", failed, good)
	}
	t.Logf("%d calls of C_Decrypt", v.Calls("C_Decrypt")-before)
}

package pkcs11

// Evidence shared by proofs, and what a flood of tampered ciphertexts costs.

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

// A success counts for the proofs that were there when its call began, and for no other.
func TestEvidence(t *testing.T) {
	var e evidence
	var first, second proof
	early := e.now()
	e.join(&first)
	between := e.now()
	e.join(&second)
	late := e.now()
	for _, began := range []uint64{early, between, late} {
		e.good(began)
	}
	if first.goods.Load() != 2 || second.goods.Load() != 1 {
		t.Errorf("%d and %d", first.goods.Load(), second.goods.Load())
	}
	e.leave(&first)
	e.good(late)
	if first.goods.Load() != 2 || second.goods.Load() != 2 {
		t.Errorf("after the first left: %d and %d", first.goods.Load(), second.goods.Load())
	}
	e.leave(&second)
	if e.count.Load() != 0 || len(e.proofs) != 0 {
		t.Errorf("%d proofs are left", e.count.Load())
	}
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
			if errors.Is(err, hsm.ErrRefusedCiphertext) {
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
// is ambiguous it must not starve the others. A verdict takes 7 calls here, so that 500 a second take
// up 7 of the 16 sessions.
func TestTamperedDoNotStarveGood(t *testing.T) {
	const sessions = 16
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(sessions + 2)) // as package worker does
	v := openVendor(t, func(c *Config) { c.Sessions = sessions })
	v.set(t, faulty.Rule{Function: "C_Decrypt", Action: faulty.Delay, Delay: 2 * time.Millisecond})
	before := v.Calls("C_Decrypt")
	good, failed := flood(t, v, 500, 50, 2*time.Second)
	if failed > 0 || good < 90 {
		t.Errorf("%d of %d good decrypts failed", failed, good)
	}
	t.Logf("%d calls of C_Decrypt", v.Calls("C_Decrypt")-before)
}

// 32 tampered ciphertexts of 4 KiB at a time, on an HSM that takes 1 ms for each call: what one of
// them costs, and that a good decrypt beside them does not wait long.
func TestFloodCost(t *testing.T) {
	const sessions, callers, size, lasts = 8, 32, 4096, 2 * time.Second
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(sessions + 2)) // as package worker does
	v := openVendor(t, func(c *Config) { c.Sessions = sessions })
	aad := []byte("AAD")
	good := sealWithGo(t, v.value, 12, aad, make([]byte, size))
	for range sessions * 2 { // opens the sessions
		_, err := v.Decrypt(t.Context(), ref("k", 0), aad, good)
		if err != nil {
			t.Fatal(err)
		}
	}
	v.set(t, faulty.Rule{Function: "C_Decrypt", Action: faulty.Delay, Delay: time.Millisecond})
	calls, opened := v.Calls("C_Decrypt"), v.Calls("C_OpenSession")
	var refused, late, other atomic.Int64
	var goods []time.Duration
	var group sync.WaitGroup
	end := time.Now().Add(lasts)
	for range callers {
		group.Go(func() {
			for time.Now().Before(end) {
				_, err := v.Decrypt(t.Context(), ref("k", 0), []byte("wrong"), good)
				switch {
				case errors.Is(err, hsm.ErrRefusedCiphertext):
					refused.Add(1)
				case errors.Is(err, hsm.ErrUnprovenCiphertext):
					late.Add(1)
				default:
					other.Add(1)
				}
			}
		})
	}
	group.Go(func() {
		for time.Now().Before(end) {
			start := time.Now()
			_, err := v.Decrypt(t.Context(), ref("k", 0), aad, good)
			if err != nil {
				t.Error(err)
			}
			goods = append(goods, time.Since(start))
		}
	})
	group.Wait()
	slices.Sort(goods)
	each := float64(v.Calls("C_Decrypt")-calls-uint64(len(goods))) /
		float64(refused.Load()+late.Load())
	t.Logf("%d refused, %d without time; %.1f decrypts for each; good: %d, p50 %v, p99 %v",
		refused.Load(), late.Load(), each, len(goods), goods[len(goods)/2], goods[len(goods)*99/100])
	if other.Load() > 0 || late.Load() > refused.Load()/10 {
		t.Errorf("%d neither refused nor unproven, %d late", other.Load(), late.Load())
	}
	if each > 1+proofRepeats+5 {
		t.Errorf("%.1f decrypts for each tampered ciphertext", each)
	}
	if n := v.Calls("C_OpenSession") - opened; n > 0 {
		t.Errorf("%d sessions were opened", n)
	}
}

package pkcs11

// Many callers at once, and many bad requests: nothing crashes, mixes up or grows.

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
)

// Callers of all kinds on a few sessions: every answer is its own, and every IV is new.
func TestManyCallers(t *testing.T) {
	c, _ := newTestToken(t)
	c.Sessions = 4
	token := openTest(t, c)
	err := token.CreateKeys(t.Context(), []NewKey{{Label: "k"}, {Label: "canary-key"}, {Label: "k", Version: 1, HasVersion: true}})
	if err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(2 * time.Second)
	var mu sync.Mutex
	ivs := map[string]bool{}
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			for n := 0; time.Now().Before(end) && !t.Failed(); n++ {
				version := uint32(n % 2)
				plain := []byte(strings.Repeat(strconv.Itoa(i)+"/"+strconv.Itoa(n)+" ", 1+n%20))
				aad := plain[:len(plain)/2]
				sealed, err := token.Encrypt(t.Context(), ref("k", version), aad, plain)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				used := ivs[string(sealed.IV)]
				ivs[string(sealed.IV)] = true
				mu.Unlock()
				if used {
					t.Errorf("IV %x was used twice", sealed.IV)
				}
				got, err := token.Decrypt(t.Context(), ref("k", version), aad, sealed)
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("decrypt: %q for %q, %v", got, plain, err)
				}
				_, err = token.Decrypt(t.Context(), ref("k", 1-version), aad, sealed)
				// On a busy machine there may be no time for a proof.
				if !errors.Is(err, hsm.ErrRefusedCiphertext) && !errors.Is(err, hsm.ErrUnprovenCiphertext) {
					t.Errorf("decrypt with the other version: %v", err)
				}
				if n%50 == 0 {
					_, err := token.Encrypt(t.Context(), ref("missing", 0), nil, nil)
					if !errors.Is(err, hsm.ErrKeyNotFound) {
						t.Errorf("missing key: %v", err)
					}
				}
				if n%100 == 0 {
					keys, err := token.Keys(t.Context())
					if err != nil || len(keys) != 3 {
						t.Errorf("keys: %v, %v", keys, err)
					}
				}
			}
		})
	}
	group.Wait()
	t.Logf("%d encryptions", len(ivs))
}

// The login is lost and sessions are closed over and over while callers are at work:
// calls may fail as a fault of the HSM, never as a verdict on the request.
func TestManyCallersWhileTheHSMForgetsUs(t *testing.T) {
	c, _ := newTestToken(t)
	c.Sessions = 4
	token := openTest(t, c)
	err := token.CreateKeys(t.Context(), []NewKey{{Label: "k"}, {Label: "canary-key"}})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := token.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(time.Second)
	var group sync.WaitGroup
	var mu sync.Mutex
	outcomes := map[string]int{}
	for range 4 {
		group.Go(func() {
			for time.Now().Before(end) {
				_, err := token.Decrypt(t.Context(), ref("k", 0), nil, sealed)
				outcome := "ok"
				if err != nil {
					outcome = "fault"
				}
				mu.Lock()
				outcomes[outcome]++
				mu.Unlock()
				if err != nil && !hsm.IsFault(err) {
					t.Errorf("a verdict on a good request: %v", err)
				}
			}
		})
	}
	for time.Now().Before(end) {
		time.Sleep(20 * time.Millisecond)
		_ = token.login.take(t.Context())
		_ = token.module.ctx.Logout(token.login.anchor)
		token.login.give()
	}
	group.Wait()
	t.Logf("%v", outcomes)
	if outcomes["ok"] < 100 {
		t.Errorf("hardly anything succeeded: %v", outcomes)
	}
	_, err = token.Decrypt(t.Context(), ref("k", 0), nil, sealed)
	if err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Tampered input costs no session and no memory, at any rate (requirement D2).
func TestFailedDecryptsLeakNothing(t *testing.T) {
	c, _ := newTestToken(t)
	c.Sessions = 2
	token := openTest(t, c)
	err := token.CreateKeys(t.Context(), []NewKey{{Label: "k"}, {Label: "canary-key"}})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := token.Encrypt(t.Context(), ref("k", 0), nil, make([]byte, 4096))
	if err != nil {
		t.Fatal(err)
	}
	sealed.Tag[0] ^= 1
	late := 0 // no time for a proof, because the machine stood still
	fail := func(times int) {
		for range times {
			_, err := token.Decrypt(t.Context(), ref("k", 0), nil, sealed)
			if errors.Is(err, hsm.ErrUnprovenCiphertext) && token.doubt.isClean() && late < 50 {
				late++
				continue
			}
			if !errors.Is(err, hsm.ErrRefusedCiphertext) {
				t.Fatal(err)
			}
		}
	}
	// A leak shows every time, and one of the output buffer grows by 10 MB; what the garbage collector and the race
	// detector set aside is less, and seldom five times in a row.
	least := math.MaxInt
	for range 5 {
		before := residentKB(t)
		fail(500)
		least = min(least, residentKB(t)-before)
	}
	t.Logf("grown by %d KB at least", least)
	if least > 4096 {
		t.Errorf("500 failed decrypts of 4 KB, each made 5 times, grew the process by %d KB, again and again", least)
	}
}

// Sessions that are dropped over and over give their memory back.
func TestDroppedSessionsLeakNothing(t *testing.T) {
	c, _ := newTestToken(t)
	c.Sessions = 1
	token := openTest(t, c)
	err := token.CreateKeys(t.Context(), []NewKey{{Label: "k"}})
	if err != nil {
		t.Fatal(err)
	}
	big := make([]byte, hsm.MaxDataSize)
	drop := func(times int) {
		for range times {
			_, err := token.Encrypt(t.Context(), ref("k", 0), nil, big)
			if err != nil {
				t.Fatal(err)
			}
			s, err := token.work.get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			token.work.drop(s)
		}
	}
	drop(100)
	before := residentKB(t)
	drop(500)
	grown := residentKB(t) - before
	t.Logf("grown by %d KB", grown)
	if grown > 16*1024 {
		t.Errorf("500 dropped sessions grew the process by %d KB", grown)
	}
}

// residentKB does not count garbage.
func residentKB(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize() / 1024
}

// A flood of requests for keys that do not exist shares what it can and leaves no
// goroutine behind.
func TestMissesShareOneSearch(t *testing.T) {
	token := openWith(t, NewKey{Label: "k"})
	var group sync.WaitGroup
	for range 200 {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := token.Encrypt(ctx, ref("missing", 0), nil, nil)
			if !errors.Is(err, hsm.ErrKeyNotFound) {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

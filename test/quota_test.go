package test

// Quotas and blocked key stores of the real program (issue of tenants; requirements R3, X5).

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestQuota: a key store that asks for several times its quota gets exactly its quota; another gets what it asks for.
func TestQuota(t *testing.T) {
	const rate, burst, lasting = 50, 20, 4 * time.Second
	p := newTestWorld(t, newKey("other-1", 1)).start(t, func(s *settings) {
		s.KeyStores[0]["quota"] = object{"requests_per_second": rate, "burst": burst}
	})
	noisy := p.client(t, http1)
	quiet := p.client(t, http1).at(otherPrefix).as(p.world.Other)
	noisy.post(t, healthURI, healthBody()).wantOK(t, &object{})

	var mu sync.Mutex
	statuses := map[int]int{}
	var refused *reply
	start := time.Now()
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for time.Since(start) < lasting {
				r, err := noisy.do(context.Background(), noisy.call(metadataURI("key-1"), encode(keyMetadataBody())))
				if err != nil {
					t.Errorf("no reply: %v", err)
					return
				}
				mu.Lock()
				statuses[r.status]++
				if r.status == http.StatusTooManyRequests {
					refused = r
				}
				mu.Unlock()
				time.Sleep(4 * time.Millisecond)
			}
		})
	}
	for time.Since(start) < lasting-500*time.Millisecond { // while the other asks for too much
		quiet.encrypt(t, "other-1", encryptBody([]byte("quiet"), nil))
		noisy.post(t, healthURI, healthBody()).wantOK(t, &object{}) // H3
		time.Sleep(20 * time.Millisecond)
	}
	running.Wait()
	took := time.Since(start)

	served, throttled := statuses[http.StatusOK], statuses[http.StatusTooManyRequests]
	t.Logf("in %v: %v", took, statuses)
	if served+throttled < 2*rate*int(lasting/time.Second) || len(statuses) != 2 {
		t.Fatalf("too few requests, or other answers: %v", statuses)
	}
	if most := burst + int(took.Seconds()*rate) + 1; served > most {
		t.Errorf("%d were served in %v, of a quota of %d", served, took, most)
	}
	if least := rate * int(lasting/time.Second) * 9 / 10; served < least {
		t.Errorf("%d were served, not even %d", served, least)
	}
	refused.wantError(t, http.StatusTooManyRequests, "ThrottlingException")
	if line := refused.line(); !strings.Contains(line, `"throttled":"key store rate"`) {
		t.Errorf("the log does not name the quota: %s", line)
	}
	time.Sleep(100 * time.Millisecond) // several tokens
	noisy.post(t, metadataURI("key-1"), keyMetadataBody()).wantOK(t, &object{})
}

// TestKeyQuota: one key that is asked for too often leaves the other keys of its key store theirs.
func TestKeyQuota(t *testing.T) {
	p := newTestWorld(t, newKey("key-2", 1)).start(t, func(s *settings) {
		s.KeyStores[0]["quota"] = object{"key_requests_per_second": 1, "key_burst": 5}
	})
	c := p.client(t, http1)
	var refused *reply
	for range 20 {
		r := c.post(t, metadataURI("key-1"), keyMetadataBody())
		if r.status == http.StatusTooManyRequests {
			refused = r
		}
	}
	if refused == nil {
		t.Fatal("nothing was refused")
	}
	refused.wantError(t, http.StatusTooManyRequests, "ThrottlingException")
	if line := refused.line(); !strings.Contains(line, `"throttled":"key rate"`) {
		t.Errorf("the log does not name the quota: %s", line)
	}
	for range 5 {
		c.post(t, metadataURI("key-2"), keyMetadataBody()).wantOK(t, &object{})
	}
}

// TestBlockedByConfiguration: every API of the key store, and the log says who blocked it.
func TestBlockedByConfiguration(t *testing.T) {
	p := sharedProxy(t)
	c := p.client(t, http1).at(blockedPrefix)
	for uri, body := range map[string]object{
		healthURI: healthBody(), metadataURI("key-1"): keyMetadataBody(), encryptURI("key-1"): encryptBody([]byte("x"), nil),
	} {
		k := c.call(uri, encode(body))
		p.world.blocked(k)
		r, err := c.do(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		r.wantError(t, http.StatusBadRequest, "InvalidStateException")
		if line := r.line(); !strings.Contains(line, "by the configuration") {
			t.Errorf("%s: the log does not say who blocked it: %s", uri, line)
		}
	}
}

// TestHosts: a key store with hosts is there under its own names only (requirement U5).
func TestHosts(t *testing.T) {
	p := newProxy(t, func(s *settings) { s.KeyStores[0]["hosts"] = []string{"kms.example.com"} })
	c := p.client(t, http1)
	c.post(t, healthURI, healthBody()).wantError(t, http.StatusNotFound, "InvalidUriPathException")
	called := c.call(healthURI, encode(healthBody()))
	called.host = "KMS.example.com:443"
	r, err := c.do(t.Context(), called)
	if err != nil {
		t.Fatal(err)
	}
	r.wantOK(t, &object{})
}

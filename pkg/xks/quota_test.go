package xks

// Quotas: exactly the share that was configured, and which limit a refusal met.

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/hsm/group"
)

// settableClock is a clock that a test moves.
type settableClock struct{ now atomic.Int64 }

func (c *settableClock) read() int64 { return c.now.Load() }

// TestBucket: over any time it lets through the burst and the rate, whatever the pattern of the
// requests.
func TestBucket(t *testing.T) {
	for _, c := range []struct{ rate, burst int }{{1, 0}, {1, 5}, {3, 1}, {50, 0}, {50, 200}, {1800, 100}, {1_000_000, 0}} {
		l := newRateLimit(c.rate, c.burst)
		burst := c.burst
		if burst == 0 {
			burst = c.rate
		}
		var b bucket
		var clock settableClock
		random := rand.New(rand.NewPCG(1, uint64(c.rate)))
		allowed := 0
		for range 200_000 { // four times the rate, on average
			clock.now.Add(random.Int64N(l.interval/2 + 1))
			if b.allow(l, clock.read) {
				allowed++
			}
		}
		want := float64(burst) + float64(clock.now.Load())/float64(l.interval)
		if float64(allowed) > want+1 ||
			float64(allowed) < min(
				want*7/10, 200_000,
			) { // a token comes between two requests, and the bucket may be full
			t.Errorf("%+v: %d in %v, not %.0f", c, allowed, time.Duration(clock.now.Load()), want)
		}
	}
}

// TestBucketTogether: requests at the same time do not share a token.
func TestBucketTogether(t *testing.T) {
	l := newRateLimit(10, 500)
	var b bucket
	var clock settableClock
	var allowed atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				if b.allow(l, clock.read) {
					allowed.Add(1)
				}
			}
		})
	}
	all.Wait()
	if allowed.Load() != 500 {
		t.Errorf("%d of a burst of 500", allowed.Load())
	}
}

// TestBucketFits: a limit that changes applies to what was used up before, and nobody waits for an
// old one.
func TestBucketFits(t *testing.T) {
	slow, quick := newRateLimit(1, 1000), newRateLimit(100, 10)
	var b bucket
	var clock settableClock
	for range 1000 {
		b.allow(slow, clock.read)
	}
	b.clamp(quick, clock.read())
	if b.allow(quick, clock.read) {
		t.Error("an empty bucket gave a token")
	}
	clock.now.Add(quick.interval)
	if !b.allow(quick, clock.read) || b.allow(quick, clock.read) {
		t.Error("it does not fill at the new rate")
	}
	if none := (rateLimit{}); !b.allow(none, clock.read) {
		t.Error("no limit is a limit")
	}
}

// TestKeyBuckets: each key has its own, and those that are full take no memory forever.
func TestKeyBuckets(t *testing.T) {
	l := newRateLimit(10, 2)
	var k keyBuckets
	var clock settableClock
	for i := range 10_000 {
		label := fmt.Sprint("key-", i)
		allowed := 0
		for range 5 {
			if k.allow(l, label, clock.read) {
				allowed++
			}
		}
		if allowed != 2 {
			t.Fatalf("%s has a burst of %d, not 2", label, allowed)
		}
		clock.now.Add(l.interval)
		if len(k.full) > 2*minSweep {
			t.Fatalf("%d buckets", len(k.full))
		}
	}
}

func TestStoreRate(t *testing.T) {
	r := newRig(t, withOther, withQuota(Quota{Rate: 1, Burst: 3}))
	start := time.Now()
	served := 0
	for range 20 {
		p := encryptGood(r)
		if p.status == http.StatusOK {
			served++
			continue
		}
		r.wantThrottled(p, overStoreRate)
		r.health().wantOK(t) // H3
		r.otherEncrypt().wantOK(t)
	}
	if most := 3 + int(time.Since(start).Seconds()) + 1; served < 3 || served > most {
		t.Errorf("%d were served, not 3 to %d", served, most)
	}
	// An unauthenticated request uses up nothing and reveals nothing.
	r.send(keyURI(goodKey, "encrypt"), "", func(q *http.Request) { q.Header.Del("Authorization") }).
		want(t, authenticationFailed)
}

func TestStoreInFlight(t *testing.T) {
	r := newRig(t, withOther, withQuota(Quota{MaxInFlight: 2}))
	entered, release := r.holdEncrypts()
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() { encryptGood(r).wantOK(t) })
		<-entered
	}
	r.wantThrottled(r.metadata(goodKey), overStoreInFlight)
	r.health().wantOK(t)
	all.Go(func() { r.otherEncrypt().wantOK(t) })
	<-entered
	close(release)
	all.Wait()
	encryptGood(r).wantOK(t)
}

// TestKeyRate: only keys that exist have a rate, and only what the policies let through counts.
func TestKeyRate(t *testing.T) {
	r := newRig(
		t, withPolicies(t, notMallory, authz.ModeEnforce),
		withQuota(Quota{KeyRate: 1, KeyBurst: 2}),
	)
	for range 10 {
		r.encrypt(goodKey, encryptFields(nil).withMetadata("awsPrincipalArn", mallory)).
			want(t, accessDenied)
		r.metadata("no-such-key").want(t, keyNotFound)
	}
	before := time.Now()
	encryptGood(r).wantOK(t)
	encryptGood(r).wantOK(t)
	p := encryptGood(r)
	if time.Since(before) < 900*time.Millisecond { // or the bucket may have filled again
		r.wantThrottled(p, overKeyRate)
	}
	r.encrypt("wraps-too", encryptFields(nil)).wantOK(t)
	if n := len(r.handler.state.Load().keyStores[0].usage.keys.full); n != 2 {
		t.Errorf("%d buckets for two keys", n)
	}
}

// TestQuotaSurvivesReload: what was used up stays used up, and a new limit is in use at once.
func TestQuotaSurvivesReload(t *testing.T) {
	r := newRig(t, withQuota(Quota{Rate: 1, Burst: 2}))
	encryptGood(r).wantOK(t)
	encryptGood(r).wantOK(t)
	before := time.Now()
	if err := r.handler.Replace(r.config); err != nil {
		t.Fatal(err)
	}
	p := encryptGood(r)
	if time.Since(before) < 900*time.Millisecond {
		r.wantThrottled(p, overStoreRate)
	}
	r.config.KeyStores[0].Quota = Quota{}
	if err := r.handler.Replace(r.config); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		encryptGood(r).wantOK(t)
	}
}

func TestQuotaValidate(t *testing.T) {
	for _, q := range []Quota{{Rate: -1}, {Burst: -1}, {KeyRate: -1}, {KeyBurst: -1}, {MaxInFlight: -1}, {Rate: MaxQuota + 1}, {KeyBurst: MaxQuota + 1}} {
		store := KeyStoreConfig{
			Name: "s", Group: new(group.Group), Labels: []string{"*"},
			Credentials: otherCredentials, Quota: q,
		}
		if store.validate() == nil {
			t.Errorf("%+v was taken", q)
		}
	}
	for _, host := range []string{"", "https://a.example", "a.example:443", "a b", "ä.example", "a.example/x"} {
		store := KeyStoreConfig{
			Name: "s", Group: new(group.Group), Labels: []string{"*"},
			Credentials: otherCredentials, Hosts: []string{host},
		}
		if store.validate() == nil {
			t.Errorf("host %q was taken", host)
		}
	}
}

// TestKeyBucketsFit: a key that used up much under an old limit waits for the new one only, however
// often it is asked for.
func TestKeyBucketsFit(t *testing.T) {
	slow, quick := newRateLimit(1, 1000), newRateLimit(100, 10)
	var k keyBuckets
	var clock settableClock
	for range 1000 {
		k.allow(slow, "key", clock.read)
	}
	if k.allow(quick, "key", clock.read) {
		t.Error("an empty bucket gave a token")
	}
	clock.now.Add(quick.interval)
	if !k.allow(quick, "key", clock.read) || k.allow(quick, "key", clock.read) {
		t.Error("it does not fill at the new rate")
	}
}

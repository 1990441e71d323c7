package xks

// Shedding (requirement R3): beyond its limits the proxy says ThrottlingException at once; the
// health of the fleet is not shed with the rest (H3).

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

func TestMaxInFlight(t *testing.T) {
	r := newRig(t, func(c *Config, _ *group.Config) { c.MaxInFlight = 4 })
	entered, release := make(chan struct{}, 100), make(chan struct{})
	r.setHooks(func(_ context.Context, op hsmtest.Op, ref hsm.KeyRef) error {
		if op == hsmtest.OpEncrypt && ref.Label == goodKey {
			entered <- struct{}{}
			<-release
		}
		return nil
	})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { encryptGood(r).wantOK(t) })
	}
	for range 4 {
		<-entered
	}
	for range 20 {
		encryptGood(r).want(t, throttling)
		r.metadata(goodKey).want(t, throttling)
		r.decrypt(goodKey, fields{}).want(t, throttling)
		r.health().wantOK(t)
	}
	// An unauthenticated request reveals nothing of the load and adds nothing to it.
	r.send(keyURI(goodKey, "encrypt"), "", func(q *http.Request) { q.Header.Del("Authorization") }).
		want(t, authenticationFailed)
	close(release)
	all.Wait()
	encryptGood(r).wantOK(t)
}

// held is a body that shows some bytes and then waits.
type held struct {
	first   io.Reader
	reading chan<- struct{}
	release <-chan struct{}
}

func (h *held) Read(b []byte) (int, error) {
	if n, err := h.first.Read(b); err == nil {
		return n, nil
	}
	h.reading <- struct{}{}
	<-h.release
	return 0, io.EOF
}

func TestMaxBodies(t *testing.T) {
	const most = 1 << 20
	r := newRig(t, func(c *Config, _ *group.Config) { c.MaxBodies = most })
	for _, size := range []int{1, 5000, 120_000} {
		reading, release := make(chan struct{}, 1000), make(chan struct{})
		var all sync.WaitGroup
		var shed, holding int
		for range most/(4<<10) + 20 {
			done := make(chan reply, 1)
			body := &held{
				first: strings.NewReader(strings.Repeat(" ", size)), reading: reading,
				release: release,
			}
			all.Go(func() {
				q := httptest.NewRequest(http.MethodPost, prefixURI+"/health", body)
				done <- r.serve(q)
			})
			select {
			case p := <-done:
				p.want(t, throttling)
				shed++
			case <-reading:
				holding++
			}
			if n := r.handler.bodies.Load(); n > most {
				t.Fatalf("%d bytes of bodies", n)
			}
		}
		if shed == 0 || holding == 0 || holding*size > most {
			t.Errorf("bodies of %d: %d held, %d shed", size, holding, shed)
		}
		close(release)
		all.Wait()
		if n := r.handler.bodies.Load(); n != 0 {
			t.Errorf("%d bytes of bodies after all", n)
		}
		r.health().wantOK(t)
	}
}

// R3: a flood of unknown ids is shed and bothers the HSMs little.
func TestFloodOfUnknownKeys(t *testing.T) {
	r := newRig(t)
	before := r.a.Calls(hsmtest.OpFind)
	start := time.Now()
	throttled := 0
	for i := range 500 {
		p := r.metadata("unknown-" + strings.Repeat("x", i%100) + string(rune('a'+i/100)))
		switch p.errorName(t) {
		case keyNotFound:
		case throttling:
			throttled++
		default:
			t.Fatalf("%s", p.body)
		}
	}
	finds := r.a.Calls(hsmtest.OpFind) - before
	if throttled == 0 || float64(finds) > 30+25*time.Since(start).Seconds() {
		t.Errorf("%d shed, %d looks", throttled, finds)
	}
	r.metadata(goodKey).wantOK(t)
}

// R3: one key store that asks for unknown keys without end does not use up the looks of another.
func TestFloodOfUnknownKeysOfOneKeyStore(t *testing.T) {
	r := newRig(t, withOther)
	for i := range 60 {
		if p := r.metadata("unknown-" + itoa(i)); p.errorName(t) == throttling {
			r.wantThrottled(p, overLookups)
		}
	}
	for i := range 5 {
		p := r.sendAs(
			otherCredential, otherURI+"/keys/mine-"+itoa(i)+"/metadata", metadataOnly("CreateKey"),
		)
		p.want(t, keyNotFound)
	}
}

package xks

// Counts: every request once, in the right place (contract of stats.go).

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"xks-proxy/pkg/authz"
)

func TestCounts(t *testing.T) {
	r := newRig(t, withPolicies(t, notMallory, authz.ModeEnforce), withOther)
	began := time.Now().Add(-time.Second)
	if s := r.status("store-one"); len(seen(s.Requests)) != 0 || !s.LastRequest.IsZero() ||
		!s.Credentials[0].LastUsed.IsZero() {
		t.Errorf("before any request: %+v", s)
	}
	sealed := encryptGood(r).decryptFields()
	r.decrypt(goodKey, sealed).wantOK(t)
	r.decrypt(goodKey, sealed.with("authenticationTag", b64(make([]byte, 16)))).
		want(t, invalidCiphertext)
	r.metadata(goodKey).wantOK(t)
	r.metadata("no-such-key").want(t, keyNotFound)
	r.health().wantOK(t)
	r.encrypt(goodKey, encryptFields(nil).withMetadata("awsPrincipalArn", mallory)).
		want(t, accessDenied)
	for range 3 {
		r.send(keyURI(goodKey, "encrypt"), "", func(q *http.Request) { q.Header.Del("Authorization") }).
			want(t, authenticationFailed)
	}
	r.send("/nowhere", "").want(t, invalidURIPath)
	r.send(prefixURI+"/health", "", func(q *http.Request) { q.Method = http.MethodGet }).
		want(t, unsupported)

	want := []RequestCount{
		{"GetKeyMetadata", "ok", 1}, {"GetKeyMetadata", "KeyNotFoundException", 1},
		{
			"Encrypt", "ok", 1,
		}, {"Encrypt", "AuthenticationFailedException", 3}, {"Encrypt", "AccessDeniedException", 1},
		{
			"Decrypt", "ok", 1,
		}, {"Decrypt", "InvalidCiphertextException", 1}, {"GetHealthStatus", "ok", 1},
	}
	s := r.status("store-one")
	if got := seen(s.Requests); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if s.PolicyDenials != 1 || s.PolicyShadowDenials != 0 ||
		s.LastRequest.Before(began.Truncate(time.Second)) ||
		s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
	if s.URIPath != prefixURI || s.Group != "pair" || s.Owner != "agency-payroll" || s.Blocked {
		t.Errorf("%+v", s)
	}
	if len(s.Credentials) != 1 || s.Credentials[0].AccessKeyID != testCredential.AccessKeyID ||
		s.Credentials[0].LastUsed.IsZero() {
		t.Errorf("%+v", s.Credentials)
	}
	if other := r.status("store-two"); len(seen(other.Requests)) != 0 ||
		!other.LastRequest.IsZero() {
		t.Errorf("the other key store: %+v", other)
	}
	all := r.handler.Status()
	if !slices.Equal(
		all.Refused,
		[]RequestCount{
			{"", "InvalidUriPathException", 1}, {"", "UnsupportedOperationException", 1},
		},
	) ||
		all.InFlight != 0 {
		t.Errorf("%+v", all)
	}
	counts := map[string]uint64{
		"GetKeyMetadata": 2, "Encrypt": 2, "Decrypt": 2, "GetHealthStatus": 1,
	} // those that somebody signed for
	for _, o := range all.Operations {
		if o.Count != counts[o.Operation] || o.Sum <= 0 || len(o.Buckets) != len(latencyBounds) ||
			o.Buckets[len(o.Buckets)-1].Count > o.Count {
			t.Errorf("%+v", o)
		}
	}
	if len(all.Operations) != operationCount {
		t.Errorf("%d operations", len(all.Operations))
	}
}

// seen are the counts that are not 0.
func seen(counts []RequestCount) []RequestCount {
	return slices.DeleteFunc(
		slices.Clone(counts), func(c RequestCount) bool { return c.Count == 0 },
	)
}

// Every count of what an operation may answer is there at 0 before the first request, and before
// there is a handler, so that what happens first is an increase.
func TestCountsBeginAtZero(t *testing.T) {
	r := newRig(t)
	for _, s := range []KeyStoreStatus{r.status("store-one"), ZeroKeyStoreStatus("store-one", "agency-payroll")} {
		count := 0
		for _, op := range operations {
			for name := range op.errors {
				if !slices.Contains(s.Requests, RequestCount{op.name, string(name), 0}) {
					t.Errorf("%s: no count of %s", op.name, name)
				}
			}
			if !slices.Contains(s.Requests, RequestCount{op.name, "ok", 0}) {
				t.Errorf("%s: no count of ok", op.name)
			}
			count += len(op.errors) + 1
		}
		if len(s.Requests) != count || s.Name != "store-one" {
			t.Errorf("%d counts, want %d, of %q", len(s.Requests), count, s.Name)
		}
	}
	for _, s := range []HandlerStatus{r.handler.Status(), ZeroHandlerStatus()} {
		if len(s.Refused) != len(withoutStore) || len(s.Operations) != operationCount {
			t.Errorf("%+v", s)
		}
	}
}

func TestShadowDenialsAreCounted(t *testing.T) {
	r := newRig(t, withPolicies(t, notMallory, authz.ModeShadow))
	r.encrypt(goodKey, encryptFields(nil).withMetadata("awsPrincipalArn", mallory)).wantOK(t)
	if s := r.status("store-one"); s.PolicyShadowDenials != 1 || s.PolicyDenials != 0 {
		t.Errorf("%+v", s)
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for _, took := range []time.Duration{0, 500 * time.Microsecond, 501 * time.Microsecond, 250 * time.Millisecond, time.Minute} {
		h.add(took)
	}
	s := h.status("x")
	for bound, want := range map[time.Duration]uint64{500 * time.Microsecond: 2, time.Millisecond: 3, 200 * time.Millisecond: 3, 250 * time.Millisecond: 4, 500 * time.Millisecond: 4} {
		i := slices.IndexFunc(s.Buckets, func(b Bucket) bool { return b.UpTo == bound })
		if i < 0 || s.Buckets[i].Count != want {
			t.Errorf("up to %v: %+v, want %d", bound, s.Buckets, want)
		}
	}
	if s.Count != 5 || s.Sum != time.Minute+251001*time.Microsecond {
		t.Errorf("%d in %v", s.Count, s.Sum)
	}
}

// TestOutcomes: every error name has a place, and every operation its own.
func TestOutcomes(t *testing.T) {
	for name := range statusOf {
		if !slices.Contains(outcomes[:], name) {
			t.Errorf("%s is not counted", name)
		}
	}
	if len(statusOf)+1 != outcomeCount || len(operations) != operationCount {
		t.Errorf("%d outcomes, %d operations", outcomeCount, operationCount)
	}
	for i, op := range operations {
		if op.number != i {
			t.Errorf("%s has place %d", op.name, op.number)
		}
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	var l usage
	var h histogram
	var all, group sharedLoad
	load := &storeLoad{all: &all, group: &group}
	limit := newRateLimit(1000, 0)
	if n := testing.AllocsPerRun(100, func() {
		load.enter()
		l.bucket.allow(limit, sinceEpoch)
		l.requests[1].add(errOverShare)
		h.add(time.Millisecond)
		load.leave()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

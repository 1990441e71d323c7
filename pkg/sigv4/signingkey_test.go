// This file checks the cache of signing keys, the times of last use, and the canonical path.

package sigv4

import (
	"fmt"
	"testing"
	"time"
)

func cachedScopes(v *Verifier) []cachedScope {
	scopes := v.cache.scopes.Load()
	if scopes == nil {
		return nil
	}
	return *scopes
}

// TestCacheTakesOnlyProvenScopes: a caller without a secret cannot put anything into the cache, nor
// push anything out.
func TestCacheTakesOnlyProvenScopes(t *testing.T) {
	v := newTestVerifier(t)
	for i := range 100 {
		r := testRequest()
		forger := reference{service: DefaultService, secrets: map[string]string{oldID: newSecret}}
		forger.sign(r, oldID, fmt.Sprintf("region-%d", i), testNow, "host", "x-amz-date")
		_, err := v.Verify(r, testNow)
		if err == nil {
			t.Fatal("accepted a forged signature")
		}
	}
	if len(cachedScopes(v)) != 0 {
		t.Fatalf("%d scopes are cached", len(cachedScopes(v)))
	}
	for range 3 {
		_, err := v.Verify(signedRequest(), testNow)
		if err != nil {
			t.Fatal(err)
		}
	}
	scopes := cachedScopes(v)
	if len(scopes) != 1 || scopes[0].date != "20260701" || scopes[0].region != "us-east-1" ||
		len(scopes[0].keys) != 3 {
		t.Fatalf("cached: %+v", scopes)
	}
}

// TestCacheIsBounded: the newest scopes stay, and both credentials keep working whatever is cached.
func TestCacheIsBounded(t *testing.T) {
	v := newTestVerifier(t)
	for i := range 3 * maxCachedScopes {
		for _, id := range []string{oldID, newID} {
			r := testRequest()
			testReference.sign(r, id, fmt.Sprintf("region-%d", i), testNow, "host", "x-amz-date")
			_, err := v.Verify(r, testNow)
			if err != nil {
				t.Fatal(err)
			}
		}
		scopes := cachedScopes(v)
		if len(scopes) != min(i+1, maxCachedScopes) ||
			scopes[0].region != fmt.Sprintf("region-%d", i) {
			t.Fatalf("after %d: %d scopes, the newest %s", i, len(scopes), scopes[0].region)
		}
	}
}

// TestDummyNeverSigns covers A4: even one who knew the dummy's secret could not pass as an unknown
// access key.
func TestDummyNeverSigns(t *testing.T) {
	v := newTestVerifier(t)
	r := testRequest()
	const stranger = "STRANGERACCESSKEYID2345"
	insider := reference{
		service: DefaultService, secrets: map[string]string{stranger: v.accounts[0].secret()},
	}
	insider.sign(r, stranger, "us-east-1", testNow, "host", "x-amz-date")
	for range 2 {
		_, err := v.Verify(r, testNow)
		if err == nil {
			t.Fatal("accepted")
		}
	}
	if len(cachedScopes(v)) != 0 {
		t.Fatal("cached a scope")
	}
}

// TestLastUsed covers A5.
func TestLastUsed(t *testing.T) {
	v := newTestVerifier(t)
	check := func(v *Verifier, oldWant, newWant time.Time) {
		t.Helper()
		times := v.LastUsed()
		if len(times) != 2 || !times[oldID].Equal(oldWant) || !times[newID].Equal(newWant) {
			t.Fatalf("last used: %v", times)
		}
	}
	check(v, time.Time{}, time.Time{})
	_, err := v.Verify(signedRequest(), testNow.Add(1500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	check(v, testNow.Add(time.Second), time.Time{})
	_, err = v.Verify(signedRequest(), testNow.Add(-time.Minute)) // our clock was set back
	if err != nil {
		t.Fatal(err)
	}
	forged := signedRequest()
	forged.Body = nil
	_, err = v.Verify(forged, testNow.Add(time.Minute))
	if err == nil {
		t.Fatal("accepted a forged request")
	}
	check(v, testNow.Add(time.Second), time.Time{})

	reloaded := newTestVerifier(t)
	reloaded.ShareLastUsed(v)
	check(reloaded, testNow.Add(time.Second), time.Time{})
	_, err = v.Verify(
		signedRequest(), testNow.Add(2*time.Second),
	) // a request that began before the reload
	if err != nil {
		t.Fatal(err)
	}
	check(reloaded, testNow.Add(2*time.Second), time.Time{})

	swapped, err := New(Config{Credentials: []Credential{{oldID, newSecret}, {newID, oldSecret}}})
	if err != nil {
		t.Fatal(err)
	}
	swapped.ShareLastUsed(v) // other secrets: other credentials
	check(swapped, time.Time{}, time.Time{})
}

func TestAppendPath(t *testing.T) {
	for path, want := range map[string]string{
		"":                            "/",
		"/":                           "/",
		"/tenant/kms/xks/v1/health":   "/tenant/kms/xks/v1/health",
		"/example space/":             "/example%20space/", // AWS's vector get-space
		"/a%20b":                      "/a%2520b",
		"/-._~":                       "/-._~",
		"/\x00\xff":                   "/%00%FF",
		"*":                           "%2A",
		"/!\"#$&'()*+,:;<=>?@[]^`{|}": "/%21%22%23%24%26%27%28%29%2A%2B%2C%3A%3B%3C%3D%3E%3F%40%5B%5D%5E%60%7B%7C%7D",
	} {
		got := string(appendPath(nil, path, true))
		if got != want {
			t.Errorf("%q: %q, not %q", path, got, want)
		}
		if path != "" && string(appendPath(nil, path, false)) != path {
			t.Errorf("%q is not left as it is", path)
		}
	}
}

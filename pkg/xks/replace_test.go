package xks

// Replacing the configuration under load: nothing fails, nothing is mixed, nothing is forgotten.

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
	"xks-proxy/pkg/sigv4"
)

// TestReplaceUnderLoad: a key store changes its credential and its keys together, a hundred times,
// while requests are made with either. No answer is of one configuration's credential and the
// other's keys; the key store beside it notices nothing.
func TestReplaceUnderLoad(t *testing.T) {
	r := newRig(t, withOther)
	odd, even := r.config, r.config
	odd.KeyStores = append([]KeyStoreConfig(nil), r.config.KeyStores...)
	even.KeyStores = append([]KeyStoreConfig(nil), r.config.KeyStores...)
	evenCredential := sigv4.Credential{
		AccessKeyID: "CCCCDDDDEEEEFFFFGGGG", SecretAccessKey: testCredential.SecretAccessKey,
	}
	odd.KeyStores[0].Labels = []string{goodKey}
	even.KeyStores[0].Labels = []string{"wraps-too"}
	even.KeyStores[0].Credentials = []sigv4.Credential{evenCredential}

	if err := r.handler.Replace(odd); err != nil { // which differs from the one of the rig
		t.Fatal(err)
	}
	var done atomic.Bool
	var clients sync.WaitGroup
	var steady, swapped atomic.Int64
	for _, c := range []struct {
		call call
		may  []errorName // "": success
	}{
		{newCall(t, testCredential, keyURI(goodKey, "encrypt"), encryptFields(nil)), []errorName{"", authenticationFailed}},
		{newCall(t, testCredential, keyURI("wraps-too", "encrypt"), encryptFields(nil)), []errorName{keyNotFound, authenticationFailed}},
		{newCall(t, evenCredential, keyURI("wraps-too", "encrypt"), encryptFields(nil)), []errorName{"", authenticationFailed}},
		{newCall(t, evenCredential, keyURI(goodKey, "encrypt"), encryptFields(nil)), []errorName{keyNotFound, authenticationFailed}},
		{newCall(t, otherCredential, otherURI+"/keys/"+goodKey+"/encrypt", encryptFields(nil)), []errorName{""}},
	} {
		clients.Go(func() {
			for !done.Load() {
				p := r.again(c.call)
				got := p.errorName(t)
				if got != c.may[0] && got != c.may[len(c.may)-1] {
					t.Errorf("%s: %s", c.call.path, p.body)
					return
				}
				if len(c.may) == 1 {
					steady.Add(1)
				} else {
					swapped.Add(1)
				}
			}
		})
	}
	for i := range 100 {
		next := odd
		if i%2 == 0 {
			next = even
		}
		if err := r.handler.Replace(next); err != nil {
			t.Fatal(err)
		}
		before := steady.Load() + swapped.Load()
		waitFor(t, func() bool { return steady.Load()+swapped.Load() >= before+5 })
	}
	done.Store(true)
	clients.Wait()
	var sum uint64
	for _, c := range r.status("store-one").Requests {
		sum += c.Count
	}
	if got := r.status("store-two").counted("Encrypt", "ok"); int64(got) != steady.Load() ||
		int64(sum) != swapped.Load() {
		t.Errorf("%d and %d were counted of %d and %d", got, sum, steady.Load(), swapped.Load())
	}
	all, group := &r.handler.all, r.handler.state.Load().keyStores[0].load.group
	for _, n := range []int64{all.inFlight.Load(), all.keyStores.Load(), group.inFlight.Load(), group.keyStores.Load(), r.handler.bodies.Load()} {
		if n != 0 {
			t.Errorf("%d is still counted when nothing is in flight", n)
		}
	}
	t.Logf("%d requests during 100 replacements", steady.Load()+swapped.Load())
}

// waitFor waits for a condition, generously.
func waitFor(t testing.TB, so func() bool) {
	t.Helper()
	for range 6000 {
		if so() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("it did not come about within 30 s")
}

func TestReplaceRefused(t *testing.T) {
	r := newRig(t)
	bad := r.config
	bad.MaxData = 1
	if err := r.handler.Replace(bad); err == nil {
		t.Error("a bad configuration was taken")
	}
	encryptGood(r).wantOK(t)
}

// TestReplaceKeeps: a request that began before is answered by what it began with, and counted with
// those that came after.
func TestReplaceKeeps(t *testing.T) {
	r := newRig(t, withOther)
	encryptGood(r).wantOK(t)
	used := r.status("store-one").Credentials[0].LastUsed
	if used.IsZero() {
		t.Fatal("the credential was not used")
	}
	entered, release := r.holdEncrypts()
	var running sync.WaitGroup
	running.Go(func() { encryptGood(r).wantOK(t) })
	<-entered
	gone := r.config
	gone.KeyStores = append([]KeyStoreConfig(nil), r.config.KeyStores...)
	gone.KeyStores[0].Labels = []string{"nothing"}
	gone.KeyStores[0].Quota = Quota{MaxInFlight: 1}
	if err := r.handler.Replace(gone); err != nil {
		t.Fatal(err)
	}
	if got := r.status("store-one"); got.InFlight != 1 ||
		got.Credentials[0].LastUsed.Before(used) ||
		got.counted("Encrypt", "ok") != 1 {
		t.Errorf("after the reload: %+v", got)
	}
	r.wantThrottled(encryptGood(r), overStoreInFlight) // by the one that still runs
	close(release)
	running.Wait()
	encryptGood(r).want(t, keyNotFound)
	if got := r.status("store-one"); got.InFlight != 0 || got.counted("Encrypt", "ok") != 2 ||
		got.counted("Encrypt", string(throttling)) != 1 {
		t.Errorf("in the end: %+v", got)
	}
	gone.KeyStores = gone.KeyStores[1:]
	if err := r.handler.Replace(gone); err != nil {
		t.Fatal(err)
	}
	encryptGood(r).want(t, invalidURIPath)
	if got := r.handler.KeyStores(); len(got) != 1 || got[0].Name != "store-two" {
		t.Errorf("%+v", got)
	}
	if err := r.handler.Replace(r.config); err != nil {
		t.Fatal(err)
	}
	if got := r.status("store-one"); len(seen(got.Requests)) != 0 {
		t.Errorf("a key store that was removed and added is a new one, not %+v", got)
	}
}

// holdEncrypts keeps Encrypts in the HSMs until release is closed.
func (r *rig) holdEncrypts() (entered <-chan struct{}, release chan struct{}) {
	in := make(chan struct{}, 1000)
	release = make(chan struct{})
	r.setHooks(holding(in, release))
	return in, release
}

// TestReplaceWithAnotherGroup: what competes for the HSMs of a group is counted there, also while a
// key store moves.
func TestReplaceWithAnotherGroup(t *testing.T) {
	r := newRig(t, withOther)
	second := newRig(t)
	entered, release := r.holdEncrypts()
	var running sync.WaitGroup
	running.Go(func() { encryptGood(r).wantOK(t) })
	<-entered
	moved := r.config
	moved.KeyStores = append([]KeyStoreConfig(nil), r.config.KeyStores...)
	moved.KeyStores[0].Group = second.group
	if err := r.handler.Replace(moved); err != nil {
		t.Fatal(err)
	}
	encryptGood(r).wantOK(t) // the other pair is free
	close(release)
	running.Wait()
	for group, c := range r.handler.state.Load().groups {
		if c.inFlight.Load() != 0 || c.keyStores.Load() != 0 {
			t.Errorf(
				"group %s: %d in flight of %d key stores", group.Name(), c.inFlight.Load(),
				c.keyStores.Load(),
			)
		}
	}
	if n := r.handler.all.keyStores.Load(); n != 0 {
		t.Errorf("%d key stores are in flight", n)
	}
	if got := r.status("store-one").counted("Encrypt", "ok"); got != 2 {
		t.Errorf("%d were counted", got)
	}
}

// TestReplaceOfMany: 1,000 key stores with 10,000 keys are replaced quickly, and last uses stay.
func TestReplaceOfMany(t *testing.T) {
	r := newRig(
		t,
		func(c *Config, _ *group.Config) { c.KeyStores = append(c.KeyStores, manyStores(1000, 10)...) },
	)
	encryptGood(r).wantOK(t)
	fastest := time.Hour
	for range 5 {
		start := time.Now()
		if err := r.handler.Replace(r.config); err != nil {
			t.Fatal(err)
		}
		fastest = min(fastest, time.Since(start))
	}
	t.Logf("the fastest of 5 took %v", fastest)
	if fastest > 2*time.Second {
		t.Errorf("the fastest of 5 replacements of 1,000 key stores took %v", fastest)
	}
	if r.status("store-one").Credentials[0].LastUsed.IsZero() {
		t.Error("the last use is forgotten")
	}
}

func holding(in chan<- struct{}, release <-chan struct{}) hsmtest.Hook {
	return onEncrypts(func() {
		in <- struct{}{}
		<-release
	})
}

package test

// Reloads of every kind while requests are served: none fails, and nothing is left behind.

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"xks-proxy/pkg/sigv4"
)

var (
	reloadCount  = flag.Int("reloads", 100, "reloads of TestReloadsUnderLoad")
	reloadRate   = flag.Int("reload-rate", 240, "requests a second meanwhile")
	reloadStrict = flag.Bool("reload-strict", false, "with the time budgets that the program has by default; a busy machine may fail that")
)

// reloadScript changes a configuration from step to step; what each step changes is undone by a later one.
type reloadScript struct {
	w      *world
	policy string           // a file
	extra  sigv4.Credential // of the extra key store

	lastCredential, extraStore, withoutB bool
	sessions, policies                   int
}

// step decides what changes next.
func (r *reloadScript) step(t testing.TB, i int) {
	t.Helper()
	switch {
	case i%10 == 3: // the process of hsm-b is another, and the group
		r.sessions = 8 + rand.IntN(8)
	case i%10 == 6: // a member goes, or comes back
		r.withoutB = !r.withoutB
	case i%5 == 0:
		r.lastCredential = !r.lastCredential
	case i%5 == 1:
		r.extraStore = !r.extraStore
	case i%5 == 2:
		r.policies++
		replaceFile(t, r.policy, fmt.Sprintf("@id(\"all-%d\")\npermit (principal, action, resource);\n", r.policies))
	default:
		// Nothing: a reload of what is there.
	}
}

func (r *reloadScript) edit(s *settings) {
	byHand(s)
	if *reloadStrict {
		s.withoutLeisure()
	} else {
		s.Server["budget"], s.Server["first_request_budget"], s.Server["max_queue_time"] = "5s", "5s", "4s"
		s.Group["attempt_timeout"], s.Group["hedge_after"] = "500ms", "100ms"
	}
	s.Log["level"] = "info"
	s.KeyStores[0]["policy"] = object{"files": []string{r.policy}}
	if r.lastCredential {
		s.KeyStores[0]["credentials"] = s.KeyStores[0]["credentials"].([]object)[:1]
	}
	if r.extraStore {
		extra := with(s.KeyStores[1], "name", "extra")
		extra = with(extra, "credentials", []object{r.w.credential(r.extra)})
		s.KeyStores = append(s.KeyStores, with(extra, "path_prefix", "/extra"))
	}
	if r.withoutB {
		s.only(r.w.A)
	} else if r.sessions > 0 {
		s.HSMs[1]["sessions"] = r.sessions
	}
}

func startReloadScript(t *testing.T) (*reloadScript, *proxy) {
	t.Helper()
	w := newTestWorld(t)
	r := &reloadScript{w: w, policy: w.file("script.cedar"), extra: w.newCredential(t)}
	writeFile(t, r.policy, "permit (principal, action, resource);\n")
	return r, w.start(t, r.edit)
}

// No request fails while the program is reloaded again and again.
func TestReloadsUnderLoad(t *testing.T) {
	r, p := startReloadScript(t)
	l := p.startLoad(t, http1, *reloadRate/2, 16) // each beat of it is an Encrypt and a Decrypt
	l2 := p.startLoad(t, http2, max(1, *reloadRate/20), 2)
	eventually(t, 20*time.Second, func() error {
		if l.count() < 50 {
			return fmt.Errorf("only %d requests", l.count())
		}
		return nil
	})
	began, before := time.Now(), l.count()+l2.count()
	var slowest, sum time.Duration
	for i := range *reloadCount {
		r.step(t, i)
		p.configure(t, r.edit)
		start := time.Now()
		if got := p.reload(t); got.Generation != i+2 {
			t.Fatalf("generation %d after %d reloads", got.Generation, i+1)
		}
		took := time.Since(start)
		slowest, sum = max(slowest, took), sum+took
		time.Sleep(50 * time.Millisecond)
	}
	took := time.Since(began)
	answered := l.count() + l2.count() - before
	l2.wantNoFailure(t, 1)
	l.wantNoFailure(t, 100)
	t.Logf("%d reloads in %v, each %v on average, %v at most; %.0f requests a second", *reloadCount, took.Round(time.Millisecond),
		(sum / time.Duration(max(1, *reloadCount))).Round(time.Millisecond), slowest.Round(time.Millisecond), float64(answered)/took.Seconds())
	p.wantReleased(t, 1+len(p.list(t).Processes))
}

// wantReleased waits until what old generations used is gone: of processes there are as many as are wanted, the program included.
func (p *proxy) wantReleased(t testing.TB, processes int) {
	t.Helper()
	eventually(t, 40*time.Second, func() error {
		if got := 1 + len(p.workers()); got != processes {
			return fmt.Errorf("%d processes, want %d", got, processes)
		}
		return nil
	})
}

// Fifty reloads leave no goroutine, file or process behind.
func TestReloadsLeaveNothing(t *testing.T) {
	t.Parallel()
	r, p := startReloadScript(t)
	c := p.client(t, http1)
	measure := func() (int, int) {
		t.Helper()
		p.wantReleased(t, 3)
		var goroutines int
		_, err := fmt.Sscan(p.metric(t, "go_goroutines"), &goroutines)
		if err != nil {
			t.Fatal(err)
		}
		return goroutines, p.openFiles(t)
	}
	round := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			r.step(t, i)
			p.configure(t, r.edit)
			p.reload(t)
			c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
		}
		if r.withoutB {
			t.Fatal("the script ends without hsm-b: what follows compares different things")
		}
	}
	round(0, 20)
	goroutines, files := measure()
	round(20, 80)
	eventually(t, 40*time.Second, func() error {
		nowGoroutines, nowFiles := measure()
		if nowGoroutines > goroutines+3 || nowFiles > files+3 { // connections of monitoring come and go
			return fmt.Errorf("goroutines: %d, then %d; open files: %d, then %d", goroutines, nowGoroutines, files, nowFiles)
		}
		return nil
	})
}

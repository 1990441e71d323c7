package breaker

// Tests of one HSM's standing, as tables.

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/status"
)

// TestNote: which results, in which order, ask for an HSM to go out.
func TestNote(t *testing.T) {
	fault, busy := &hsm.Error{Kind: hsm.ErrUnavailable}, &hsm.Error{Kind: hsm.ErrBusy}
	for _, test := range []struct {
		name    string
		results []error
		out     bool // after the last one
	}{
		{"nothing wrong", []error{nil, nil, nil, nil}, false},
		{"two faults", []error{fault, fault}, false},
		{"three faults", []error{fault, fault, fault}, true},
		{"three faults of several kinds", []error{fault, &hsm.Error{Kind: hsm.Timeout(errors.New("x"))}, errors.New("no kind")}, true},
		{"a success between", []error{fault, fault, nil, fault}, false},
		{"a success between, and three", []error{fault, fault, nil, fault, fault, fault}, true},
		{"a fault of the request is a sign of life", []error{fault, fault, &hsm.Error{Kind: hsm.ErrInvalidCiphertext}, fault}, false},
		{"a key not found is a sign of life", []error{fault, fault, &hsm.Error{Kind: hsm.ErrKeyNotFound}, fault}, false},
		{"busy does not count", []error{busy, busy, busy, busy}, false},
		{"busy is no sign of life", []error{fault, fault, busy, fault}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s Breaker
			for i, result := range test.results {
				out := s.Record(result)
				if want := test.out && i == len(test.results)-1; out != want {
					t.Errorf("after result %d: %v", i, out)
				}
			}
			s.Trip("x", time.Now())
			if s.Record(fault) {
				t.Error("asks for an HSM to go out that is out")
			}
		})
	}
}

// TestPenalty: how long an HSM stays out at least, each time it goes out again.
func TestPenalty(t *testing.T) {
	now := time.Now()
	var s Breaker
	for i, want := range []time.Duration{0, 1, 2, 4, 8, 16, 30, 30} {
		want *= time.Second
		stay, first := s.Trip("reason", now)
		if !first || stay > want || stay < want*3/4 {
			t.Fatalf("time %d: stays out %v (%v), want %v less a quarter", i+1, stay, first, want)
		}
		if _, again := s.Trip("another reason", now); again {
			t.Fatal("went out twice")
		}
		if want > 0 && s.ProbeSucceeded(now.Add(stay-1)) {
			t.Fatal("came back too early")
		}
		if service, _, reason := s.Service(now); service != status.Out ||
			reason != "another reason" {
			t.Fatalf("%s: %s", service, reason)
		}
		now = now.Add(stay)
		if !s.ProbeSucceeded(now) || s.Out.Load() {
			t.Fatal("did not come back")
		}
		now = now.Add(10 * time.Second)
	}
	if s.TripCount() != 8 {
		t.Errorf("%d trips", s.TripCount())
	}
	now = now.Add(stableTime)
	if stay, _ := s.Trip("reason", now); stay != 0 {
		t.Errorf("after a minute in service it stays out for %v", stay)
	}
}

// TestShare: what an HSM that came back gets.
func TestShare(t *testing.T) {
	now := time.Now()
	var s Breaker
	if s.Share(now) != 1 {
		t.Error("not a full share from the start")
	}
	s.Trip("x", now)
	s.ProbeSucceeded(now)
	for _, test := range []struct {
		after time.Duration
		want  float64
	}{{0, 1.0 / 16}, {100 * time.Millisecond, 1.0 / 16}, {750 * time.Millisecond, 0.25}, {1500 * time.Millisecond, 0.5}, {2999 * time.Millisecond, 0.9997}, {3 * time.Second, 1}, {time.Hour, 1}} {
		if got := s.Share(now.Add(test.after)); got < test.want-0.001 || got > test.want+0.001 {
			t.Errorf("after %v: %v, want %v", test.after, got, test.want)
		}
	}
	var fresh Breaker
	fresh.MarkAbsent("not there", now)
	if !fresh.ProbeSucceeded(now) || fresh.Share(now) != 1 {
		t.Error("an HSM that was never in service starts with a part of its share")
	}
}

// TestService: the state in words, for each combination.
func TestService(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		steps string // o: out, b: back, s: suspected, d: drained, r: resumed, p: probed well
		want  status.Service
		serve bool
	}{
		{"", status.InService, true}, {"s", status.Suspected, false}, {"sp", status.InService, true}, {"o", status.Out, false}, {"so", status.Out, false},
		{"ob", status.Returning, true}, {"obs", status.Suspected, false}, {"d", status.Drained, false}, {"do", status.Drained, false}, {"ds", status.Drained, false},
		{"dob", status.Drained, false}, {"dobr", status.Returning, true}, {"dor", status.Out, false}, {"dr", status.InService, true}, {"ddr", status.InService, true}, {"dsr", status.Suspected, false},
	} {
		t.Run(fmt.Sprintf("steps %q", test.steps), func(t *testing.T) {
			var s Breaker
			for _, step := range test.steps {
				switch step {
				case 'o':
					s.Trip("reason", now)
				case 'b', 'p':
					s.ProbeSucceeded(now)
				case 's':
					s.MarkSuspect("no answer", now)
				case 'd', 'r':
					s.SetDrained(step == 'd', now)
				}
			}
			service, _, reason := s.Service(now)
			if service != test.want || s.InService() != test.serve {
				t.Errorf("got %s, serves: %v", service, s.InService())
			}
			if (reason == "") == (service != status.InService && service != status.Returning) {
				t.Errorf("%s with the reason %q", service, reason)
			}
		})
	}
}

// TestProbePassesRequestsFail: probes that pass do not wipe out the faults of requests in between.
func TestProbePassesRequestsFail(t *testing.T) {
	var s Breaker
	fault := &hsm.Error{Kind: hsm.ErrUnavailable}
	for i := range FaultsToTrip {
		if out := s.Record(fault); out != (i == FaultsToTrip-1) {
			t.Fatalf("fault %d: %v", i+1, out)
		}
		s.ProbeSucceeded(time.Now())
	}
}

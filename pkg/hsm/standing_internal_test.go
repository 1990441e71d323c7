package hsm

// Tests of one HSM's standing, as tables.

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestNote: which results, in which order, ask for an HSM to go out.
func TestNote(t *testing.T) {
	fault, busy := &Error{Kind: ErrUnavailable}, &Error{Kind: ErrBusy}
	for _, test := range []struct {
		name    string
		results []error
		out     bool // after the last one
	}{
		{"nothing wrong", []error{nil, nil, nil, nil}, false},
		{"two faults", []error{fault, fault}, false},
		{"three faults", []error{fault, fault, fault}, true},
		{"three faults of several kinds", []error{fault, &Error{Kind: Timeout(errors.New("x"))}, errors.New("no kind")}, true},
		{"a success between", []error{fault, fault, nil, fault}, false},
		{"a success between, and three", []error{fault, fault, nil, fault, fault, fault}, true},
		{"a fault of the request is a sign of life", []error{fault, fault, &Error{Kind: ErrInvalidCiphertext}, fault}, false},
		{"a key not found is a sign of life", []error{fault, fault, &Error{Kind: ErrKeyNotFound}, fault}, false},
		{"busy does not count", []error{busy, busy, busy, busy}, false},
		{"busy is no sign of life", []error{fault, fault, busy, fault}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s standing
			for i, result := range test.results {
				out := s.note(result)
				if want := test.out && i == len(test.results)-1; out != want {
					t.Errorf("after result %d: %v", i, out)
				}
			}
			s.trip("x", time.Now())
			if s.note(fault) {
				t.Error("asks for an HSM to go out that is out")
			}
		})
	}
}

// TestPenalty: how long an HSM stays out at least, each time it goes out again.
func TestPenalty(t *testing.T) {
	now := time.Now()
	var s standing
	for i, want := range []time.Duration{0, 1, 2, 4, 8, 16, 30, 30} {
		want *= time.Second
		stay, first := s.trip("reason", now)
		if !first || stay > want || stay < want*3/4 {
			t.Fatalf("time %d: stays out %v (%v), want %v less a quarter", i+1, stay, first, want)
		}
		if _, again := s.trip("another reason", now); again {
			t.Fatal("went out twice")
		}
		if want > 0 && s.pass(now.Add(stay-1)) {
			t.Fatal("came back too early")
		}
		if service, _, reason := s.service(now); service != Out || reason != "another reason" {
			t.Fatalf("%s: %s", service, reason)
		}
		now = now.Add(stay)
		if !s.pass(now) || s.out.Load() {
			t.Fatal("did not come back")
		}
		now = now.Add(10 * time.Second)
	}
	if s.tripCount() != 8 {
		t.Errorf("%d trips", s.tripCount())
	}
	now = now.Add(steadyTime)
	if stay, _ := s.trip("reason", now); stay != 0 {
		t.Errorf("after a minute in service it stays out for %v", stay)
	}
}

// TestShare: what an HSM that came back gets.
func TestShare(t *testing.T) {
	now := time.Now()
	var s standing
	if s.share(now) != 1 {
		t.Error("not a full share from the start")
	}
	s.trip("x", now)
	s.pass(now)
	for _, test := range []struct {
		after time.Duration
		want  float64
	}{{0, 1.0 / 16}, {100 * time.Millisecond, 1.0 / 16}, {750 * time.Millisecond, 0.25}, {1500 * time.Millisecond, 0.5}, {2999 * time.Millisecond, 0.9997}, {3 * time.Second, 1}, {time.Hour, 1}} {
		if got := s.share(now.Add(test.after)); got < test.want-0.001 || got > test.want+0.001 {
			t.Errorf("after %v: %v, want %v", test.after, got, test.want)
		}
	}
	var fresh standing
	fresh.absent("not there", now)
	if !fresh.pass(now) || fresh.share(now) != 1 {
		t.Error("an HSM that was never in service starts with a part of its share")
	}
}

// TestService: the state in words, for each combination.
func TestService(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		steps string // o: out, b: back, s: suspected, d: drained, r: resumed, p: probed well
		want  Service
		serve bool
	}{
		{"", InService, true}, {"s", Suspected, false}, {"sp", InService, true}, {"o", Out, false}, {"so", Out, false},
		{"ob", Returning, true}, {"obs", Suspected, false}, {"d", Drained, false}, {"do", Drained, false}, {"ds", Drained, false},
		{"dob", Drained, false}, {"dobr", Returning, true}, {"dor", Out, false}, {"dr", InService, true}, {"ddr", InService, true}, {"dsr", Suspected, false},
	} {
		t.Run(fmt.Sprintf("steps %q", test.steps), func(t *testing.T) {
			var s standing
			for _, step := range test.steps {
				switch step {
				case 'o':
					s.trip("reason", now)
				case 'b', 'p':
					s.pass(now)
				case 's':
					s.suspectNow("no answer", now)
				case 'd', 'r':
					s.drain(step == 'd', now)
				}
			}
			service, _, reason := s.service(now)
			if service != test.want || s.serves() != test.serve {
				t.Errorf("got %s, serves: %v", service, s.serves())
			}
			if (reason == "") == (service != InService && service != Returning) {
				t.Errorf("%s with the reason %q", service, reason)
			}
		})
	}
}

// TestProbePassesRequestsFail: probes that pass do not wipe out the faults of requests in between.
func TestProbePassesRequestsFail(t *testing.T) {
	var s standing
	fault := &Error{Kind: ErrUnavailable}
	for i := range faultsToGoOut {
		if out := s.note(fault); out != (i == faultsToGoOut-1) {
			t.Fatalf("fault %d: %v", i+1, out)
		}
		s.pass(time.Now())
	}
}

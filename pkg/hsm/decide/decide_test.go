package decide

import (
	"testing"
	"time"

	"xks-proxy/pkg/hsm/catalogue"
)

// Every row of the decision about a slow call (requirement R2).
func TestSlowCall(t *testing.T) {
	const a, b = catalogue.Set(1), catalogue.Set(2)
	// One HSM beside the slow one, which serves and is quick.
	good := SlowCall{Others: a, Available: a, Fast: a, Free: a}
	for _, row := range []struct {
		name   string
		change func(*SlowCall)
		step   step
		why    reason
	}{
		{"slow", func(*SlowCall) {}, AskAnother, Hedge},
		{"overdue", func(s *SlowCall) { s.Overdue = true }, AskAnother, failover},
		{"ended", func(s *SlowCall) { s.Ended = true }, wait, ended},
		{"ended and overdue", func(s *SlowCall) { s.Ended, s.Overdue = true, true }, wait, ended},
		{"alone", func(s *SlowCall) { *s = SlowCall{Overdue: true, Failing: true} }, wait, noOtherHolder},
		{"another is asked", func(s *SlowCall) { s.Hedged, s.Overdue = true, true }, wait, alreadyHedged},
		{"slow, no other is quick", func(s *SlowCall) { s.Fast = 0 }, wait, noFasterHSM},
		{"overdue, no other is quick", func(s *SlowCall) { s.Overdue, s.Fast = true, 0 }, wait, noFasterHSM},
		{"overdue and failing, another is able but not quick", func(s *SlowCall) {
			s.Overdue, s.Failing, s.Fast = true, true, 0
		}, wait, noFasterHSM},
		{"overdue and failing, another is quick", func(s *SlowCall) {
			s.Overdue, s.Failing = true, true
		}, AskAnother, failover},
		{"overdue and failing, no other is able", func(s *SlowCall) {
			s.Overdue, s.Failing, s.Available, s.Fast = true, true, 0, 0
		}, AskAnother, LastResort},
		{"the same, and all sessions are taken", func(s *SlowCall) {
			s.Overdue, s.Failing, s.Available, s.Fast, s.Free = true, true, 0, 0, 0
		}, wait, noFasterHSM},
		{"the same, slow only", func(s *SlowCall) {
			s.Failing, s.Available, s.Fast = true, 0, 0
		}, wait, noFasterHSM},
		{"the same, its probes pass", func(s *SlowCall) {
			s.Overdue, s.Available, s.Fast = true, 0, 0
		}, wait, noFasterHSM},
		{"the same, and one that is asked may still answer", func(s *SlowCall) {
			s.Overdue, s.Failing, s.Available, s.Fast, s.Hedged = true, true, 0, 0, true
		}, wait, alreadyHedged},
		{"several others", func(s *SlowCall) { s.Others, s.Available = a|b, a|b }, AskAnother, Hedge},
	} {
		call := good
		row.change(&call)
		next, why := call.Next()
		if next != row.step || why != row.why {
			t.Errorf(
				"%s: step %d because %q, want %d because %q",
				row.name,
				next,
				why,
				row.step,
				row.why,
			)
		}
	}
}

// Every row of the decision after a round in vain (requirements R2, D2).
func TestFailedRound(t *testing.T) {
	const a = catalogue.Set(1)
	// A fault that may pass, on an HSM that is in service.
	good := FailedRound{
		Transient: true, Remaining: a, Available: a, Recent: true,
		Pause: 2 * time.Millisecond, Time: 150 * time.Millisecond,
	}
	for _, row := range []struct {
		name   string
		change func(*FailedRound)
		step   step
		why    reason
	}{
		{"a fault", func(*FailedRound) {}, AskAnother, transientFault},
		{"the last round", func(f *FailedRound) { f.Number = len(RoundPauses) - 1 }, AskAnother, transientFault},
		{"rounds enough", func(f *FailedRound) { f.Number = len(RoundPauses) }, GiveUp, roundLimit},
		{"two crashes", func(f *FailedRound) { f.Crashes = MaxCrashes - 1 }, AskAnother, transientFault},
		{"three crashes", func(f *FailedRound) { f.Crashes = MaxCrashes }, GiveUp, crashLimit},
		{"nobody left", func(f *FailedRound) { f.Remaining, f.Available = 0, 0 }, GiveUp, noHSMLeft},
		{"a verdict, and no HSM for the second", func(f *FailedRound) { f.Refused, f.Available = true, 0 }, GiveUp, noSecondVerdict},
		{"a verdict, and an HSM for the second", func(f *FailedRound) { f.Refused = true }, AskAnother, transientFault},
		{"no verdict, and no HSM is able", func(f *FailedRound) { f.Available = 0 }, AskAnother, transientFault},
		{"a doubt", func(f *FailedRound) { f.Unproven, f.Transient = true, false }, AskAnother, possiblyBusy},
		{"a doubt in an outage", func(f *FailedRound) {
			f.Unproven, f.Transient, f.Recent = true, false, false
		}, AskAnother, possiblyBusy},
		{"a doubt for the second time", func(f *FailedRound) {
			f.Unproven, f.Transient, f.Number = true, false, unprovenRounds
		}, GiveUp, notTransient},
		{"busy, or about the key", func(f *FailedRound) { f.Transient = false }, GiveUp, notTransient},
		{"a long outage", func(f *FailedRound) { f.Recent = false }, GiveUp, longOutage},
		{"just enough time", func(f *FailedRound) { f.Time = f.Pause + minTime }, AskAnother, transientFault},
		{"too little time", func(f *FailedRound) { f.Time = f.Pause + minTime - 1 }, GiveUp, noTime},
		{"a doubt, too little time", func(f *FailedRound) { f.Unproven, f.Time = true, 0 }, GiveUp, noTime},
	} {
		round := good
		row.change(&round)
		next, why := round.Next()
		if next != row.step || why != row.why {
			t.Errorf(
				"%s: step %d because %q, want %d because %q",
				row.name,
				next,
				why,
				row.step,
				row.why,
			)
		}
	}
}

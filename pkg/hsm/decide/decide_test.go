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
	good := SlowCall{Others: a, Able: a, Quick: a, Free: a}
	for _, row := range []struct {
		name   string
		change func(*SlowCall)
		step   step
		why    reason
	}{
		{"slow", func(*SlowCall) {}, AskAnother, Hedge},
		{"overdue", func(s *SlowCall) { s.Overdue = true }, AskAnother, failover},
		{"ended", func(s *SlowCall) { s.Ended = true }, wait, hasEnded},
		{"ended and overdue", func(s *SlowCall) { s.Ended, s.Overdue = true, true }, wait, hasEnded},
		{"alone", func(s *SlowCall) { *s = SlowCall{Overdue: true, Failing: true} }, wait, nobodyElse},
		{"another is asked", func(s *SlowCall) { s.Beside, s.Overdue = true, true }, wait, besideSlow},
		{"slow, no other is quick", func(s *SlowCall) { s.Quick = 0 }, wait, nobodyQuick},
		{"overdue, no other is quick", func(s *SlowCall) { s.Overdue, s.Quick = true, 0 }, wait, nobodyQuick},
		{"overdue and failing, another is able but not quick", func(s *SlowCall) {
			s.Overdue, s.Failing, s.Quick = true, true, 0
		}, wait, nobodyQuick},
		{"overdue and failing, another is quick", func(s *SlowCall) {
			s.Overdue, s.Failing = true, true
		}, AskAnother, failover},
		{"overdue and failing, no other is able", func(s *SlowCall) {
			s.Overdue, s.Failing, s.Able, s.Quick = true, true, 0, 0
		}, AskAnother, LastResort},
		{"the same, and all sessions are taken", func(s *SlowCall) {
			s.Overdue, s.Failing, s.Able, s.Quick, s.Free = true, true, 0, 0, 0
		}, wait, nobodyQuick},
		{"the same, slow only", func(s *SlowCall) {
			s.Failing, s.Able, s.Quick = true, 0, 0
		}, wait, nobodyQuick},
		{"the same, its probes pass", func(s *SlowCall) {
			s.Overdue, s.Able, s.Quick = true, 0, 0
		}, wait, nobodyQuick},
		{"the same, and one that is asked may still answer", func(s *SlowCall) {
			s.Overdue, s.Failing, s.Able, s.Quick, s.Beside = true, true, 0, 0, true
		}, wait, besideSlow},
		{"several others", func(s *SlowCall) { s.Others, s.Able = a|b, a|b }, AskAnother, Hedge},
	} {
		call := good
		row.change(&call)
		next, why := call.Next()
		if next != row.step || why != row.why {
			t.Errorf("%s: step %d because %q, want %d because %q", row.name, next, why, row.step, row.why)
		}
	}
}

// Every row of the decision after a round in vain (requirements R2, D2).
func TestFailedRound(t *testing.T) {
	const a = catalogue.Set(1)
	// A fault that may pass, on an HSM that is in service.
	good := FailedRound{
		Passing: true, Left: a, Able: a, Recent: true,
		Pause: 2 * time.Millisecond, Time: 150 * time.Millisecond,
	}
	for _, row := range []struct {
		name   string
		change func(*FailedRound)
		step   step
		why    reason
	}{
		{"a fault", func(*FailedRound) {}, AskAnother, mayPass},
		{"the last round", func(f *FailedRound) { f.Number = len(RoundPauses) - 1 }, AskAnother, mayPass},
		{"rounds enough", func(f *FailedRound) { f.Number = len(RoundPauses) }, GiveUp, roundsEnough},
		{"two crashes", func(f *FailedRound) { f.Crashes = CrashesEnough - 1 }, AskAnother, mayPass},
		{"three crashes", func(f *FailedRound) { f.Crashes = CrashesEnough }, GiveUp, crashing},
		{"nobody left", func(f *FailedRound) { f.Left, f.Able = 0, 0 }, GiveUp, nobodyLeft},
		{"a verdict, and no HSM for the second", func(f *FailedRound) { f.Refused, f.Able = true, 0 }, GiveUp, noSecond},
		{"a verdict, and an HSM for the second", func(f *FailedRound) { f.Refused = true }, AskAnother, mayPass},
		{"no verdict, and no HSM is able", func(f *FailedRound) { f.Able = 0 }, AskAnother, mayPass},
		{"a doubt", func(f *FailedRound) { f.Doubted, f.Passing = true, false }, AskAnother, mayBeBusy},
		{"a doubt in an outage", func(f *FailedRound) {
			f.Doubted, f.Passing, f.Recent = true, false, false
		}, AskAnother, mayBeBusy},
		{"a doubt for the second time", func(f *FailedRound) {
			f.Doubted, f.Passing, f.Number = true, false, doubtRounds
		}, GiveUp, nothingPasses},
		{"busy, or about the key", func(f *FailedRound) { f.Passing = false }, GiveUp, nothingPasses},
		{"a long outage", func(f *FailedRound) { f.Recent = false }, GiveUp, longOutage},
		{"just enough time", func(f *FailedRound) { f.Time = f.Pause + leastTime }, AskAnother, mayPass},
		{"too little time", func(f *FailedRound) { f.Time = f.Pause + leastTime - 1 }, GiveUp, noTime},
		{"a doubt, too little time", func(f *FailedRound) { f.Doubted, f.Time = true, 0 }, GiveUp, noTime},
	} {
		round := good
		row.change(&round)
		next, why := round.Next()
		if next != row.step || why != row.why {
			t.Errorf("%s: step %d because %q, want %d because %q", row.name, next, why, row.step, row.why)
		}
	}
}

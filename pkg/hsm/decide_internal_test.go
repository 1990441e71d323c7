package hsm

import (
	"testing"
	"time"
)

// Every row of the decision about a slow call (requirement R2).
func TestSlowCall(t *testing.T) {
	const a, b = memberSet(1), memberSet(2)
	// One HSM beside the slow one, which serves and is quick.
	good := slowCall{others: a, able: a, quick: a, free: a}
	for _, row := range []struct {
		name   string
		change func(*slowCall)
		step   step
		why    reason
	}{
		{"slow", func(*slowCall) {}, askAnother, hedge},
		{"overdue", func(s *slowCall) { s.overdue = true }, askAnother, failover},
		{"ended", func(s *slowCall) { s.ended = true }, wait, hasEnded},
		{"ended and overdue", func(s *slowCall) { s.ended, s.overdue = true, true }, wait, hasEnded},
		{"alone", func(s *slowCall) { *s = slowCall{overdue: true, failing: true} }, wait, nobodyElse},
		{"another is asked", func(s *slowCall) { s.beside, s.overdue = true, true }, wait, besideSlow},
		{"slow, no other is quick", func(s *slowCall) { s.quick = 0 }, wait, nobodyQuick},
		{"overdue, no other is quick", func(s *slowCall) { s.overdue, s.quick = true, 0 }, wait, nobodyQuick},
		{"overdue and failing, another is able but not quick", func(s *slowCall) {
			s.overdue, s.failing, s.quick = true, true, 0
		}, wait, nobodyQuick},
		{"overdue and failing, another is quick", func(s *slowCall) {
			s.overdue, s.failing = true, true
		}, askAnother, failover},
		{"overdue and failing, no other is able", func(s *slowCall) {
			s.overdue, s.failing, s.able, s.quick = true, true, 0, 0
		}, askAnother, lastResort},
		{"the same, and all sessions are taken", func(s *slowCall) {
			s.overdue, s.failing, s.able, s.quick, s.free = true, true, 0, 0, 0
		}, wait, nobodyQuick},
		{"the same, slow only", func(s *slowCall) {
			s.failing, s.able, s.quick = true, 0, 0
		}, wait, nobodyQuick},
		{"the same, its probes pass", func(s *slowCall) {
			s.overdue, s.able, s.quick = true, 0, 0
		}, wait, nobodyQuick},
		{"the same, and one that is asked may still answer", func(s *slowCall) {
			s.overdue, s.failing, s.able, s.quick, s.beside = true, true, 0, 0, true
		}, wait, besideSlow},
		{"several others", func(s *slowCall) { s.others, s.able = a|b, a|b }, askAnother, hedge},
	} {
		call := good
		row.change(&call)
		next, why := call.next()
		if next != row.step || why != row.why {
			t.Errorf("%s: step %d because %q, want %d because %q", row.name, next, why, row.step, row.why)
		}
	}
}

// Every row of the decision after a round in vain (requirements R2, D2).
func TestFailedRound(t *testing.T) {
	const a = memberSet(1)
	// A fault that may pass, on an HSM that is in service.
	good := failedRound{
		passing: true, left: a, able: a, recent: true,
		pause: 2 * time.Millisecond, time: 150 * time.Millisecond,
	}
	for _, row := range []struct {
		name   string
		change func(*failedRound)
		step   step
		why    reason
	}{
		{"a fault", func(*failedRound) {}, askAnother, mayPass},
		{"the last round", func(f *failedRound) { f.number = len(roundPauses) - 1 }, askAnother, mayPass},
		{"rounds enough", func(f *failedRound) { f.number = len(roundPauses) }, giveUp, roundsEnough},
		{"two crashes", func(f *failedRound) { f.crashes = crashesEnough - 1 }, askAnother, mayPass},
		{"three crashes", func(f *failedRound) { f.crashes = crashesEnough }, giveUp, crashing},
		{"nobody left", func(f *failedRound) { f.left, f.able = 0, 0 }, giveUp, nobodyLeft},
		{"a verdict, and no HSM for the second", func(f *failedRound) { f.refused, f.able = true, 0 }, giveUp, noSecond},
		{"a verdict, and an HSM for the second", func(f *failedRound) { f.refused = true }, askAnother, mayPass},
		{"no verdict, and no HSM is able", func(f *failedRound) { f.able = 0 }, askAnother, mayPass},
		{"a doubt", func(f *failedRound) { f.doubted, f.passing = true, false }, askAnother, mayBeBusy},
		{"a doubt in an outage", func(f *failedRound) {
			f.doubted, f.passing, f.recent = true, false, false
		}, askAnother, mayBeBusy},
		{"a doubt for the second time", func(f *failedRound) {
			f.doubted, f.passing, f.number = true, false, doubtRounds
		}, giveUp, nothingPasses},
		{"busy, or about the key", func(f *failedRound) { f.passing = false }, giveUp, nothingPasses},
		{"a long outage", func(f *failedRound) { f.recent = false }, giveUp, longOutage},
		{"just enough time", func(f *failedRound) { f.time = f.pause + leastTime }, askAnother, mayPass},
		{"too little time", func(f *failedRound) { f.time = f.pause + leastTime - 1 }, giveUp, noTime},
		{"a doubt, too little time", func(f *failedRound) { f.doubted, f.time = true, 0 }, giveUp, noTime},
	} {
		round := good
		row.change(&round)
		next, why := round.next()
		if next != row.step || why != row.why {
			t.Errorf("%s: step %d because %q, want %d because %q", row.name, next, why, row.step, row.why)
		}
	}
}

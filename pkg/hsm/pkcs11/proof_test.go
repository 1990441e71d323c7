package pkcs11

// The state machine of a proof: as a table, and with many busy HSMs that are well a moment before.

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

func TestProofSteps(t *testing.T) {
	for _, test := range []struct {
		name          string
		refusals      int
		goods         int64
		blind         bool
		clean, inTime bool
		want          proofStep
	}{
		{"its own key first", 1, 0, false, true, true, askOwnKey},
		{"the first refusal", 1, 0, false, true, true, askCanary},
		{"a canary between two tries", 1, 1, false, true, true, repeatCall},
		{"a canary too few", 2, 1, false, true, true, askCanary},
		{"many canaries do not replace repeats", 2, 100, false, true, true, repeatCall},
		{"the last repeat is due", proofRepeats, 100, false, true, true, repeatCall},
		{"canaries missing", 1 + proofRepeats, proofGoods - 1, false, true, true, askCanary},
		{"all there", 1 + proofRepeats, proofGoods, false, true, true, callRefused},
		{"all there, not clean", 1 + proofRepeats, proofGoods, false, false, true, callUnproven},
		{"all there, but too late", 1 + proofRepeats, proofGoods, false, true, false, callUnproven},
		{"not clean: no canary, a repeat", 1, 0, false, false, true, repeatCall},
		{"not clean: the last repeat", proofRepeats, 0, false, false, true, repeatCall},
		{"not clean: no more repeats", 1 + proofRepeats, 0, false, false, true, callUnproven},
		{"no test key: a repeat", 1, 0, true, true, true, repeatCall},
		{"no test key: no verdict", 1 + proofRepeats, 100, true, true, true, callUnproven},
		{"no time at all", 1, 0, false, true, false, callUnproven},
	} {
		p := proof{refusals: test.refusals, blind: test.blind}
		p.ownTried = test.name != "its own key first"
		p.goods.Store(test.goods)
		got := p.next(test.clean, test.inTime)
		if got != test.want {
			t.Errorf("%s: step %d, want %d", test.name, got, test.want)
		}
	}
}

// A proof has the time of ten calls, within bounds.
func TestProofTime(t *testing.T) {
	least, most := leastProofTime, mostProofTime
	defer func() { leastProofTime, mostProofTime = least, most }()
	leastProofTime, mostProofTime = 50*time.Millisecond, 200*time.Millisecond
	const ms = time.Millisecond
	for _, test := range []struct {
		slowest, takes time.Duration
		want           bool
	}{
		{1 * ms, 40 * ms, true}, {1 * ms, 60 * ms, false},
		{10 * ms, 60 * ms, true}, {10 * ms, 110 * ms, false},
		{50 * ms, 150 * ms, true}, {50 * ms, 210 * ms, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := proof{began: time.Now()}
			start := time.Now()
			time.Sleep(test.slowest)
			p.timed(start)
			time.Sleep(test.takes - test.slowest)
			if p.inTime() != test.want {
				t.Errorf("%v after calls of %v: in time %v", test.takes, test.slowest, !test.want)
			}
		})
	}
}

// fakeBusy is an HSM that was well until now and refuses each call with probability p.
type fakeBusy struct {
	random *rand.Rand
	p      float64
	wrong  bool // it was caught
}

func (f *fakeBusy) refuses() bool { return f.random.Float64() < f.p }

// decrypt is the life of one good ciphertext. It reports a wrong verdict.
func (f *fakeBusy) decrypt() bool {
	if !f.refuses() {
		return false
	}
	p := proof{refusals: 1}
	for {
		switch p.next(!f.wrong, true) {
		case repeatCall:
			if !f.refuses() {
				f.wrong = true
				return false
			}
			p.refusals++
		case askOwnKey, askCanary:
			p.ownTried = true
			if f.refuses() {
				f.wrong = true
			} else {
				p.goods.Add(1)
			}
		case callRefused:
			return true
		case callUnproven:
			return false
		}
	}
}

// Less than one wrong verdict in 10,000 changes from well to busy, whatever the probability.
func TestProofByChance(t *testing.T) {
	const changes = 400_000
	random := rand.New(rand.NewPCG(1, 2))
	for _, percent := range []float64{1, 5, 10, 15, 21, 25, 30, 40, 50, 70, 90} {
		verdicts := 0
		for range changes {
			f := fakeBusy{random: random, p: percent / 100}
			for !f.wrong {
				if f.decrypt() {
					verdicts++
				}
			}
		}
		t.Logf("%v %%: %d wrong verdicts in %d changes", percent, verdicts, changes)
		if verdicts > changes/10_000 {
			t.Errorf("%v %%: %d wrong verdicts in %d changes", percent, verdicts, changes)
		}
	}
}

// Without the canaries, or without the repeats, the same HSMs get good ciphertexts called bad: the
// numbers are not higher than they need to be.
func TestProofNeedsBoth(t *testing.T) {
	chance := func(p float64, repeats, goods int) float64 {
		result := 1.0
		for range repeats {
			result *= p
		}
		for range goods {
			result *= 1 - p
		}
		return result
	}
	for _, p := range []float64{0.1, 0.3, 0.5} {
		if chance(p, proofRepeats, proofGoods) > 1e-4 {
			t.Errorf("%v: %v", p, chance(p, proofRepeats, proofGoods))
		}
	}
	if chance(0.3, proofRepeats-1, proofGoods) < 1e-4 ||
		chance(0.21, proofRepeats, proofGoods-3) < 1e-4 {
		t.Error("fewer calls would do")
	}
}

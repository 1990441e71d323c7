package faulty_test

// Every action does what it says.

import (
	"encoding/hex"
	"math/bits"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"xks-proxy/test/faulty"
)

const (
	iv    = "000102030405060708090a0b"
	plain = "00112233445566778899"
)

// Without rules it is a plain SoftHSM, the functions with eight arguments included.
func TestForwards(t *testing.T) {
	r := newRig(t)
	sealed := r.details(t, "encrypt "+iv+" "+plain)
	r.want(t, "pair", "ok") // the same key, wrapped and unwrapped
	r.want(t, "decrypt "+iv+" "+sealed[1], "ok "+plain)
	if r.Calls("C_UnwrapKey") != 1 || r.Calls("C_Encrypt") != 2 || r.Calls(faulty.Every) < 10 {
		t.Errorf("counted %d C_UnwrapKey, %d C_Encrypt (of which one asks for the size), %d of all", r.Calls("C_UnwrapKey"), r.Calls("C_Encrypt"), r.Calls(faulty.Every))
	}
	r.injected(t, 0)
}

func TestReturn(t *testing.T) {
	r := newRig(t)
	for _, test := range []struct{ function, job, want string }{
		{"C_GetTokenInfo", "token", "C_GetTokenInfo 0x30"},
		{"C_OpenSession", "open", "C_OpenSession 0x30"},
		{"C_GetSessionInfo", "state", "C_GetSessionInfo 0x30"},
		{"C_FindObjectsInit", "find k", "C_FindObjectsInit 0x30"},
		{"C_GenerateRandom", "random", "C_GenerateRandom 0x30"},
		{"C_DecryptInit", "decrypt " + iv + " " + plain, "C_DecryptInit 0x30"},
		{"C_Encrypt", "encrypt " + iv + " " + plain, "C_Encrypt 0x30"},
		{faulty.Every, "token", "C_GetTokenInfo 0x30"},
		{faulty.Sessions, "random", "C_GenerateRandom 0x30"},
		{faulty.Crypto, "encrypt " + iv + " " + plain, "C_EncryptInit 0x30"},
	} {
		before := r.Injected()
		r.set(t, faulty.Rule{Function: test.function, Action: faulty.Return, Code: 0x30})
		r.want(t, test.job, test.want)
		r.injected(t, before+1)
		r.Clear()
	}
	// The call that was answered for the HSM never reached it, so that the operation is still active.
	r.want(t, "encrypt "+iv+" "+plain, "C_EncryptInit 0x90")
	r.set(t, faulty.Rule{Function: faulty.Sessions, Action: faulty.Return, Code: 0xB3})
	r.want(t, "token", "ok")
}

func TestErrorAfter(t *testing.T) {
	r := newRig(t)
	r.set(t, faulty.Rule{Function: "C_GenerateKey", Action: faulty.ErrorAfter, Code: 0x30, Times: 1})
	r.want(t, "generate twin", "C_GenerateKey 0x30")
	got := r.details(t, "find twin")
	if got[0] != "1" {
		t.Errorf("found %v: the key was not made", got)
	}
	r.injected(t, 1)
}

func TestDelay(t *testing.T) {
	r := newRig(t)
	took := func(job string) time.Duration {
		start := time.Now()
		r.want(t, job, "ok")
		return time.Since(start)
	}
	r.set(t, faulty.Rule{Function: "C_GetTokenInfo", Action: faulty.Delay, Delay: 40 * time.Millisecond})
	if d := took("token"); d < 40*time.Millisecond {
		t.Errorf("took %v, delayed by 40 ms", d)
	}
	r.set(t, faulty.Rule{Function: faulty.Every, Action: faulty.Delay, Jitter: 40 * time.Millisecond})
	shortest, longest := time.Hour, time.Duration(0)
	for range 20 {
		d := took("random")
		shortest, longest = min(shortest, d), max(longest, d)
	}
	if shortest > 20*time.Millisecond || longest < 20*time.Millisecond {
		t.Errorf("20 calls with a jitter of 40 ms took from %v to %v", shortest, longest)
	}
	// Several rules at once: both waits, then the answer.
	slow := faulty.Rule{Function: "C_GenerateRandom", Action: faulty.Delay, Delay: 20 * time.Millisecond}
	r.set(t, slow, slow, faulty.Rule{Function: "C_GenerateRandom", Action: faulty.Return, Code: 5})
	before, start := r.Injected(), time.Now()
	r.want(t, "random", "C_GenerateRandom 0x5")
	if d := time.Since(start); d < 40*time.Millisecond {
		t.Errorf("took %v, delayed by 20 ms twice", d)
	}
	r.injected(t, before+3)
}

// A hang blocks, without using the processor, wherever it happens, and ends with the rule.
func TestHang(t *testing.T) {
	for _, test := range []struct {
		function, job string
		until         int // steps of the way in that come before
	}{
		{"C_Initialize", "initialize", 1}, {"C_OpenSession", "open", 3}, {"C_Login", "login", 4}, {"C_GetTokenInfo", "token", 5},
		{"C_EncryptInit", "encrypt " + iv + " " + plain, 6}, {"C_Encrypt", "encrypt " + iv + " " + plain, 6}, {"C_GetSessionInfo", "state", 6},
	} {
		t.Run(test.function, func(t *testing.T) {
			r := newRig(t)
			r.stop()
			r.start(t)
			for _, job := range []string{"load", "initialize", "slots", "open", "login", "find k"}[:test.until] {
				r.details(t, job)
			}
			r.set(t, faulty.Rule{Function: test.function, Action: faulty.Hang, Times: 1})
			r.begin(t, test.job)
			r.silent(t, 50*time.Millisecond)
			r.injected(t, 1)
			before := processorTime(t, r.cmd.Process.Pid)
			r.silent(t, 150*time.Millisecond)
			if used := processorTime(t, r.cmd.Process.Pid) - before; used > 50*time.Millisecond {
				t.Errorf("used the processor for %v of 150 ms", used)
			}
			r.Clear()
			if got := r.answer(t); !strings.HasPrefix(got, "ok") {
				t.Errorf("afterwards: %s", got)
			}
		})
	}
}

// Rules that take the place of others free those who hang as well.
func TestHangEndsWithItsRule(t *testing.T) {
	r := newRig(t)
	hang := faulty.Rule{Function: "C_GetTokenInfo", Action: faulty.Hang, Times: 1}
	r.set(t, hang)
	r.begin(t, "token")
	r.silent(t, 30*time.Millisecond)
	r.set(t, hang)
	if got := r.answer(t); got != "ok" {
		t.Error(got)
	}
	r.set(t, faulty.Rule{Function: "C_GetTokenInfo", Action: faulty.HangForever})
	r.begin(t, "token")
	r.silent(t, 30*time.Millisecond)
	r.Clear()
	r.silent(t, 100*time.Millisecond)
}

// processorTime is what a process has used.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	var ticks int // of 10 ms
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// The end of the process. Rules, counts and what is left of them stay.
func TestEndOfTheProcess(t *testing.T) {
	for _, test := range []struct {
		rule   faulty.Rule
		status int
		says   string
	}{
		{faulty.Rule{Function: "C_GenerateRandom", Action: faulty.Crash, Times: 2}, 2, "SIGSEGV"}, // Go's runtime turns signals into 2
		{faulty.Rule{Function: "C_GenerateRandom", Action: faulty.Abort, Times: 2}, 2, "SIGABRT"},
		{faulty.Rule{Function: "C_GenerateRandom", Action: faulty.Exit, Code: 7, Times: 2}, 7, ""},
	} {
		t.Run(test.rule.String(), func(t *testing.T) {
			r := newRig(t)
			r.set(t, test.rule)
			for range 2 {
				if got := r.do(t, "random"); got != "" {
					t.Fatalf("answered %q", got)
				}
				err := r.cmd.Wait()
				if r.cmd.ProcessState.ExitCode() != test.status || !strings.Contains(r.stderr.String(), test.says) {
					t.Errorf("ended with %v, want %d and %q: %s", err, test.status, test.says, r.stderr)
				}
				r.start(t)
				r.enter(t)
			}
			r.want(t, "random", "ok")
			r.injected(t, 2)
			if r.InjectedInto("C_GenerateRandom") != 2 || r.Calls("C_GenerateRandom") < 3 {
				t.Errorf("%d calls, %d faults", r.Calls("C_GenerateRandom"), r.InjectedInto("C_GenerateRandom"))
			}
		})
	}
}

// Exactly one bit, of the real output only: the query for the size stays right.
func TestFlipBit(t *testing.T) {
	r := newRig(t)
	right := r.details(t, "encrypt "+iv+" "+plain)[1]
	r.set(t, faulty.Rule{Function: "C_Encrypt", Action: faulty.FlipBit}, faulty.Rule{Function: "C_Decrypt", Action: faulty.FlipBit})
	for range 20 {
		wrong := r.details(t, "encrypt "+iv+" "+plain)[1]
		if n := differ(t, right, wrong); n != 1 {
			t.Fatalf("%d bits differ: %s and %s", n, right, wrong)
		}
		wrong = r.details(t, "decrypt "+iv+" "+right)[0]
		if n := differ(t, plain, wrong); n != 1 {
			t.Fatalf("%d bits differ: %s and %s", n, plain, wrong)
		}
	}
	r.injected(t, 40)
	r.Clear()
	empty := r.details(t, "encrypt "+iv+" -")[1]
	r.set(t, faulty.Rule{Function: "C_Decrypt", Action: faulty.FlipBit})
	r.want(t, "decrypt "+iv+" "+empty, "ok") // nothing to flip
	r.injected(t, 40)
}

func differ(t *testing.T, a, b string) int {
	t.Helper()
	x, errX := hex.DecodeString(a)
	y, errY := hex.DecodeString(b)
	if errX != nil || errY != nil || len(x) != len(y) {
		t.Fatalf("%s and %s", a, b)
	}
	n := 0
	for i := range x {
		n += bits.OnesCount8(x[i] ^ y[i])
	}
	return n
}

func TestTruncate(t *testing.T) {
	r := newRig(t)
	right := r.details(t, "encrypt "+iv+" "+plain)[1]
	r.set(t, faulty.Rule{Function: faulty.Every, Action: faulty.Truncate})
	if short := r.details(t, "encrypt "+iv+" "+plain)[1]; short != right[:len(right)-2] {
		t.Errorf("encrypt: %s of %s", short, right)
	}
	if short := r.details(t, "decrypt "+iv+" "+right)[0]; short != plain[:len(plain)-2] {
		t.Errorf("decrypt: %s of %s", short, plain)
	}
	r.injected(t, 2)
}

// The login goes behind the caller's back, and comes back by a new one.
func TestDropLogin(t *testing.T) {
	r := newRig(t)
	r.want(t, "state", "ok 3")
	r.set(t, faulty.Rule{Function: faulty.Sessions, Action: faulty.DropLogin, Times: 1})
	r.want(t, "random", "ok")
	r.injected(t, 1)
	r.want(t, "state", "ok 2")
	if got := r.do(t, "encrypt "+iv+" "+plain); !strings.HasPrefix(got, "C_EncryptInit") {
		t.Errorf("encrypt without a login: %s", got)
	}
	r.want(t, "login", "ok")
	if got := r.details(t, "find k"); got[0] != "1" {
		t.Errorf("found %v", got)
	}
	r.details(t, "encrypt "+iv+" "+plain)
}

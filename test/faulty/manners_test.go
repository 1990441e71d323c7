package faulty_test

// Every manner of Manners, ResetSessions, and rules about one object or one size.

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

func (r *rig) play(t *testing.T, m faulty.Manners) {
	t.Helper()
	err := r.Play(m)
	if err != nil {
		t.Fatal(err)
	}
}

// again begins a new process under new manners, logged in.
func (r *rig) again(t *testing.T, m faulty.Manners) {
	t.Helper()
	r.stop()
	r.play(t, m)
	r.start(t)
	r.enter(t)
}

func TestOwnLists(t *testing.T) {
	r := newRig(t)
	r.want(t, "second", "ok")
	r.again(t, faulty.Manners{OwnLists: true})
	r.want(t, "token", "ok")
	for range 9 { // more than there are lists: the first one's comes round again
		got := r.do(t, "second")
		if got == "ok" {
			return
		}
		if got != "C_GetTokenInfo 0x190" {
			t.Fatal(got)
		}
	}
	t.Error("the ninth caller has a list that nobody had")
}

func TestTokenInfo(t *testing.T) {
	r := newRig(t)
	own := r.do(t, "info")
	const flags = "initialized=true login=true"
	if !strings.HasPrefix(own, `ok "faulty-test`) || !strings.HasSuffix(own, flags) {
		t.Fatal(own)
	}
	for _, test := range []struct {
		token faulty.TokenInfo
		want  string
	}{
		{faulty.TokenInfo{Label: " "}, `ok "" `},
		{faulty.TokenInfo{Label: "other\x00"}, `ok "other\x00`},
		{faulty.TokenInfo{Manufacturer: "Maker", Model: "Model 3"}, `"Maker" "Model 3" `},
		{faulty.TokenInfo{Serial: strings.Repeat("0", 16)}, `"0000000000000000" initialized=true`},
		{faulty.TokenInfo{Serial: " "}, ` "" initialized=true`},
		{faulty.TokenInfo{Serial: "replaced"}, `"replaced" initialized=true`},
		{faulty.TokenInfo{ClearFlags: faulty.TokenInitialized}, "initialized=false login=true"},
		{faulty.TokenInfo{SetFlags: faulty.TokenInitialized}, "initialized=true login=true"},
	} {
		r.play(t, faulty.Manners{Token: test.token})
		got := strings.Join(r.details(t, "info"), " ")
		if !strings.Contains("ok "+got, test.want) {
			t.Errorf("%+v: %s, want %s", test.token, got, test.want)
		}
	}
	r.play(t, faulty.Manners{})
	r.want(t, "info", own)
}

func TestMechanismFlags(t *testing.T) {
	r := newRig(t)
	r.want(t, "mechanism", "ok 0x300")
	r.play(t, faulty.Manners{NoUseFlags: true})
	r.want(t, "mechanism", "ok 0x0")
}

func TestNoLogin(t *testing.T) {
	r := newRig(t)
	r.stop()
	r.play(t, faulty.Manners{NoLogin: pin})
	r.start(t)
	for _, job := range []string{"load", "initialize", "slots", "open"} {
		r.details(t, job)
	}
	r.want(t, "state", "ok 2")
	if got := r.do(t, "info"); !strings.HasSuffix(got, "login=false") {
		t.Error(got)
	}
	r.details(t, "find k")
	r.details(t, "encrypt "+iv+" "+plain)
	r.want(t, "login", "C_Login 0xA0")
	r.want(t, `login 1 ""`, "ok")
}

func TestUserType(t *testing.T) {
	r := newRig(t)
	r.stop()
	r.play(t, faulty.Manners{UserType: 0x80000001})
	r.start(t)
	for _, job := range []string{"load", "initialize", "slots", "open"} {
		r.details(t, job)
	}
	r.want(t, "login", "C_Login 0x103")
	r.want(t, "login 0x80000001 "+pin, "ok")
	r.want(t, "state", "ok 3")
}

// After one wrong PIN the right one is refused as well, in other processes too, for a while.
func TestLoginThrottle(t *testing.T) {
	r := newRig(t)
	r.play(t, faulty.Manners{Throttle: 300 * time.Millisecond, ThrottleCode: 0x6})
	for _, job := range []string{"finalize", "initialize", "slots", "open"} {
		r.details(t, job)
	}
	r.want(t, "login 1 wrong-pin", "C_Login 0xA0")
	start := time.Now()
	r.stop()
	r.start(t)
	for _, job := range []string{"load", "initialize", "slots", "open"} {
		r.details(t, job)
	}
	r.want(t, "login", "C_Login 0x6")
	r.injected(t, 1)
	time.Sleep(time.Until(start.Add(310 * time.Millisecond)))
	r.want(t, "login", "ok")
}

// The login works, and its answer says that the PIN has expired.
func TestExpiredPIN(t *testing.T) {
	r := newRig(t)
	for _, job := range []string{"finalize", "initialize", "slots", "open"} {
		r.details(t, job)
	}
	r.set(t, faulty.Rule{Function: "C_Login", Action: faulty.ErrorAfter, Code: 0xA3})
	r.want(t, "login", "C_Login 0xA3")
	r.want(t, "state", "ok 3")
}

func TestSessionLimit(t *testing.T) {
	r := newRig(t)
	for _, code := range []hsm.CKR{0x31, 0x5, 0x7, 0xB1} {
		r.again(t, faulty.Manners{MaxSessions: 12, SessionCode: code})
		before := r.Injected()
		r.want(t, "limit 20", fmt.Sprintf("ok 11 C_OpenSession 0x%X", uint32(code)))
		r.injected(t, before+1)
		r.want(t, "close", "ok")
		r.want(t, "limit 20", fmt.Sprintf("ok 1 C_OpenSession 0x%X", uint32(code)))
	}
}

func TestResetSessions(t *testing.T) {
	r := newRig(t)
	for _, code := range []hsm.CKR{0x30, 0x190} {
		r.ResetSessions(code)
		for _, job := range []string{"random", "open", "state", "find k", "login"} {
			if got := r.do(t, job); !strings.HasSuffix(got, fmt.Sprintf(" 0x%X", uint32(code))) {
				t.Errorf("%s: %s", job, got)
			}
		}
		r.want(t, "token", "ok")
		r.want(t, "slots", "ok 2")
		r.want(t, "finalize", "ok")
		r.want(t, "initialize", "ok")
		r.want(t, "slots", "ok 2")
		r.want(t, "open", "ok")
		r.want(t, "login", "ok")
		r.details(t, "find k")
		r.details(t, "encrypt "+iv+" "+plain)
	}
}

func TestGCMParameters(t *testing.T) {
	r := newRig(t)
	sealed := r.details(t, "encrypt "+iv+" "+plain)[1]
	for form, right := range map[faulty.GCMParameters]string{
		faulty.GCM48: "48", faulty.GCM40: "40", faulty.GCMZeroBits: "zero",
	} {
		r.play(t, faulty.Manners{GCM: form})
		r.want(t, "raw "+right+" "+iv+" "+sealed, "ok "+plain)
		for _, wrong := range []string{"40", "48", "zero"} {
			if form == faulty.GCM48 || wrong == right { // SoftHSM does not look at ulIvBits
				continue
			}
			r.want(t, "raw "+wrong+" "+iv+" "+sealed, "C_DecryptInit 0x71")
		}
	}
}

func TestCodes(t *testing.T) {
	r := newRig(t)
	sealed := r.details(t, "encrypt "+iv+" "+plain)[1]
	wrong := strings.Repeat("0", len(sealed))
	r.want(t, "decrypt "+iv+" "+wrong, "C_Decrypt 0x5")
	for _, code := range []hsm.CKR{0x6, 0x40, 0x80000004} {
		r.play(t, faulty.Manners{WrongTag: code, BadKey: 0x60})
		r.want(t, "decrypt "+iv+" "+wrong, fmt.Sprintf("C_Decrypt 0x%X", uint32(code)))
		r.want(t, "decrypt "+iv+" "+sealed, "ok "+plain)
	}
	r.want(t, "destroy", "ok")
	r.want(t, "encrypt "+iv+" "+plain, "C_EncryptInit 0x60")
}

func TestKeepsDeleted(t *testing.T) {
	r := newRig(t)
	r.play(t, faulty.Manners{KeepsDeleted: true})
	sealed := r.details(t, "encrypt "+iv+" "+plain)[1]
	r.want(t, "destroy", "ok")
	r.want(t, "find k", "ok 0")
	if again := r.details(t, "encrypt "+iv+" "+plain)[1]; again != sealed {
		t.Errorf("%s, before it was deleted %s", again, sealed)
	}
	r.want(t, "decrypt "+iv+" "+sealed, "ok "+plain)
	r.play(t, faulty.Manners{})
	r.want(t, "encrypt "+iv+" "+plain, "C_EncryptInit 0x82")
}

func TestNULLabels(t *testing.T) {
	r := newRig(t)
	handle := r.details(t, "find k")[1]
	r.want(t, "label "+handle, "ok k")
	r.play(t, faulty.Manners{NULLabels: true})
	r.want(t, "label "+handle, "ok k<NUL>")
	r.want(t, "find k<NUL>", "ok 1 "+handle)
	r.want(t, "find k", "ok 0")
}

func TestEndlessFind(t *testing.T) {
	r := newRig(t)
	r.want(t, "search k", "ok 1")
	r.play(t, faulty.Manners{EndlessFind: true})
	r.want(t, "search k", "ok 100")
}

// Helpers outlive their worker, and SIGTERM.
func TestHelpers(t *testing.T) {
	r := newRig(t)
	for kind, sameGroup := range map[faulty.Helper]bool{
		faulty.HelperIgnoreTerm: true, faulty.HelperSetsid: false,
	} {
		r.again(t, faulty.Manners{Helper: kind})
		pids := r.Helpers()
		pid := pids[len(pids)-1]
		t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
		waitForExec(t, pid)
		mine, err := syscall.Getpgid(r.cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		group, err := syscall.Getpgid(pid)
		if err != nil || (group == mine) != sameGroup {
			t.Errorf("kind %d: group %d, the process has %d (%v)", kind, group, mine, err)
		}
		err = syscall.Kill(pid, syscall.SIGTERM)
		if err != nil {
			t.Error(err)
		}
		_ = r.cmd.Process.Kill()
		time.Sleep(20 * time.Millisecond)
		err = syscall.Kill(pid, 0)
		if err != nil {
			t.Errorf("kind %d: ended with the worker: %v", kind, err)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// waitForExec waits until the helper is the program that it is to be.
func waitForExec(t *testing.T, pid int) {
	t.Helper()
	for range 100 {
		name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		if err == nil && string(name) == "sleep\n" {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("no helper")
}

func TestChangesOfTheProcess(t *testing.T) {
	r := newRig(t)
	r.stop()
	r.play(t, faulty.Manners{Prints: true, Moves: true, Signals: true})
	r.start(t)
	r.want(t, "load", "ok")
	r.want(t, "initialize", "faulty module: this is standard output")
	if got := r.answer(t); got != "ok" {
		t.Fatal(got)
	}
	r.want(t, "process", "ok / 000")
	err := r.cmd.Process.Signal(syscall.SIGUSR1) // ends a Go program that has not asked for it
	if err != nil {
		t.Fatal(err)
	}
	r.want(t, "slots", "ok 2")
	r.stop()
	if !strings.Contains(r.stderr.String(), "this is standard error") {
		t.Errorf("standard error: %s", r.stderr)
	}
}

// One key fails, by its label, and no other.
func TestRuleForOneLabel(t *testing.T) {
	r := newRig(t)
	r.want(t, "generate other", "ok")
	for _, function := range []string{"C_EncryptInit", "C_Encrypt", "C_GetAttributeValue"} {
		r.set(t, faulty.Rule{Function: function, Action: faulty.Return, Code: 0x30, Label: "k"})
		for _, name := range []string{"k", "other"} {
			handle := r.details(t, "find "+name)[1]
			job := "encrypt " + iv + " " + plain
			if function == "C_GetAttributeValue" {
				job = "label " + handle
			}
			got := r.do(t, job)
			right := strings.HasPrefix(got, "ok")
			if name == "k" {
				right = got == function+" 0x30"
			}
			if !right {
				t.Errorf("%s of %s: %s", function, name, got)
			}
			r.want(t, "close", "ok") // an encryption may be active still
			r.want(t, "open", "ok")
			r.want(t, "login", "ok")
		}
	}
}

// The second object that was found cannot be read, whatever it is called.
func TestRuleForOneObject(t *testing.T) {
	r := newRig(t)
	r.want(t, "generate other", "ok")
	first, second := r.details(t, "find k")[1], r.details(t, "find other")[1]
	r.set(t, faulty.Rule{Function: "C_GetAttributeValue", Action: faulty.Return, Code: 0x81000001,
		Object: 2})
	for range 3 {
		r.want(t, "label "+first, "ok k")
		r.want(t, "label "+second, "C_GetAttributeValue 0x81000001")
	}
	r.injected(t, 3)
}

// Only what is longer than an HSM takes is refused.
func TestRuleForSizes(t *testing.T) {
	r := newRig(t)
	r.set(t, faulty.Rule{Function: "C_Encrypt", Action: faulty.Return, Code: 0x21, DataOver: 10},
		faulty.Rule{Function: "C_EncryptInit", Action: faulty.Return, Code: 0x7, AADOver: 4})
	r.details(t, "encrypt "+iv+" "+plain) // 10 bytes
	r.details(t, "encrypt "+iv+" "+plain+" 01020304")
	r.want(t, "encrypt "+iv+" "+plain+" 0102030405", "C_EncryptInit 0x7")
	r.want(t, "encrypt "+iv+" "+plain+"00", "C_Encrypt 0x21")
	r.injected(t, 2)
}

func TestSlowInitialize(t *testing.T) {
	r := newRig(t)
	r.want(t, "finalize", "ok")
	r.set(t, faulty.Rule{Function: "C_Initialize", Action: faulty.Delay,
		Delay: 100 * time.Millisecond})
	start := time.Now()
	r.want(t, "initialize", "ok")
	if d := time.Since(start); d < 100*time.Millisecond {
		t.Errorf("took %v", d)
	}
}

func TestRefusedManners(t *testing.T) {
	r := newRig(t)
	for name, m := range map[string]faulty.Manners{
		"no such IV manner":      {IV: 9},
		"no such form":           {GCM: 9},
		"no such helper":         {Helper: 9},
		"a limit without a code": {MaxSessions: 3},
		"a code without a limit": {SessionCode: 3},
		"a throttle without it":  {Throttle: time.Second},
		"a long label":           {Token: faulty.TokenInfo{Label: strings.Repeat("x", 65)}},
	} {
		err := r.Play(m)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

package main

// The table of faults: what is done to an HSM, how it is undone, and what may come of it.

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
	"xks-proxy/test/faulty"
)

// fault is one row of the table. The zero values of the optional fields mean: the usual mix, no
// request may fail, nothing is counted.
type fault struct {
	name  string
	short bool          // also in the short run
	chaos bool          // also in chaos: it hits one HSM, which then heals by itself
	all   bool          // it hits every HSM at once
	rates []int         // optional: at these rates only
	mix   mix           // optional
	hold  time.Duration // optional: at least so long

	mayFail  string        // optional: why requests may fail
	maxCalls float64       // optional: calls to the HSMs for each operation that was asked for, at most
	keptOut  time.Duration // optional: how much longer than healedLimit an HSM may stay out
	detect   time.Duration // optional: under load it must be noticed within this time
	noneSlow bool          // optional: not a single request may take over 200 ms

	// inject starts the fault and gives what tells, before heal, whether it really happened.
	inject func(w *world, t *target) (func() bool, error)
	heal   func(w *world, t *target) error // optional: rules are cleared in any case
}

// The codes of pkcs11t.h that are answered.
const (
	ckrGeneralError   hsm.CKR = 0x05
	ckrFunctionFailed hsm.CKR = 0x06
	ckrDeviceError    hsm.CKR = 0x30
	ckrKeyHandle      hsm.CKR = 0x60 + 0x22 // CKR_OBJECT_HANDLE_INVALID, which modules answer for a key, too
	ckrKeyHandleExact hsm.CKR = 0x60
	ckrOperation      hsm.CKR = 0x90
	ckrSessionCount   hsm.CKR = 0xB1
	ckrSessionHandle  hsm.CKR = 0xB3
	ckrNotLoggedIn    hsm.CKR = 0x101
)

var integrityOnly = mix{Encrypts: 100, Integrity: 100}

// faults is the table, in the order in which it is run.
var faults = []fault{
	{name: "none", short: true, inject: func(*world, *target) (func() bool, error) { return always, nil }},

	// The process of the HSM ends or stands still.
	rule("crash in C_Encrypt, once", faulty.Rule{Function: "C_Encrypt", Action: faulty.Crash, Times: 1}).promptly().inShort().inChaos(),
	rule("crash in C_Encrypt, always", faulty.Rule{Function: "C_Encrypt", Action: faulty.Crash}).promptly().inChaos(),
	rule("abort in C_Decrypt, once", faulty.Rule{Function: "C_Decrypt", Action: faulty.Abort, Times: 1}).promptly().inChaos(),
	rule("exit in C_Decrypt, once", faulty.Rule{Function: "C_Decrypt", Action: faulty.Exit, Code: 1, Times: 1}).promptly().inChaos(),
	signalled("SIGKILL", syscall.SIGKILL).promptly().inShort().inChaos(),
	signalled("SIGSTOP", syscall.SIGSTOP).promptly().inShort().inChaos(),

	// A call never comes back.
	rule("hang in C_Encrypt", faulty.Rule{Function: "C_Encrypt", Action: faulty.Hang}).noticed().inShort().inChaos(),
	rule("hang in C_Encrypt, 2 calls forever", faulty.Rule{Function: "C_Encrypt", Action: faulty.HangForever, Times: 2}).inChaos(),
	rule("hang in C_DecryptInit", faulty.Rule{Function: "C_DecryptInit", Action: faulty.Hang}).noticed().inChaos(),
	rule("hang in C_OpenSession at restart", faulty.Rule{Function: "C_OpenSession", Action: faulty.Hang}).killed().inChaos(),
	rule("hang in C_Login at restart", faulty.Rule{Function: "C_Login", Action: faulty.Hang}).killed().inChaos(),
	rule("hang in C_GetTokenInfo", faulty.Rule{Function: "C_GetTokenInfo", Action: faulty.Hang}).lasting(3 * time.Second).inChaos(),

	// It is slow.
	rule("every call +50 ms", faulty.Rule{Function: faulty.Every, Action: faulty.Delay, Delay: 50 * time.Millisecond}).inShort().inChaos(),
	rule("every call +250 ms", faulty.Rule{Function: faulty.Every, Action: faulty.Delay, Delay: 250 * time.Millisecond}).inChaos(),
	rule("every call +0–300 ms", faulty.Rule{Function: faulty.Every, Action: faulty.Delay, Jitter: 300 * time.Millisecond}).inShort().inChaos(),

	// It answers with errors.
	rule("CKR_DEVICE_ERROR", answers(faulty.Crypto, ckrDeviceError)...).inShort().inChaos(),
	removed("CKR_DEVICE_REMOVED").inChaos(),
	rule("CKR_GENERAL_ERROR", answers(faulty.Crypto, ckrGeneralError)...).inChaos(),
	rule("CKR_FUNCTION_FAILED after the effect", faulty.Rule{Function: faulty.Crypto, Action: faulty.ErrorAfter, Code: ckrFunctionFailed}).inChaos(),
	rule("CKR_SESSION_HANDLE_INVALID", answers(faulty.Crypto, ckrSessionHandle)...).inChaos(),
	rule("CKR_SESSION_COUNT at restart", answers("C_OpenSession", ckrSessionCount)...).killed().inChaos(),
	rule("CKR_USER_NOT_LOGGED_IN", answers(faulty.Crypto, ckrNotLoggedIn)...).inChaos(),
	rule("CKR_KEY_HANDLE_INVALID", append(answers("C_EncryptInit", ckrKeyHandleExact), answers("C_DecryptInit", ckrKeyHandleExact)...)...).inShort().inChaos(),
	rule("CKR_OBJECT_HANDLE_INVALID", append(answers("C_EncryptInit", ckrKeyHandle), answers("C_DecryptInit", ckrKeyHandle)...)...).inChaos(),
	rule("CKR_OPERATION_ACTIVE", append(answers("C_EncryptInit", ckrOperation), answers("C_DecryptInit", ckrOperation)...)...).inChaos(),
	rule("5 % of calls fail", faulty.Rule{Function: faulty.Crypto, Action: faulty.Return, Code: ckrDeviceError, PerMillion: 50_000}).inShort().inChaos(),

	// What is on it goes away.
	tokenAway().inShort().inChaos(),
	keyDeleted().inShort().inChaos(),
	loginLost("login lost, once", func(t *target) error {
		return t.control.Set(faulty.Rule{Function: "C_EncryptInit", Action: faulty.DropLogin, Times: 1})
	}).inShort().inChaos(),
	loginLost("login lost, 1 % of calls", func(t *target) error {
		return t.control.Set(faulty.Rule{Function: "C_EncryptInit", Action: faulty.DropLogin, PerMillion: 10_000})
	}).inChaos(),
	loginLost("reboot: login lost, other handles", func(t *target) error {
		t.control.Reboot()
		return nil
	}).inChaos(),

	// It answers, and wrongly.
	rule("flipped bit in ciphertext, CDIV", faulty.Rule{Function: "C_Encrypt", Action: faulty.FlipBit}).with(mix{Encrypts: 50, Integrity: 100}).inShort(),
	rule("flipped bit in plaintext, CDIV", faulty.Rule{Function: "C_Decrypt", Action: faulty.FlipBit}).with(integrityOnly),
	rule("truncated ciphertext", faulty.Rule{Function: "C_Encrypt", Action: faulty.Truncate}).inChaos(),
	rule("truncated plaintext", faulty.Rule{Function: "C_Decrypt", Action: faulty.Truncate}).inChaos(),

	// Both at once.
	bothSlow("both slow, +25 ms", 25*time.Millisecond, 600),
	bothSlow("both slow, +5 ms", 5*time.Millisecond, 1800),
	oneDownOtherWeak().inShort(),
}

func always() bool { return true }

// rule is a fault that the module makes.
func rule(name string, rules ...faulty.Rule) fault {
	return fault{name: name, inject: func(_ *world, t *target) (func() bool, error) { return setRules(t, rules) }}
}

func setRules(t *target, rules []faulty.Rule) (func() bool, error) {
	before := t.control.Injected()
	err := t.control.Set(rules...)
	return func() bool { return t.control.Injected() > before }, err
}

func answers(function string, code hsm.CKR) []faulty.Rule {
	return []faulty.Rule{{Function: function, Action: faulty.Return, Code: code}}
}

// promptly is a fault that must be noticed within detectLimit, noticed one that must be within hangLimit.
func (f fault) promptly() fault { f.detect = detectLimit; return f }
func (f fault) noticed() fault  { f.detect = hangLimit; return f }

func (f fault) inShort() fault { f.short = true; return f }
func (f fault) inChaos() fault { f.chaos = true; return f }

func (f fault) with(m mix) fault { f.mix = m; return f }

func (f fault) lasting(hold time.Duration) fault { f.hold = hold; return f }

// killed kills the process as well, for faults that only a start meets.
func (f fault) killed() fault {
	inject := f.inject
	f.inject = func(w *world, t *target) (func() bool, error) {
		happened, err := inject(w, t)
		if err != nil {
			return nil, err
		}
		_, err = w.signalWorker(t, syscall.SIGKILL)
		return happened, err
	}
	return f
}

// signalled hits the process of the HSM. A frozen one that is still there is woken in the end.
func signalled(name string, signal syscall.Signal) fault {
	return fault{name: name, inject: func(w *world, t *target) (func() bool, error) {
		pid, err := w.signalWorker(t, signal)
		return func() bool { return w.workerOf(t) != pid || signal == syscall.SIGSTOP }, err
	}, heal: func(w *world, t *target) error {
		if pid := w.workerOf(t); pid != 0 && signal == syscall.SIGSTOP {
			_ = syscall.Kill(pid, syscall.SIGCONT) // mostly another process by now, which does not mind
		}
		return nil
	}}
}

// removed is an HSM that every call finds gone, and that a process finds again only by C_Initialize.
func removed(name string) fault {
	return fault{name: name, inject: func(_ *world, t *target) (func() bool, error) {
		before := t.control.Injected()
		t.control.Remove()
		return func() bool { return t.control.Injected() > before }, nil
	}, heal: func(_ *world, t *target) error {
		t.control.PutBack()
		return nil
	}}
}

// tokenAway moves the token's directory away: to the module it looks as if all keys had been deleted.
func tokenAway() fault {
	return fault{name: "token directory gone", inject: func(_ *world, t *target) (func() bool, error) {
		return always, os.Rename(t.tokens(), t.tokens()+".away")
	}, heal: func(_ *world, t *target) error {
		return os.Rename(t.tokens()+".away", t.tokens())
	}}
}

// keyDeleted deletes one of the keys in use on one HSM, and makes it again from the same value.
func keyDeleted() fault {
	return fault{name: "key deleted on one HSM", inject: func(_ *world, t *target) (func() bool, error) {
		_, err := t.do(tokenJob{Destroy: []hsm.KeyRef{{Label: lostKey, Version: 1}}})
		return always, err
	}, heal: func(w *world, t *target) error {
		_, err := t.do(tokenJob{Create: []pkcs11.NewKey{w.lost}})
		time.Sleep(listingInterval * 3 / 2) // until it has been seen
		return err
	}}
}

// loginLost shows in the log-in that must follow.
func loginLost(name string, lose func(*target) error) fault {
	return fault{name: name, inject: func(_ *world, t *target) (func() bool, error) {
		before := t.control.Calls("C_Login")
		return func() bool { return t.control.Calls("C_Login") > before }, lose(t)
	}}
}

// bothSlow slows every cryptographic call (two for each operation) down on all HSMs, which still
// have sessions enough for the load: it must not be answered with twice the calls.
func bothSlow(name string, delay time.Duration, rates ...int) fault {
	return fault{name: name, all: true, rates: rates, maxCalls: 1.25, inject: func(w *world, t *target) (func() bool, error) {
		return setRules(t, []faulty.Rule{{Function: faulty.Crypto, Action: faulty.Delay, Delay: delay}})
	}}
}

// oneDownOtherWeak leaves only an HSM that fails one operation in a hundred: it has to be asked again.
func oneDownOtherWeak() fault {
	down := removed("")
	return fault{name: "one down, the other fails 1 %", inject: func(w *world, t *target) (func() bool, error) {
		happened := []func() bool{}
		for _, other := range w.others(t) {
			weak, err := setRules(other, []faulty.Rule{
				{Function: "C_EncryptInit", Action: faulty.Return, Code: ckrDeviceError, PerMillion: 10_000},
				{Function: "C_DecryptInit", Action: faulty.Return, Code: ckrDeviceError, PerMillion: 10_000},
			})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", other.Name, err)
			}
			happened = append(happened, weak)
		}
		gone, err := down.inject(w, t)
		return func() bool {
			for _, other := range happened {
				if !other() {
					return false
				}
			}
			return gone()
		}, err
	}, heal: down.heal}
}

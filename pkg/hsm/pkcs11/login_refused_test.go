package pkcs11

// Logins that are refused: what the operator is told, and when the next one is made.

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

// A PIN that has expired lets the user log in, and nothing else works.
func TestExpiredPINAfterLogin(t *testing.T) {
	c, control := newVendor(t)
	play(t, control, faulty.Manners{Token: faulty.TokenInfo{SetFlags: pinToBeChanged}})
	expired := faulty.Rule{
		Function: "C_FindObjectsInit",
		Action:   faulty.Return,
		Code:     ckrPINExpired,
	}
	vendor{Control: control}.set(t, expired)
	e := openFails(
		t,
		c,
		hsm.ErrPINIncorrect,
		"CKR_PIN_EXPIRED",
		"the login worked",
		"set a new one",
		"hsm restart",
	)
	if e.Code != ckrPINExpired {
		t.Errorf("%+v", e)
	}
	logins := control.Calls("C_Login")
	openFails(t, c, hsm.ErrPINIncorrect, "CKR_PIN_EXPIRED", "not tried again")
	if control.Calls("C_Login") != logins {
		t.Error("the PIN was tried again")
	}
	// Another token sets the flag, and works.
	c, control = newVendor(t)
	play(t, control, faulty.Manners{Token: faulty.TokenInfo{SetFlags: pinToBeChanged}})
	openPlayed(t, c, control).serves(t)
}

// Each refusal of a login says what to do.
func TestLoginAdvice(t *testing.T) {
	for rv, words := range map[hsm.CKR][]string{
		0xA0:       {"tried once"},
		0xA3:       {"expired", "set a new one"},
		0xA4:       {"security officer must reset it"},
		0x102:      {"no user PIN yet", "security officer"},
		0x103:      {"user type 0x80000001", "set user_type"},
		0x104:      {"another user", "end that session"},
		0x105:      {"another user"},
		0x6:        {"refuse every login for a while", "longer pause"},
		0x80000012: {"longer pause"},
	} {
		err := UserCrypto.loginError(rv)
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q is missing in: %v", rv, word, err)
			}
		}
	}
}

// An HSM that refuses every login for a while is not asked again and again.
func TestLoginThrottle(t *testing.T) {
	v := openVendor(t, nil)
	v.Reboot()
	v.set(t, faulty.Rule{Function: "C_Login", Action: faulty.Return, Code: 0x6})
	before := v.Calls("C_Login")
	for range 50 {
		err := v.Alive(t.Context())
		if !errors.Is(err, hsm.ErrUnavailable) ||
			!strings.Contains(err.Error(), "refuse every login for a while") {
			t.Fatal(err)
		}
	}
	if tried := v.Calls("C_Login") - before; tried != 1 {
		t.Errorf("50 checks made %d logins", tried)
	}
	v.Clear()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := v.Alive(t.Context())
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("not logged in again: %v", err)
		}
	}
	v.serves(t)
}

func TestLoginPause(t *testing.T) {
	now := time.Now()
	var p loginPause
	var pauses []time.Duration
	for range 10 {
		p.failed(now, &hsm.Error{Kind: hsm.ErrUnavailable})
		pauses = append(pauses, p.until.Sub(now))
		if p.check(p.until.Add(-time.Millisecond)) == nil || p.check(p.until) != nil {
			t.Error("the pause does not hold, or does not end")
		}
	}
	if pauses[0] != firstLoginPause || pauses[9] != maxLoginPause || !slices.IsSorted(pauses) {
		t.Errorf("%v", pauses)
	}
	// A device that is away is no throttle: the end of its absence must not be waited for.
	for _, rv := range []hsm.CKR{0x30, 0x32, 0xE0, 0xB3, 0x190} {
		if isUnclearRefusal(rv) {
			t.Errorf("%s pauses the login", rv)
		}
	}
}

// Two tokens without a serial number do not share a refused PIN, and neither do two user types.
func TestRefusedPINBelongsToOneUser(t *testing.T) {
	m := &module{path: "/m.so"}
	id := func(token identity, user UserType) [32]byte {
		l := login{module: m, token: token, user: user, pin: "1"}
		return l.attemptID()
	}
	zero := identity{label: "a", serial: "0000"}
	if id(zero, "") == id(identity{label: "b", serial: "0000"}, "") ||
		id(zero, "") == id(zero, UserCrypto) {
		t.Error("a PIN that one refused is held back from another")
	}
	numbered := identity{label: "a", serial: "17"}
	if id(numbered, "") != id(identity{label: "renamed", serial: "17"}, UserNormal) {
		t.Error("a new label would have a refused PIN tried again")
	}
}

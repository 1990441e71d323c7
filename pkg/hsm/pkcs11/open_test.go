package pkcs11

// Everything that keeps a token from opening, and what the operator is told.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

// openFails opens and wants an error of that kind whose text has all the words and
// never the PIN.
func openFails(t *testing.T, c Config, kind error, words ...string) *hsm.Error {
	t.Helper()
	token, err := Open(t.Context(), c)
	if err == nil {
		_ = token.Close(t.Context())
		t.Fatal("opened")
	}
	var e *hsm.Error
	if !errors.Is(err, kind) || !errors.As(err, &e) {
		t.Fatalf("want %v, got: %v", kind, err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q is missing in: %v", word, err)
		}
	}
	if c.PIN != "" && strings.Contains(err.Error(), string(c.PIN)) {
		t.Errorf("the PIN is in: %v", err)
	}
	return e
}

func TestOpenTellsAboutTheToken(t *testing.T) {
	c, _ := newTestToken(t)
	token := openTest(t, c)
	info := token.Info()
	if info.Label != c.Token || len(info.Serial) != 16 || !strings.Contains(info.Manufacturer, "SoftHSM") || info.Model == "" ||
		!strings.Contains(info.Library, "PKCS11") || info.FirmwareVersion == "" || info.Sessions != DefaultSessions {
		t.Errorf("%+v", info)
	}
	listed, err := ListTokens(testModule)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, one := range listed {
		found = found || one.Label == c.Token && one.Serial == info.Serial
	}
	if !found {
		t.Errorf("ListTokens: %+v", listed)
	}
}

func TestOpenRefusesBadModules(t *testing.T) {
	good, _ := newTestToken(t)
	text := filepath.Join(t.TempDir(), "module.so")
	err := os.WriteFile(text, []byte(strings.Repeat("this is a text file\n", 100)), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	libc := libraryWithoutPKCS11(t)
	for _, test := range []struct {
		module string
		words  []string
	}{
		{"/nowhere/lib.so", []string{"/nowhere/lib.so", "does not exist", "install"}},
		{text, []string{text, "cannot be loaded", "ELF"}},
		{filepath.Dir(text), []string{"is a directory"}},
		{libc, []string{"not a PKCS#11 module", "C_GetFunctionList"}},
		{"lib.so", []string{"absolute path"}},
	} {
		c := good
		c.Module = test.module
		openFails(t, c, hsm.ErrModule, test.words...)
	}
}

// libraryWithoutPKCS11 finds a shared library that every process has loaded.
func libraryWithoutPKCS11(t *testing.T) string {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		fields := strings.Fields(line)
		if len(fields) == 6 && strings.Contains(fields[5], "libc.so") {
			return fields[5]
		}
	}
	t.Fatal("no libc in /proc/self/maps")
	return ""
}

func TestOpenListsTheTokensThatAreThere(t *testing.T) {
	c, _ := newTestToken(t)
	missing := c
	missing.Token = "no-such-token"
	m, err := acquireModule(c.Module)
	if err != nil {
		t.Fatal(err)
	}
	defer m.release(true)
	present, err := presentTokens(m)
	if err != nil {
		t.Fatal(err)
	}
	// Other tests have made tokens as well, and a message names so many at most.
	listed := []string{"no-such-token"}
	for _, slot := range present[:min(len(present), maxListed)] {
		listed = append(listed, slot.String())
	}
	openFails(t, missing, hsm.ErrTokenNotFound, listed...)
	serial := c
	serial.Serial = "0123456789abcdef"
	openFails(t, serial, hsm.ErrTokenNotFound, append(listed[1:], serial.Serial)...)
}

func TestOpenRefusesTwoTokensWithOneLabel(t *testing.T) {
	c, _ := newTestToken(t)
	twinLabel := c.Token + "-twin"
	for range 2 {
		m, err := acquireModule(testModule)
		if err != nil {
			t.Fatal(err)
		}
		defer m.release(true)
		slot, err := freeSlot(m, "")
		if err != nil {
			t.Fatal(err)
		}
		err = m.ctx.InitToken(slot, testSOPIN, twinLabel)
		if err != nil {
			t.Fatal(err)
		}
	}
	twin := c
	twin.Token = twinLabel
	e := openFails(t, twin, hsm.ErrTokenNotFound, "2 tokens", twinLabel, "set serial of the right one")
	if strings.Count(e.Detail, "serial ") < 3 {
		t.Errorf("both serials should be named: %s", e.Detail)
	}
	err := InitToken(testModule, twinLabel, testSOPIN, testPIN)
	if !errors.Is(err, hsm.ErrTokenNotFound) || !strings.Contains(err.Error(), "already there") {
		t.Errorf("InitToken with a taken label: %v", err)
	}
}

// A wrong PIN is tried once in the life of the process, whoever asks again.
func TestWrongPINIsTriedOnce(t *testing.T) {
	c, _ := newTestToken(t)
	wrong := c
	wrong.PIN = "31415926"
	e := openFails(t, wrong, hsm.ErrPINIncorrect, "tried once", "WARNING")
	if e.Function != "C_Login" || e.Code != ckrPINIncorrect || !hsm.IsConfig(e) {
		t.Errorf("first: %+v", e)
	}
	for range 3 {
		e := openFails(t, wrong, hsm.ErrPINIncorrect, "not tried again")
		if e.Function != "" {
			t.Errorf("the PIN went to the HSM again: %v", e)
		}
	}
	openTest(t, c) // the right one still works
}

func TestLastTryIsNotTaken(t *testing.T) {
	for _, test := range []struct {
		flags uint
		want  error
	}{
		{p11.CKF_TOKEN_INITIALIZED, nil},
		{p11.CKF_USER_PIN_COUNT_LOW, nil},
		{p11.CKF_USER_PIN_COUNT_LOW | p11.CKF_USER_PIN_FINAL_TRY, hsm.ErrPINLocked},
		{p11.CKF_USER_PIN_LOCKED, hsm.ErrPINLocked},
	} {
		err := flagsAllowLogin(test.flags)
		if !errors.Is(err, test.want) {
			t.Errorf("flags 0x%X: %v", test.flags, err)
		}
	}
}

func TestLoginErrors(t *testing.T) {
	for rv, want := range map[hsm.CKR]error{
		0xA0: hsm.ErrPINIncorrect, 0xA1: hsm.ErrPINIncorrect, 0xA2: hsm.ErrPINIncorrect, 0xA3: hsm.ErrPINIncorrect,
		0x102: hsm.ErrPINIncorrect, 0xA4: hsm.ErrPINLocked, 0x30: hsm.ErrUnavailable, 0x5: hsm.ErrUnavailable, 0x104: hsm.ErrUnavailable,
		0x103: hsm.ErrModule, 0x105: hsm.ErrUnavailable, 0x80000001: hsm.ErrUnavailable,
	} {
		err := UserType("").loginError(rv)
		if !errors.Is(err, want) || err.Code != rv || err.Function != "C_Login" {
			t.Errorf("%s: %v", rv, err)
		}
	}
}

func TestOpenRefusesAMissingMechanism(t *testing.T) {
	c, _ := newTestToken(t)
	c.Overrides.Mechanism = 0x80001234
	openFails(t, c, hsm.ErrModule, "0x80001234")
	c.Overrides.Mechanism = p11.CKM_SHA256
	openFails(t, c, hsm.ErrModule, "not for both encrypt and decrypt")
}

func TestOpenWithAnEndedContext(t *testing.T) {
	c, _ := newTestToken(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Open(ctx, c)
	if !errors.Is(err, hsm.ErrTimeout) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestCallsWithAnEndedContext(t *testing.T) {
	token := openWith(t, NewKey{Label: "k"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := token.Encrypt(ctx, ref("k", 0), nil, nil)
	if !errors.Is(err, hsm.ErrTimeout) || !errors.Is(err, context.Canceled) {
		t.Errorf("encrypt: %v", err)
	}
	_, err = token.Keys(ctx)
	if !errors.Is(err, hsm.ErrTimeout) {
		t.Errorf("keys: %v", err)
	}
	_, err = token.Find(ctx, "k")
	if !errors.Is(err, hsm.ErrTimeout) {
		t.Errorf("find: %v", err)
	}
}

func TestClosedToken(t *testing.T) {
	c, _ := newTestToken(t)
	token, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	err = token.CreateKeys(t.Context(), []NewKey{{Label: "k"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := token.Close(t.Context())
		if err != nil {
			t.Fatal(err)
		}
	}
	_, encryptErr := token.Encrypt(t.Context(), ref("k", 0), nil, nil)
	_, decryptErr := token.Decrypt(t.Context(), ref("k", 0), nil, hsm.Sealed{IV: make([]byte, 12), Tag: make([]byte, 16)})
	_, missErr := token.Encrypt(t.Context(), ref("other", 0), nil, nil)
	_, keysErr := token.Keys(t.Context())
	_, findErr := token.Find(t.Context(), "k")
	for i, err := range []error{encryptErr, decryptErr, missErr, keysErr, findErr, token.Alive(t.Context()), token.CreateKeys(t.Context(), nil)} {
		var e *hsm.Error
		if !errors.Is(err, hsm.ErrUnavailable) || !errors.As(err, &e) {
			t.Errorf("call %d after Close: %v", i, err)
		}
	}
	openTest(t, c) // and the token opens again in the same process
}

// Close waits for calls in flight, and gives up, without an end to the module, when
// they do not come back.
func TestCloseWithACallInFlight(t *testing.T) {
	c, _ := newTestToken(t)
	token, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	s, err := token.work.get(t.Context()) // a call that hangs keeps its session
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = token.Close(ctx)
	if !errors.Is(err, hsm.ErrTimeout) {
		t.Errorf("close: %v", err)
	}
	_, err = s.module.ctx.GetSessionInfo(s.handle)
	if err != nil {
		t.Errorf("the session of the call in flight is gone: %v", err)
	}
	token.work.put(s)
}

func TestErrorsNeverShowThePIN(t *testing.T) {
	c := Config{Module: "/m.so", Token: "t", PIN: testPIN, Profile: "softhsm"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{c, &c, c.PIN, []Config{c}, struct{ C Config }{c}, map[string]any{"c": c}} {
			text := fmt.Sprintf(verb, value)
			if strings.Contains(text, testPIN) || strings.Contains(text, fmt.Sprintf("%x", testPIN)) {
				t.Errorf("%s of %T shows the PIN: %s", verb, value, text)
			}
		}
	}
}

package pkcs11

// A token that goes away or forgets us, for real (requirements X7, R2).

import (
	"errors"
	"os"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

// An outage looks like an empty token to C_FindObjects. Nothing may take it for one.
func TestTokenDirectoryRemoved(t *testing.T) {
	c, dir := newTestToken(t)
	token := openTest(t, c)
	err := token.CreateKeys(t.Context(), []NewKey{{Label: "k"}, {Label: "canary-key"}})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := token.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	err = os.Rename(dir, dir+".away")
	if err != nil {
		t.Fatal(err)
	}
	allFail(t, "while it is away", token, sealed)
	err = os.Rename(dir+".away", dir)
	if err != nil {
		t.Fatal(err)
	}
	allFail(t, "after it came back, without a new process", token, sealed) // SoftHSM does not heal; a fault it must stay
}

// allFail says that every call is a fault of the HSM, and none a verdict on keys or requests.
func allFail(t *testing.T, when string, token *Token, sealed hsm.Sealed) {
	t.Helper()
	for range 2 {
		_, encryptErr := token.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
		_, decryptErr := token.Decrypt(t.Context(), ref("k", 0), nil, sealed)
		_, tamperedErr := token.Decrypt(t.Context(), ref("k", 0), []byte("wrong"), sealed)
		_, missErr := token.Encrypt(t.Context(), ref("other", 0), nil, []byte("x"))
		keys, keysErr := token.Keys(t.Context())
		found, findErr := token.Find(t.Context(), "k")
		if keys != nil || found != nil {
			t.Errorf("%s: keys %v, found %v", when, keys, found)
		}
		for i, err := range []error{encryptErr, decryptErr, tamperedErr, missErr, keysErr, findErr, token.Alive(t.Context())} {
			if !errors.Is(err, hsm.ErrUnavailable) || !hsm.IsFault(err) {
				t.Errorf("%s: call %d: %v", when, i, err)
			}
		}
	}
}

// A device that is unplugged answers so; when it is back, those who knew it are blind until they begin
// anew, as with HSMs behind a network.
func TestDeviceRemoved(t *testing.T) {
	v := openVendor(t, nil)
	sealed, err := v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	v.Remove()
	allFail(t, "while it is away", v.Token, sealed)
	v.PutBack()
	allFail(t, "after it came back, without a new process", v.Token, sealed)
	if v.Injected() == 0 {
		t.Error("the device was never away")
	}
}

// The login is lost, and the first try to log in again takes effect although its answer is an error.
func TestLoginAnswersAnErrorAndTakesEffect(t *testing.T) {
	v := openVendor(t, nil)
	v.set(t, faulty.Rule{Function: "C_EncryptInit", Action: faulty.DropLogin, Times: 1},
		faulty.Rule{Function: "C_Login", Action: faulty.ErrorAfter, Code: 0x30, Times: 1})
	_, err := v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
	if !errors.Is(err, hsm.ErrUnavailable) || v.InjectedInto("C_Login") != 1 {
		t.Fatalf("first: %v", err)
	}
	_, err = v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
	if err != nil {
		t.Errorf("then: %v", err)
	}
}

// A call that hangs holds its session and nothing else: the others serve on, and when it comes back
// its result counts.
func TestHungCallHoldsOneSession(t *testing.T) {
	v := openVendor(t, func(c *Config) { c.Sessions = 3 })
	v.set(t, faulty.Rule{Function: "C_Encrypt", Action: faulty.Hang, Times: 2})
	hung := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
			hung <- err
		}()
	}
	for v.Injected() < 2 {
		time.Sleep(time.Millisecond)
	}
	for range 20 {
		sealed, err := v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		opensOn(t, "the HSM", v.Token, nil, []byte("x"), sealed)
	}
	_, err := v.Keys(t.Context())
	if err != nil {
		t.Error(err)
	}
	if len(hung) != 0 {
		t.Error("a call did not hang")
	}
	v.Clear()
	for range 2 {
		err := <-hung
		if err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
}

// Whatever is lost at the HSM's end and can be had again is had again, within the call.
func TestHealsWithinTheCall(t *testing.T) {
	breakages := map[string]func(*testing.T, *Token){
		"login lost": func(t *testing.T, token *Token) {
			err := token.module.ctx.Logout(token.login.anchor)
			if err != nil {
				t.Fatal(err)
			}
		},
		"all sessions closed": func(t *testing.T, token *Token) {
			err := token.module.ctx.CloseAllSessions(token.login.slot)
			if err != nil {
				t.Fatal(err)
			}
		},
		"an operation left active": func(t *testing.T, token *Token) {
			s := onlySession(t, token)
			e, _ := token.keys.get(ref("k", 0))
			params := p11.NewGCMParams(make([]byte, 12), nil, 128)
			defer params.Free()
			err := token.module.ctx.EncryptInit(s.handle, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}, p11.ObjectHandle(e.handle))
			if err != nil {
				t.Fatal(err)
			}
		},
		"handles changed": func(t *testing.T, token *Token) {
			e, _ := token.keys.get(ref("k", 0))
			wrong := *e
			wrong.handle += 1000
			token.keys.mu.Lock()
			token.keys.byLabel["k"][0] = &wrong
			token.keys.mu.Unlock()
		},
	}
	calls := map[string]func(*testing.T, *Token, hsm.Sealed) error{
		"encrypt": func(t *testing.T, token *Token, _ hsm.Sealed) error {
			_, err := token.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
			return err
		},
		"decrypt": func(t *testing.T, token *Token, sealed hsm.Sealed) error {
			_, err := token.Decrypt(t.Context(), ref("k", 0), nil, sealed)
			return err
		},
		"keys": func(t *testing.T, token *Token, _ hsm.Sealed) error {
			keys, err := token.Keys(t.Context())
			if err == nil && len(keys) != 2 {
				t.Errorf("keys: %v", keys)
			}
			return err
		},
		"find": func(t *testing.T, token *Token, _ hsm.Sealed) error {
			found, err := token.Find(t.Context(), "k")
			if err == nil && len(found) != 1 {
				t.Errorf("found: %v", found)
			}
			return err
		},
		"bad ciphertext": func(t *testing.T, token *Token, sealed hsm.Sealed) error {
			_, err := token.Decrypt(t.Context(), ref("k", 0), []byte("wrong"), sealed)
			if !errors.Is(err, hsm.ErrRefusedCiphertext) {
				return err
			}
			return nil
		},
	}
	for breakage, breakIt := range breakages {
		for call, do := range calls {
			t.Run(breakage+"/"+call, func(t *testing.T) {
				c, _ := newTestToken(t)
				c.Sessions = 1
				token := openTest(t, c)
				err := token.CreateKeys(t.Context(), []NewKey{{Label: "k"}, {Label: "canary-key"}})
				if err != nil {
					t.Fatal(err)
				}
				sealed, err := token.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
				if err != nil {
					t.Fatal(err)
				}
				breakIt(t, token)
				err = do(t, token, sealed)
				if err != nil {
					t.Error(err)
				}
				err = token.Alive(t.Context())
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A PIN that the HSM no longer takes is tried once, then never again.
func TestReloginWithAChangedPIN(t *testing.T) {
	c, _ := newTestToken(t)
	token := openTest(t, c)
	err := token.CreateKeys(t.Context(), []NewKey{{Label: "k"}})
	if err != nil {
		t.Fatal(err)
	}
	err = token.module.ctx.SetPIN(rawSession(t, token), testPIN, "another-pin")
	if err != nil {
		t.Fatal(err)
	}
	err = token.module.ctx.Logout(token.login.anchor)
	if err != nil {
		t.Fatal(err)
	}
	_, err = token.Encrypt(t.Context(), ref("k", 0), nil, nil)
	var e *hsm.Error
	if !errors.Is(err, hsm.ErrPINIncorrect) || !errors.As(err, &e) || e.Function != "C_Login" {
		t.Fatalf("first: %v", err)
	}
	for range 5 {
		_, err := token.Encrypt(t.Context(), ref("k", 0), nil, nil)
		if !errors.Is(err, hsm.ErrPINIncorrect) || !errors.As(err, &e) || e.Function != "" {
			t.Fatalf("the PIN was tried again: %v", err)
		}
	}
}

// The canary outlives its key: made anew, or, with no test key left, missed.
func TestCanaryKeyReplaced(t *testing.T) {
	c, _ := newTestToken(t)
	token := openTest(t, c)
	err := token.CreateKeys(t.Context(), []NewKey{{Label: "k"}, {Label: "canary-key"}})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := token.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	tamper := func(when string, want error) {
		t.Helper()
		_, err := token.Decrypt(t.Context(), ref("k", 0), []byte("wrong"), sealed)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", when, err)
		}
	}
	tamper("at first", hsm.ErrRefusedCiphertext)
	if token.canary.sample.Load() == nil {
		t.Fatal("no canary was made")
	}
	inAnotherProcess(t, childJob{Config: c, Action: "destroy", Label: "canary-key"})
	tamper("test key deleted", hsm.ErrUnprovenCiphertext)
	inAnotherProcess(t, childJob{Config: c, Action: "create", Label: "canary-key"})
	_, err = token.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tamper("test key made anew", hsm.ErrRefusedCiphertext)
	if token.canary.sample.Load() == nil {
		t.Error("no canary was made with the new test key")
	}
}

package pkcs11

// A login that is in the middle of C_Login: it has taken effect, or is about to, and C_Login has not
// returned. What others do meanwhile must not count.

import (
	"bytes"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

// hangInLogin reboots the HSM and starts a login that hangs in C_Login until the rules change. The
// channel gives its result.
func hangInLogin(t *testing.T, v vendor) <-chan error {
	t.Helper()
	before := v.InjectedInto("C_Login")
	v.Reboot()
	v.set(t, faulty.Rule{Function: "C_Login", Action: faulty.Hang, Times: 1})
	result := make(chan error, 1)
	go func() { result <- v.Alive(t.Context()) }()
	for end := time.Now().Add(10 * time.Second); v.InjectedInto("C_Login") == before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("C_Login was not called")
		}
	}
	return result
}

// A handle from before the reboot is now another key's, and from the moment at which C_Login took
// effect it can be used. What is encrypted under it would be lost.
func TestOldHandleWhileLoginReturns(t *testing.T) {
	v := openVendor(t, func(c *Config) { c.Sessions = 2 })
	err := v.CreateKeys(t.Context(), []NewKey{{Label: "before"}, {Label: "m", Value: v.value}, {Label: "behind"}})
	if err != nil {
		t.Fatal(err)
	}
	good := sealWithGo(t, v.value, 12, nil, []byte("x"))
	session := rawSession(t, v.Token)
	for round := range 4 {
		loggedIn := hangInLogin(t, v)
		// The login takes effect, as far as the token is concerned.
		err := v.module.ctx.Login(session, p11.CKU_USER, testPIN)
		if err != nil {
			t.Fatal(err)
		}
		type result struct {
			sealed     hsm.Sealed
			encryptErr error
			decryptErr error
		}
		results := make(chan result, 1)
		go func() {
			var r result
			r.sealed, r.encryptErr = v.Encrypt(t.Context(), ref("m", 0), nil, []byte("x"))
			_, r.decryptErr = v.Decrypt(t.Context(), ref("m", 0), nil, good)
			results <- r
		}()
		time.Sleep(20 * time.Millisecond) // without the cure both are done by now
		v.Clear()
		r := <-results
		err = <-loggedIn
		if err != nil || r.encryptErr != nil || r.decryptErr != nil {
			t.Fatalf("round %d: log in %v, encrypt %v, decrypt %v", round, err, r.encryptErr, r.decryptErr)
		}
		_, err = goGCM(t, v.value, 12).Open(nil, r.sealed.IV, append(bytes.Clone(r.sealed.Ciphertext), r.sealed.Tag...), nil)
		if err != nil {
			t.Errorf("round %d: encrypted under another key: %v", round, err)
		}
	}
}

// A search that began before the login took effect found nothing. It must be made again, also if
// C_Login took effect and answered an error.
func TestSearchWhileLoginReturns(t *testing.T) {
	passedOver := faulty.Rule{Function: "C_Login", Action: faulty.Return, Code: 0x30, After: 1 << 40} // the call that hung goes on behind the first rule
	for name, then := range map[string][]faulty.Rule{
		"and succeeds":                   nil,
		"and takes effect with an error": {passedOver, {Function: "C_Login", Action: faulty.ErrorAfter, Code: 0x30, Times: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			v := openVendor(t, nil)
			loggedIn := hangInLogin(t, v)
			searches := v.Calls("C_FindObjectsFinal")
			results := make(chan error, 1)
			go func() {
				found, err := v.Find(t.Context(), "k")
				if err == nil && len(found) != 1 {
					t.Errorf("found %v", found)
				}
				results <- err
			}()
			for v.Calls("C_FindObjectsFinal") == searches {
				time.Sleep(time.Millisecond)
			}
			v.set(t, then...)
			err := <-loggedIn
			if (err != nil) != (then != nil) {
				t.Errorf("log in: %v", err)
			}
			err = <-results
			if err != nil {
				t.Error(err)
			}
		})
	}
}

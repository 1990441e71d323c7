package pkcs11

// Modules and tokens that do as others than SoftHSM do: lists, sessions, slow and unreadable
// objects.

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

// A module that gives each caller of C_GetFunctionList a list of its own, of which only the
// initialised one works.
func TestListForEachCaller(t *testing.T) {
	v := openVendor(t, nil)
	err := v.Play(faulty.Manners{OwnLists: true})
	if err != nil {
		t.Fatal(err)
	}
	// In another process, because the manner is that of a module that is loaded anew.
	inAnotherProcess(t, childJob{Config: v.config, Action: "use", Label: "k"})
}

// The list is read out of miekg's structure: this fails if a release of it changes that.
func TestFunctionList(t *testing.T) {
	m, err := acquireModule(testModule)
	if err != nil {
		t.Fatal(err)
	}
	defer m.release(true)
	list, known := functionList(m.ctx)
	if !known || list == nil || list != m.gcm || majorVersion(list) != 2 {
		t.Errorf("%v, %v", list, known)
	}
}

func sessions(n int) func(*Config) { return func(c *Config) { c.Sessions = n } }

// reading is a rule about attribute calls for objects of a label; "" is any.
func reading(label string, code hsm.CKR) faulty.Rule {
	return faulty.Rule{Function: "C_GetAttributeValue", Label: label, Action: faulty.Return, Code: code}
}

// A session that is refused while others are open is one too many, in whatever words. Nothing fails
// for it, and listings and the canary have theirs.
func TestSessionLimit(t *testing.T) {
	for _, code := range []hsm.CKR{0xB1, 0x31, 0x30, 0x7, 0x5} {
		for _, limit := range []int{4, 12} {
			t.Run(fmt.Sprintf("%d sessions, then %v", limit, code), func(t *testing.T) {
				v := openPlaying(t, faulty.Manners{MaxSessions: limit, SessionCode: code}, sessions(32))
				var requests sync.WaitGroup
				for range 32 {
					requests.Go(func() {
						for range 20 {
							_, err := v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
							if err != nil {
								t.Error(err)
								return
							}
						}
					})
				}
				for range 3 {
					_, err := v.Keys(t.Context())
					if err != nil {
						t.Error(err)
					}
					s, err := v.work.get(t.Context())
					if err != nil {
						t.Error(err)
						continue
					}
					at := &seat{from: v.work, s: s}
					err = v.vouch(t.Context(), at, true)
					at.leave(err == nil)
					if err != nil {
						t.Error(err)
					}
				}
				requests.Wait()
			})
		}
	}
}

// Where listings have lost their session to others, they get one back.
func TestReservedSessions(t *testing.T) {
	v := openPlaying(t, faulty.Manners{MaxSessions: 6, SessionCode: 0x31}, sessions(8))
	var taken []*session
	for range v.admin.size {
		s, err := v.admin.get(t.Context())
		if err == nil {
			taken = append(taken, s)
		}
	}
	for _, s := range taken {
		v.admin.drop(s)
	}
	taken = nil
	for range 4 { // all that the token has left
		s, err := v.work.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, s)
	}
	for _, s := range taken {
		v.work.put(s)
	}
	_, err := v.Keys(t.Context())
	if err != nil {
		t.Errorf("the listing starves: %v", err)
	}
}

// With no session open, or a token that does not answer, a refused session is a fault.
func TestRefusedSessionIsAFault(t *testing.T) {
	v := openPlaying(t, faulty.Manners{}, func(c *Config) { c.Sessions = 2 })
	v.set(t, faulty.Rule{Function: faulty.Every, Action: faulty.Return, Code: 0x30})
	_, err := v.openWork()
	if !errors.Is(err, hsm.ErrUnavailable) || errors.Is(err, hsm.ErrBusy) {
		t.Errorf("a dead token: %v", err)
	}
	v.Clear()
	v.ResetSessions(0x190)
	_, err = v.openWork()
	if !errors.Is(err, hsm.ErrUnavailable) || errors.Is(err, hsm.ErrBusy) {
		t.Errorf("reset sessions: %v", err)
	}
}

// One object that cannot be read, whatever it answers, is named and the others serve.
func TestUnreadableObject(t *testing.T) {
	for _, code := range []hsm.CKR{0x80000001, 0x5, 0x7, 0x30, 0x101, 0x82} {
		t.Run(code.String(), func(t *testing.T) {
			v := openPlaying(t, faulty.Manners{}, nil)
			err := v.CreateKeys(t.Context(), []NewKey{{Label: "broken"}})
			if err != nil {
				t.Fatal(err)
			}
			v.keys.replaceAll(nil) // as in a process that has not read it
			v.set(t, reading("broken", code))
			found, err := v.Keys(t.Context())
			read, unreadable := hsm.SplitUnreadable(found)
			if err != nil || len(read) != 2 || len(unreadable) != 1 {
				t.Fatalf("%+v, %v", found, err)
			}
			if why := unreadable[0].Unreadable; why.Code != code || why.Handle == 0 {
				t.Errorf("%+v", why)
			}
			_, err = v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
			if err != nil {
				t.Error(err)
			}
			_, err = v.Encrypt(t.Context(), ref("broken", 0), nil, []byte("x"))
			if !errors.Is(err, hsm.ErrKeyFault) {
				t.Errorf("the key itself: %v", err)
			}
			found, err = v.Find(t.Context(), "broken")
			if err != nil || len(found) != 1 || found[0].Unreadable == nil ||
				found[0].Label != "broken" {
				t.Errorf("%+v, %v", found, err)
			}
			v.Clear()
			_, err = v.Encrypt(t.Context(), ref("broken", 0), nil, []byte("x"))
			if err != nil {
				t.Errorf("after it was repaired: %v", err)
			}
		})
	}
}

// An object that was read before in this process is served on as it was.
func TestObjectReadBefore(t *testing.T) {
	v := openPlaying(t, faulty.Manners{}, nil)
	v.set(t, reading("k", 0x30))
	found, err := v.Keys(t.Context())
	read, unreadable := hsm.SplitUnreadable(found)
	if err != nil || len(read) != 2 || len(unreadable) != 0 {
		t.Errorf("%+v, %v", found, err)
	}
	_, err = v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
	if err != nil {
		t.Error(err)
	}
}

// No object can be read: that is not an empty token (X7).
func TestNothingReadable(t *testing.T) {
	v := openPlaying(t, faulty.Manners{}, nil)
	for _, known := range []bool{true, false} {
		if !known {
			v.keys.replaceAll(nil)
		}
		v.set(t, reading("", 0x30))
		_, err := v.Keys(t.Context())
		if !errors.Is(err, hsm.ErrUnavailable) {
			t.Errorf("known before: %v: %v", known, err)
		}
		v.Clear()
	}
}

// Attribute calls that fail now and then cost nothing but a repetition.
func TestAttributesFailNowAndThen(t *testing.T) {
	v := openPlaying(t, faulty.Manners{}, nil)
	for i := range 100 {
		err := v.CreateKeys(t.Context(), []NewKey{{Label: fmt.Sprint("many-", i)}})
		if err != nil {
			t.Fatal(err)
		}
	}
	rule := reading("", 0x30)
	rule.PerMillion = 5000
	v.set(t, rule)
	for range 20 {
		found, err := v.Keys(t.Context())
		_, unreadable := hsm.SplitUnreadable(found)
		if err != nil || len(found) != 102 || len(unreadable) > 0 {
			t.Fatalf("%d objects, %v, %v", len(found), unreadable, err)
		}
	}
	if v.InjectedInto("C_GetAttributeValue") == 0 {
		t.Error("no call failed")
	}
}

// A token is open long before its keys are listed, and a key is found live meanwhile. What was
// found then stays known.
func TestFindBesideAListing(t *testing.T) {
	v := openPlaying(t, faulty.Manners{}, func(c *Config) { c.Sessions = 4 })
	for i := range 150 {
		err := v.CreateKeys(t.Context(), []NewKey{{Label: fmt.Sprint("many-", i)}})
		if err != nil {
			t.Fatal(err)
		}
	}
	v.keys.replaceAll(nil)
	const slow = 6 * time.Millisecond
	v.set(t, faulty.Rule{Function: "C_GetAttributeValue", Action: faulty.Delay, Delay: slow})
	progress := 0
	listing := make(chan error, 1)
	go func() {
		_, err := v.Keys(hsm.WithProgress(t.Context(), func() { progress++ }))
		listing <- err
	}()
	time.Sleep(50 * time.Millisecond)
	direct := Config{Module: testModule, Token: v.config.Token, PIN: testPIN}
	inAnotherProcess(t, childJob{Config: direct, Action: "create", Label: "later"})
	for _, label := range []string{"many-149", "k", "later"} {
		begin := time.Now()
		_, err := v.Encrypt(t.Context(), ref(label, 0), nil, []byte("x"))
		if took := time.Since(begin); err != nil || took > 500*time.Millisecond {
			t.Errorf("%s: %v after %v", label, err, took)
		}
	}
	select {
	case err := <-listing:
		t.Fatalf("the listing was over too soon for this test: %v", err)
	default:
	}
	err := <-listing
	if err != nil || progress < 150 {
		t.Errorf("%d steps, %v", progress, err)
	}
	_, known := v.keys.get(ref("later", 0))
	if !known {
		t.Error("what was found during the listing is forgotten")
	}
}

// A token whose C_Initialize is slow, and whose every attribute call is: open as soon as it is
// logged in.
func TestOpenListsNothing(t *testing.T) {
	v := openPlaying(t, faulty.Manners{}, nil)
	before := v.Calls("C_FindObjectsInit")
	c := v.config
	c.TestKey = ""
	token := openOnly(t, c)
	<-token.prepared
	if got := v.Calls("C_FindObjectsInit") - before; got != 0 {
		t.Errorf("%d searches to open a token", got)
	}
}

// openOnly opens a token as production does.
func openOnly(t *testing.T, c Config) *Token {
	t.Helper()
	token, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = token.Close(context.Background()) })
	return token
}

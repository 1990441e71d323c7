package group_test

// Objects that one HSM does not let be read, and listings that take long (requirement X7).

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/hsmtest"
)

func unreadable(label string, handle uint64) hsm.Object {
	return hsm.Object{Label: label, Unreadable: &hsm.Unreadable{Handle: handle, Code: 0x80000001}}
}

// What else the HSM holds is served, and the object is named.
func TestUnreadableObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logs *observer.ObservedLogs
		tokens := newTokens(2)
		tokens[1].AddObject(unreadable("k", 77), nil)
		tokens[1].AddObject(unreadable("", 78), nil)
		g := start(t, tokens, logTo(&logs))
		for range 10 {
			_, _, err := request(t, g)
			if err != nil {
				t.Fatal(err)
			}
		}
		key, err := g.Key(inBudget(t), "k")
		if err != nil || key.Complete() {
			t.Errorf("%+v, %v: the object may be another version, or the same one twice", key, err)
		}
		_, err = g.KeyWithVersion(inBudget(t), hsm.KeyRef{Label: "k", Version: 9})
		if !errors.Is(err, hsm.ErrUnavailable) || errors.Is(err, hsm.ErrKeyNotFound) ||
			!strings.Contains(err.Error(), "handle 77") {
			t.Errorf("a version that may be the object: %v", err)
		}
		_, err = g.Key(inBudget(t), "no such key")
		wantError(t, err, hsm.ErrKeyNotFound)
		list := g.Status().Members[1].Unreadable
		if len(list) != 2 || list[0].Handle != 77 || list[0].Label != "k" ||
			!strings.Contains(list[0].Code, "0x80000001") {
			t.Errorf("the status shows %+v", list)
		}
		if logs.FilterMessageSnippet("cannot be read and are left out").Len() != 1 {
			t.Error("they are not logged once")
		}
		tokens[1].RemoveKey("k")
		tokens[1].RemoveKey("")
		tokens[1].AddKey("k", 1)
		time.Sleep(time.Minute)
		key, err = g.Key(inBudget(t), "k")
		if err != nil || !key.Complete() || len(g.Status().Members[1].Unreadable) != 0 {
			t.Errorf("after it was repaired: %+v, %v", key, err)
		}
	})
}

// A key of which no object can be read any more is as it was last seen, and one that never was read
// is not missing.
func TestUnreadableKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		tokens[0].AddObject(unreadable("new", 5), nil)
		tokens[1].AddObject(unreadable("new", 6), nil)
		tokens[1].RemoveKey("k")
		tokens[1].AddObject(unreadable("k", 7), nil)
		time.Sleep(time.Minute)
		_, err := g.Key(inBudget(t), "new")
		if !errors.Is(err, hsm.ErrUnavailable) || errors.Is(err, hsm.ErrKeyNotFound) {
			t.Errorf("a key that cannot be read: %v", err)
		}
		key, err := g.Key(inBudget(t), "k")
		if err != nil {
			t.Fatal(err)
		}
		version, err := key.EncryptVersion()
		if err != nil || version != 1 || key.Complete() || len(key.Missing) > 0 {
			t.Errorf("version %d of %+v, %v", version, key, err)
		}
	})
}

func tenMinutes(ctx context.Context, _ hsmtest.Op, _ hsm.KeyRef) error {
	select {
	case <-time.After(10 * time.Minute):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A start does not wait for a listing that takes ten minutes; keys are looked for one by one until
// then.
func TestLongListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		for _, token := range tokens {
			token.SetHook(on(hsmtest.OpKeys, tenMinutes))
		}
		begin := time.Now()
		g := start(t, tokens)
		if took := time.Since(begin); took > 1500*time.Millisecond {
			t.Errorf("the start took %v", took)
		}
		key, err := g.Key(inBudget(t), "k")
		if err != nil {
			t.Fatal(err)
		}
		version, err := key.EncryptVersion()
		if err != nil {
			t.Fatal(err)
		}
		live := hsm.KeyRef{Label: "k", Version: version}
		sealed, _, err := g.Encrypt(inBudget(t), live, aad, text)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = g.Decrypt(inBudget(t), live, aad, sealed)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Minute)
		if status := g.Status(); status.Keys == 0 || status.Members[0].KeysListed.IsZero() {
			t.Errorf("never listed: %+v", status)
		}
	})
}

package pkcs11

// Objects that are found and cannot be read: deleted in between, or a token that is not well.

import (
	"errors"
	"fmt"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

// An object that is listed and not known when asked for is looked at again, and then left out by
// name. A token that takes none of its own handles has not lost its keys (requirement X7).
func TestVanishingObjects(t *testing.T) {
	v := openVendor(t, nil)
	for _, code := range []hsm.CKR{0x82, 0x60} {
		for _, test := range []struct {
			after, times uint64
			keys         error
			unreadable   int // objects, in the listing
			encrypt      error
		}{
			{0, 0, hsm.ErrUnavailable, 0, hsm.ErrKeyFault},
			{1, 0, hsm.ErrUnavailable, 0, nil},
			{0, 1, nil, 0, nil},
			{1, 1, nil, 0, nil},
			{0, listTries - 1, nil, 0, nil},
			{0, listTries, nil, 1, hsm.ErrKeyFault},
		} {
			rule := faulty.Rule{Function: "C_GetAttributeValue", Action: faulty.Return, Code: code, After: test.after, Times: test.times}
			t.Run(fmt.Sprint(rule), func(t *testing.T) {
				v.set(t, rule)
				found, err := v.Keys(t.Context())
				read, unreadable := hsm.SplitUnreadable(found)
				if !errors.Is(err, test.keys) || err == nil && len(read) != 2-test.unreadable || len(unreadable) != test.unreadable {
					t.Errorf("%d of 2 keys, %v, %v; want %v", len(read), unreadable, err, test.keys)
				}
				v.set(t, rule)
				v.keys.replaceAll(nil)
				_, err = v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
				if test.after == 0 && !errors.Is(err, test.encrypt) || errors.Is(err, hsm.ErrKeyNotFound) {
					t.Errorf("encrypt: %v; want %v", err, test.encrypt)
				}
				v.Clear()
				found, err = v.Keys(t.Context())
				read, _ = hsm.SplitUnreadable(found)
				if err != nil || len(read) != 2 {
					t.Errorf("afterwards: %d of 2 keys, %v", len(read), err)
				}
			})
		}
	}
}

// A key that is deleted between find and read is not there, and the others are.
func TestDeletedDuringListing(t *testing.T) {
	v := openVendor(t, nil)
	err := v.CreateKeys(t.Context(), []NewKey{{Label: "short-lived"}})
	if err != nil {
		t.Fatal(err)
	}
	v.set(t, faulty.Rule{Function: "C_GetAttributeValue", Action: faulty.Hang, Times: 1})
	before := v.Injected()
	keys := make(chan []hsm.Object, 1)
	go func() {
		found, err := v.Keys(t.Context())
		if err != nil {
			t.Error(err)
		}
		keys <- found
	}()
	for v.Injected() == before {
		time.Sleep(time.Millisecond)
	}
	destroy(t, v, "short-lived")
	v.Clear()
	found := <-keys
	if len(found) != 2 || found[0].Label == "short-lived" || found[1].Label == "short-lived" {
		t.Errorf("%v", found)
	}
}

// destroy deletes a key without a look at the token.
func destroy(t *testing.T, v vendor, label string) {
	t.Helper()
	e, ok := v.keys.get(ref(label, 0))
	if !ok {
		t.Fatalf("no key %q", label)
	}
	err := v.module.ctx.DestroyObject(rawSession(t, v.Token), p11.ObjectHandle(e.handle))
	if err != nil {
		t.Fatal(err)
	}
}

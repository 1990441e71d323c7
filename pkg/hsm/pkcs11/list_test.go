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

// A token that takes none of its own handles, or not all, has not lost its keys (requirement X7). One
// that does so in passing is looked at again.
func TestUnreadableObjects(t *testing.T) {
	v := openVendor(t, nil)
	for _, code := range []hsm.CKR{0x82, 0x60} {
		for _, test := range []struct {
			after, times uint64
			want         error
		}{
			{0, 0, hsm.ErrUnavailable},
			{1, 0, hsm.ErrUnavailable},
			{0, 1, nil},
			{1, 1, nil},
			{0, listTries - 1, nil},
			{0, listTries, hsm.ErrUnavailable},
		} {
			rule := faulty.Rule{Function: "C_GetAttributeValue", Action: faulty.Return, Code: code, After: test.after, Times: test.times}
			for name, call := range map[string]func() (int, error){
				"keys": func() (int, error) { keys, err := v.Keys(t.Context()); return len(keys), err },
				"find": func() (int, error) { keys, err := v.Find(t.Context(), "k"); return len(keys) + 1, err },
				"encrypt": func() (int, error) {
					v.keys.replaceAll(nil)
					_, err := v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
					return 2, err
				},
			} {
				if name != "keys" && test.after > 0 {
					continue // they read one object only
				}
				t.Run(fmt.Sprint(rule, " ", name), func(t *testing.T) {
					v.set(t, rule)
					n, err := call()
					if !errors.Is(err, test.want) || errors.Is(err, hsm.ErrKeyNotFound) || err == nil && n != 2 {
						t.Errorf("%d of 2 keys, %v; want %v", n, err, test.want)
					}
					v.Clear()
					n, err = call()
					if err != nil || n != 2 {
						t.Errorf("afterwards: %d of 2 keys, %v", n, err)
					}
				})
			}
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

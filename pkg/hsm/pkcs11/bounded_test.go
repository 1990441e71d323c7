package pkcs11

// Modules that answer without end, or with sizes that no memory holds: an error that says so, and
// little memory.

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

// A search that never ends took 5 GB of memory and never came back.
func TestEndlessSearch(t *testing.T) {
	for name, test := range map[string]struct {
		manners faulty.Manners
		want    string
	}{
		"the same object": {faulty.Manners{EndlessFind: true}, "does not end"},
		"new objects":     {faulty.Manners{NewFinds: true}, "more than 1000000 objects"},
	} {
		t.Run(name, func(t *testing.T) {
			v := openPlaying(t, faulty.Manners{}, nil)
			err := v.Play(test.manners)
			if err != nil {
				t.Fatal(err)
			}
			_, err = v.Keys(t.Context())
			var e *hsm.Error
			if !errors.As(err, &e) || !errors.Is(err, hsm.ErrUnavailable) || e.Function != "C_FindObjects" ||
				!strings.Contains(e.Detail, test.want) {
				t.Errorf("Keys: %v", err)
			}
			_, err = v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
			if err != nil {
				t.Errorf("the key that is known: %v", err)
			}
			err = v.Play(faulty.Manners{})
			if err != nil {
				t.Fatal(err)
			}
			found, err := v.Keys(t.Context())
			if err != nil || len(found) != 2 {
				t.Errorf("afterwards: %v, %v", found, err)
			}
		})
	}
}

// A listing that nobody waits for ends with its caller.
func TestAbandonedListing(t *testing.T) {
	v := openPlaying(t, faulty.Manners{}, nil)
	v.set(t, faulty.Rule{Function: "C_FindObjects", Action: faulty.Delay, Delay: 20 * time.Millisecond})
	err := v.Play(faulty.Manners{NewFinds: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err = v.Keys(ctx)
	if !errors.Is(err, hsm.ErrTimeout) || time.Since(begin) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
}

// A value of 1 TiB makes one object unreadable and no more.
func TestAbsurdLength(t *testing.T) {
	v := openPlaying(t, faulty.Manners{}, nil)
	v.keys.replaceAll(nil)
	err := v.Play(faulty.Manners{LongValues: true})
	if err != nil {
		t.Fatal(err)
	}
	found, err := v.Find(t.Context(), "k")
	_, unreadable := hsm.SplitUnreadable(found)
	if err != nil || len(unreadable) != 1 || unreadable[0].Unreadable.Code != p11.CKR_ATTRIBUTE_VALUE_INVALID ||
		unreadable[0].Label != "k" {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestManySlots(t *testing.T) {
	v := openPlaying(t, faulty.Manners{}, nil)
	err := v.Play(faulty.Manners{ManySlots: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = presentTokens(v.module)
	if code(err) != p11.CKR_GENERAL_ERROR {
		t.Errorf("presentTokens: %v", err)
	}
}

// A repeated handle within a search is one object.
func TestObjectsSeen(t *testing.T) {
	seen := objectsSeen{}
	fresh, err := seen.add([]p11.ObjectHandle{1, 2, 1})
	if err != nil || len(fresh) != 2 {
		t.Errorf("%v, %v", fresh, err)
	}
	fresh, err = seen.add([]p11.ObjectHandle{2, 3})
	if err != nil || len(fresh) != 1 || fresh[0] != 3 {
		t.Errorf("%v, %v", fresh, err)
	}
	_, err = seen.add([]p11.ObjectHandle{3, 1})
	if err == nil {
		t.Error("a batch of nothing new is no end")
	}
}

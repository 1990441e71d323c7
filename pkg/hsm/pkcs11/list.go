package pkcs11

// Finding key objects: background work and misses, never the normal path of a request. How one
// object is read is in read.go.

import (
	"context"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

// findBatch is how many handles one C_FindObjects asks for.
const findBatch = 256

// listTries is how often a listing is begun: both sessions that serve listings may be
// dead, and the third one is new. Keys that are deleted meanwhile take tries, too.
const listTries = adminSessions + 1

// listed is a key object and its handle in this process.
type listed struct {
	handle uint
	logins uint64 // login.count under which the handle is good
	object hsm.Object
	stale  bool // the object could not be read now, and is as it was read before
}

// search says what to look for.
type search struct {
	all   bool   // all keys of the token
	label string // or those with this CKA_LABEL
	last  bool   // there is no other try
}

func (s search) template() []*p11.Attribute {
	template := []*p11.Attribute{p11.NewAttribute(p11.CKA_TOKEN, true)}
	if !s.all {
		template = append(template, p11.NewAttribute(p11.CKA_LABEL, s.label))
	}
	return template
}

// list searches, and believes what it found only if the token says
// afterwards that it is there and that we were logged in all along: an outage and a
// lost login look like an empty token (requirement X7). If the login was lost, it
// looks again.
func (t *Token) list(ctx context.Context, what search) ([]listed, error) {
	for try := 1; ; try++ {
		what.last = try == listTries
		logins := t.login.count.Load()
		found, failed := t.search(ctx, what)
		if ctx.Err() != nil {
			return nil, timeout("look for keys", ctx)
		}
		err := t.login.ensure(ctx)
		if err != nil {
			return nil, err
		}
		again := t.login.count.Load() != logins
		switch {
		case failed == nil && !again:
			for i := range found {
				found[i].logins = logins
			}
			err := what.believable(found)
			if err != nil {
				return nil, err
			}
			return found, nil
		case try == listTries && failed != nil:
			return nil, failed
		case try == listTries:
			return nil, &hsm.Error{Op: "look for keys", Kind: hsm.ErrUnavailable,
				Detail: "the token loses its login again and again"}
		case code(failed) == ckrNotLoggedIn && !again:
			err := t.login.renew(ctx)
			if err != nil {
				return nil, err
			}
		}
	}
}

// believable refuses a listing in which no key could be read and some object could not: that is not
// an empty token (X7).
func (s search) believable(found []listed) error {
	if !s.all {
		return nil
	}
	for _, one := range found {
		if !one.stale && one.object.Unreadable == nil {
			return nil
		}
	}
	if len(found) == 0 {
		return nil
	}
	e := &hsm.Error{Op: "look for keys", Function: "C_GetAttributeValue", Kind: hsm.ErrUnavailable,
		Detail: fmt.Sprintf("of %d objects that are listed, none can be read", len(found))}
	unreadable := firstUnreadable(found)
	if unreadable != nil {
		e.Code = unreadable.Unreadable.Code
	}
	return e
}

// search searches on a session of those set aside for it. A session that answered
// with any error is not used again.
func (t *Token) search(ctx context.Context, what search) ([]listed, error) {
	s, err := t.admin.get(ctx)
	if err != nil {
		return nil, err
	}
	found, err := t.searchOn(ctx, s, what)
	if err != nil {
		t.admin.drop(s)
		return nil, err
	}
	t.admin.put(s)
	return found, nil
}

func (t *Token) searchOn(ctx context.Context, s *session, what search) ([]listed, error) {
	handles, err := s.find(ctx, what)
	if err != nil {
		return nil, err
	}
	found := make([]listed, 0, len(handles))
	unread := 0
	for _, handle := range handles {
		if ctx.Err() != nil {
			return nil, timeout("look for keys", ctx)
		}
		object, isKey, err := s.describe(ctx, handle)
		one := listed{handle: uint(handle), object: object}
		if err != nil {
			one, err = t.unreadable(ctx, s, handle, err, what)
			isKey = true
			unread++
		}
		switch {
		case err != nil:
			return nil, err
		case isKey:
			found = append(found, one)
		}
		if unread == maxUnreadable && unread == len(found) {
			break // nothing can be read: list says so
		}
	}
	return found, nil
}

// maxUnreadable is how many objects are tried before a token of which none can be read is given up.
const maxUnreadable = 64

func (s *session) find(ctx context.Context, what search) ([]p11.ObjectHandle, error) {
	err := s.module.ctx.FindObjectsInit(s.handle, what.template())
	if err != nil {
		return nil, unavailable("look for keys", "C_FindObjectsInit", err)
	}
	hsm.Progress(ctx)
	var handles []p11.ObjectHandle
	seen := objectsSeen{}
	for {
		batch, err := s.nextObjects()
		if err != nil {
			return nil, unavailable("look for keys", "C_FindObjects", err)
		}
		hsm.Progress(ctx)
		if len(batch) == 0 || ctx.Err() != nil {
			break // searchOn notices the ended context
		}
		batch, err = seen.add(batch)
		if err != nil {
			return nil, err
		}
		handles = append(handles, batch...)
	}
	err = s.module.ctx.FindObjectsFinal(s.handle)
	if err != nil {
		return nil, unavailable("look for keys", "C_FindObjectsFinal", err)
	}
	return handles, nil
}

package pkcs11

// Finding key objects and reading their attributes: background work and misses,
// never the normal path of a request.

import (
	"context"

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
}

// search says what to look for.
type search struct {
	all   bool   // all keys of the token
	label string // or those with this CKA_LABEL
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
			return found, nil
		case try == listTries && failed != nil:
			return nil, failed
		case try == listTries:
			return nil, &hsm.Error{Op: "look for keys", Kind: hsm.ErrUnavailable, Detail: "the token loses its login again and again"}
		case code(failed) == ckrNotLoggedIn && !again:
			err := t.login.renew(ctx)
			if err != nil {
				return nil, err
			}
		}
	}
}

// search searches on a session of those set aside for it. A session that answered
// with any error is not used again.
func (t *Token) search(ctx context.Context, what search) ([]listed, error) {
	s, err := t.admin.get(ctx)
	if err != nil {
		return nil, err
	}
	found, err := s.search(ctx, what)
	if err != nil {
		t.admin.drop(s)
		return nil, err
	}
	t.admin.put(s)
	return found, nil
}

func (s *session) search(ctx context.Context, what search) ([]listed, error) {
	handles, err := s.find(ctx, what)
	if err != nil {
		return nil, err
	}
	found := make([]listed, 0, len(handles))
	for _, handle := range handles {
		if ctx.Err() != nil {
			return nil, timeout("look for keys", ctx)
		}
		object, ok, err := s.describe(handle)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, listed{handle: uint(handle), object: object})
		}
	}
	return found, nil
}

func (s *session) find(ctx context.Context, what search) ([]p11.ObjectHandle, error) {
	err := s.module.ctx.FindObjectsInit(s.handle, what.template())
	if err != nil {
		return nil, unavailable("look for keys", "C_FindObjectsInit", err)
	}
	var handles []p11.ObjectHandle
	for {
		batch, _, err := s.module.ctx.FindObjects(s.handle, findBatch)
		if err != nil {
			return nil, unavailable("look for keys", "C_FindObjects", err)
		}
		if len(batch) == 0 || ctx.Err() != nil {
			break // search notices the ended context
		}
		handles = append(handles, batch...)
	}
	err = s.module.ctx.FindObjectsFinal(s.handle)
	if err != nil {
		return nil, unavailable("look for keys", "C_FindObjectsFinal", err)
	}
	return handles, nil
}

// describe reads one object. The bool is false for an object that is no key. What counts is the
// number of calls, not of attributes: a secret key, the common case, takes one.
func (s *session) describe(handle p11.ObjectHandle) (hsm.Object, bool, error) {
	values := attributes{}
	err := s.readTogether(handle, described[hsm.SecretKey], values)
	if err != nil && !isUntold(err) {
		return unread(err)
	}
	class, ok := classOf(values)
	if ok && class == hsm.SecretKey {
		return values.object(class), true, nil
	}
	clear(values)
	err = s.read(handle, []uint{p11.CKA_CLASS}, values)
	if err != nil {
		return unread(err)
	}
	class, ok = classOf(values)
	if !ok {
		return hsm.Object{}, false, nil
	}
	err = s.read(handle, described[class], values)
	if err != nil {
		return unread(err)
	}
	size, ok := sizeAttribute(class, keyTypeOf(values))
	if ok {
		err := s.read(handle, []uint{size}, values)
		if err != nil {
			return unread(err)
		}
	}
	return values.object(class), true, nil
}

// unread is the failure to read an object that was found. One that vanished in between is not left
// out: that is for the next search to do, because a token that takes none of its own handles would look empty
// (requirement X7).
func unread(err error) (hsm.Object, bool, error) {
	e := unavailable("look for keys", "C_GetAttributeValue", err)
	switch e.Code {
	case ckrObjectHandleInvalid, ckrKeyHandleInvalid:
		e.Detail = "the HSM listed an object and then did not know it: keys are being deleted at this moment, or it is not well"
	}
	return hsm.Object{}, false, e
}

// read adds the values of the attributes to values: all in one call, and one by
// one if the token does not know, or does not tell, one of them.
func (s *session) read(handle p11.ObjectHandle, types []uint, values attributes) error {
	err := s.readTogether(handle, types, values)
	if err == nil || !isUntold(err) {
		return err
	}
	for _, one := range types {
		err := s.readTogether(handle, []uint{one}, values)
		if err != nil && !isUntold(err) {
			return err
		}
	}
	return nil
}

func isUntold(err error) bool {
	rv := code(err)
	return rv == ckrAttributeTypeInvalid || rv == ckrAttributeSensitive
}

func (s *session) readTogether(handle p11.ObjectHandle, types []uint, values attributes) error {
	template := make([]*p11.Attribute, len(types))
	for i, t := range types {
		template[i] = &p11.Attribute{Type: t}
	}
	got, err := s.module.ctx.GetAttributeValue(s.handle, handle, template)
	if err != nil {
		return err
	}
	for _, a := range got {
		values[a.Type] = a.Value
	}
	return nil
}

package pkcs11

// Reading the attributes of one object, and what it means if that fails. One object must not keep
// the others of an HSM from serving, whatever code it answers.

import (
	"context"
	"time"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

const (
	// readTries is how often attributes are asked for: a throttled HSM fails some calls
	// (CKR_DEVICE_ERROR on CloudHSM).
	readTries = 3
	readPause = 5 * time.Millisecond // before the second try, and twice that before the third
)

// describe reads one object. The bool is false for an object that is not a key. What counts is the
// number of calls, not of attributes: a secret key, the common case, takes one.
func (s *session) describe(ctx context.Context, handle p11.ObjectHandle) (hsm.Object, bool, error) {
	values := attributes{}
	err := s.readTogether(ctx, handle, s.module.unknown.askable(), values)
	if err != nil && !isUntold(err) {
		return unread(err)
	}
	class, ok := classOf(values)
	if ok && class == hsm.SecretKey {
		return s.object(values, class), true, nil
	}
	clear(values)
	err = s.read(ctx, handle, []uint{p11.CKA_CLASS}, values)
	if err != nil {
		return unread(err)
	}
	class, ok = classOf(values)
	if !ok {
		return hsm.Object{}, false, nil
	}
	err = s.read(ctx, handle, described[class], values)
	if err != nil {
		return unread(err)
	}
	size, ok := sizeAttribute(class, keyTypeOf(values))
	if ok {
		err := s.read(ctx, handle, []uint{size}, values)
		if err != nil {
			return unread(err)
		}
	}
	return s.object(values, class), true, nil
}

// unread is the failure to read an object that was found.
func unread(err error) (hsm.Object, bool, error) {
	return hsm.Object{}, false, unavailable("look for keys", "C_GetAttributeValue", err)
}

// unreadable decides whether an object that was found and not read is to be left out. The error is
// why the search fails instead: the session, the login or the token may be what is wrong, and an
// object that has vanished is for the next search to leave out, because a token that takes none of
// its own handles would look empty (X7).
func (t *Token) unreadable(
	ctx context.Context, s *session, handle p11.ObjectHandle, failed error, what search,
) (listed, error) {
	rv := code(failed)
	// One label is soon searched again, and a request may wait for it.
	if endsSearch(rv) || !what.last && (mayPass(rv) || !what.all) {
		return listed{}, failed
	}
	_, err := s.module.ctx.GetSessionInfo(s.handle)
	if err != nil {
		return listed{}, failed
	}
	logins := t.login.count.Load()
	err = t.login.ensure(ctx)
	if err != nil || t.login.count.Load() != logins {
		return listed{}, failed
	}
	hsm.Progress(ctx)
	known, ok := t.keys.byHandle(uint(handle), logins)
	if ok && !mayPass(rv) {
		return listed{handle: uint(handle), object: known, stale: true}, nil
	}
	object := s.nameUnreadable(handle)
	if what.label != "" {
		object.Label = what.label
	}
	object.Unreadable = &hsm.Unreadable{Handle: uint64(handle), Code: rv}
	return listed{handle: uint(handle), object: object}, nil
}

// endsSearch is true of codes that are about the session or the module and never about an object.
func endsSearch(rv hsm.CKR) bool { return sessionIsGone(rv) || rv == ckrNotInitialized }

// mayPass is true of codes that another search, on another session or after another login, may not
// see.
func mayPass(rv hsm.CKR) bool {
	return rv == ckrObjectHandleInvalid || rv == ckrKeyHandleInvalid || rv == ckrNotLoggedIn
}

// nameUnreadable reads what an operator needs to find the object: as much as the token tells.
func (s *session) nameUnreadable(handle p11.ObjectHandle) hsm.Object {
	values := attributes{}
	for _, one := range []uint{p11.CKA_CLASS, p11.CKA_LABEL, p11.CKA_ID} {
		_ = s.attributes(handle, []uint{one}, values)
	}
	object := hsm.Object{Label: string(values[p11.CKA_LABEL]), ID: values[p11.CKA_ID]}
	object.Class, _ = classOf(values)
	return object
}

// read adds the values of the attributes to values: all in one call, and one by
// one if the token does not know, or does not tell, one of them.
func (s *session) read(
	ctx context.Context, handle p11.ObjectHandle, types []uint, values attributes,
) error {
	err := s.readTogether(ctx, handle, types, values)
	if err == nil || !isUntold(err) {
		return err
	}
	var unknown []uint
	for _, one := range types {
		err := s.readTogether(ctx, handle, []uint{one}, values)
		if err != nil && !isUntold(err) {
			return err
		}
		if code(err) == ckrAttributeTypeInvalid {
			unknown = append(unknown, one)
		}
	}
	s.module.unknown.learn(values, unknown)
	return nil
}

func isUntold(err error) bool {
	rv := code(err)
	return rv == ckrAttributeTypeInvalid || rv == ckrAttributeSensitive
}

// readTogether reads attributes with one call, and tries again where that may help.
func (s *session) readTogether(
	ctx context.Context, handle p11.ObjectHandle, types []uint, values attributes,
) error {
	for try := 1; ; try++ {
		err := s.attributes(handle, types, values)
		if err == nil {
			hsm.Progress(ctx)
			return nil
		}
		rv := code(err)
		final := isUntold(err) || endsSearch(rv) || mayPass(rv)
		if final || try == readTries || ctx.Err() != nil {
			return err
		}
		time.Sleep(time.Duration(try) * readPause)
	}
}

// firstUnreadable is an object among those found for a label that may be the key that was not found
// (X7); nil if there is none.
func firstUnreadable(found []listed) *hsm.Object {
	for i := range found {
		if found[i].object.Unreadable != nil {
			return &found[i].object
		}
	}
	return nil
}

package pkcs11

// Decrypting where several objects may have made the ciphertext: CKA_ID does not always say
// which version an object is (hsm.TrialCandidates). Each is tried; the tag decides.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"xks-proxy/pkg/hsm"
)

// reader names one object of a label. Handles change with each login, so it is found by
// its CKA_ID and, among objects with the same one, by its place in the listing.
type reader struct {
	readerName
	entry *entry
	exact bool // it has the version by the rule, and no other object has
}

type readerName struct {
	id    string
	place int
}

// named is the zero name for an operation that does not name an object.
func (r *reader) named() readerName {
	if r == nil {
		return readerName{}
	}
	return r.readerName
}

// decrypt is do, with every object that may be meant.
func (t *Token) decrypt(ctx context.Context, op *operation) error {
	readers := t.keys.readers(op.key)
	if isPlain(readers) {
		err := t.do(ctx, op, t.work)
		if !errors.Is(err, hsm.ErrDuplicateKey) && !errors.Is(err, hsm.ErrKeyNotFound) {
			return err
		}
		readers = t.keys.readers(op.key) // do has looked
		if isPlain(readers) {
			return err
		}
	}
	return t.decryptAny(ctx, op, readers)
}

// isPlain is true of a version that needs no search: no object, or one and no doubt.
func isPlain(readers []reader) bool {
	return len(readers) == 0 || len(readers) == 1 && readers[0].exact
}

// decryptAny tries one object after the other. Only if every one was tried and said so
// is the ciphertext called invalid (requirement D2).
func (t *Token) decryptAny(ctx context.Context, op *operation, readers []reader) error {
	var verdict error
	for i := range readers[:min(len(readers), hsm.MaxTrialCandidates)] {
		try := *op
		try.one = &readers[i]
		err := t.do(ctx, &try, t.work)
		switch {
		case err == nil:
			op.plaintext = try.plaintext
			return nil
		case weight(err) == 0:
			return err
		case verdict == nil || weight(err) > weight(verdict):
			verdict = err
		}
	}
	if len(readers) > hsm.MaxTrialCandidates {
		return &hsm.Error{Op: op.name, Kind: hsm.ErrDuplicateKey,
			Detail: fmt.Sprintf("label %q: %d objects may have made a ciphertext of version %d, and the first %d did not", op.key.Label, len(readers), op.key.Version, hsm.MaxTrialCandidates)}
	}
	return verdict
}

// weight orders what single objects answered: the answer that leaves most open counts for
// all of them. 0 is a fault of the HSM, which ends the search.
func weight(err error) int {
	for i, kind := range [...]error{
		hsm.ErrInvalidCiphertext, hsm.ErrKeyUsage, hsm.ErrRefusedCiphertext, hsm.ErrUnprovenCiphertext, hsm.ErrKeyFault, hsm.ErrKeyNotFound,
	} {
		if errors.Is(err, kind) {
			return i + 1
		}
	}
	return 0
}

// keyOf is handle, for an operation that may name one of several objects.
func (t *Token) keyOf(ctx context.Context, op *operation) (*entry, error) {
	if op.one == nil {
		return t.handle(ctx, op.key, op.need())
	}
	e := op.one.in(t.keys.readers(op.key))
	if e == nil || e.logins != t.login.count.Load() {
		found, err := t.findOnce(ctx, op.key.Label)
		if err != nil {
			return nil, err
		}
		e = op.one.in(readersOf(found.versions, op.key.Version))
	}
	if e == nil {
		return nil, &hsm.Error{Kind: hsm.ErrKeyNotFound, Detail: fmt.Sprintf("label %q, CKA_ID 0x%X: the object is gone", op.key.Label, op.one.id)}
	}
	return e, e.refuses(op.need())
}

// in finds the object again; nil if it is gone.
func (r *reader) in(readers []reader) *entry {
	for _, now := range readers {
		if now.readerName == r.readerName {
			return now.entry
		}
	}
	return nil
}

// readersOf gives the objects of one label that may have made a ciphertext of a version.
func readersOf(versions map[uint32]*entry, version uint32) []reader {
	if e := versions[version]; e != nil && len(versions) == 1 && len(e.twins) == 0 {
		return []reader{{readerName{id: string(e.object.ID)}, e, true}} // nearly every key
	}
	var entries []*entry
	var objects []hsm.Object
	for _, number := range slices.Sorted(maps.Keys(versions)) {
		e := versions[number]
		twins := e.twins
		if len(twins) == 0 {
			twins = []listed{{handle: e.handle, logins: e.logins, object: e.object}}
		}
		for _, one := range twins {
			entries = append(entries, one.entry(e.checked))
			objects = append(objects, one.object)
		}
	}
	var readers []reader
	seen := map[string]int{}
	places := hsm.TrialCandidates(objects, version)
	for _, i := range places {
		id := string(objects[i].ID)
		exact := len(places) == 1 && objects[i].Version() == version
		readers = append(readers, reader{readerName{id, seen[id]}, entries[i], exact})
		seen[id]++
	}
	return readers
}

package pkcs11

// The calls whose answers decide how much memory is taken: lists of slots and of objects, and the
// values of attributes. A module that answers nonsense must not take the machine's memory with it.

/*
#include <stdlib.h>
#include "bounded.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

const (
	// maxSlots is how many slots with a token a module may have.
	maxSlots = C.BOUNDED_SLOTS

	// maxAttribute is how long a value may be, bytes. The longest of those that are read is an RSA
	// modulus of 2 KiB. An object with a longer one counts as unreadable
	// (CKR_ATTRIBUTE_VALUE_INVALID).
	maxAttribute = C.BOUNDED_ATTRIBUTE

	// maxObjects is how many objects one search may find: 20 times as many as fit into a catalogue
	// (see package worker), for a token also holds objects that are not keys.
	maxObjects = 1_000_000
)

// refusal is the error of a return value; nil for CKR_OK.
func refusal(rv C.ck_ulong) error {
	if rv == 0 {
		return nil
	}
	return p11.Error(rv)
}

// slots gives the slots that hold a token.
func (m *module) slots() ([]uint, error) {
	ids := make([]C.ck_ulong, maxSlots)
	var count C.ck_ulong
	err := refusal(C.bounded_slots(m.gcm, &ids[0], &count))
	if err != nil {
		return nil, err
	}
	slots := make([]uint, count)
	for i := range slots {
		slots[i] = uint(ids[i])
	}
	return slots, nil
}

// nextObjects goes on with a search.
func (s *session) nextObjects() ([]p11.ObjectHandle, error) {
	var found [findBatch]C.ck_ulong
	var count C.ck_ulong
	rv := C.bounded_find(s.module.gcm, C.ck_ulong(s.handle), &found[0], findBatch, &count)
	err := refusal(rv)
	if err != nil {
		return nil, err
	}
	handles := make([]p11.ObjectHandle, count)
	for i := range handles {
		handles[i] = p11.ObjectHandle(found[i])
	}
	return handles, nil
}

// attributes reads values of an object; one that the token does not tell is empty.
func (s *session) attributes(object p11.ObjectHandle, types []uint, values attributes) error {
	asked := make([]C.struct_ck_attribute, len(types))
	for i, t := range types {
		asked[i]._type = C.ck_ulong(t)
	}
	rv := C.bounded_attributes(s.module.gcm, C.ck_ulong(s.handle), C.ck_ulong(object), &asked[0],
		C.ck_ulong(len(asked)))
	err := refusal(rv)
	if err != nil {
		return err
	}
	for i := range asked {
		value := unsafe.Pointer(asked[i].value)
		if value == nil {
			values[types[i]] = nil
			continue
		}
		values[types[i]] = C.GoBytes(value, C.int(asked[i].length))
		C.free(value)
	}
	return nil
}

// objectsSeen are the objects that a search has found.
type objectsSeen map[p11.ObjectHandle]struct{}

// add gives the new ones of a batch. An error means that the search does not end: a module that
// repeats a whole batch has nothing new to tell, and no token holds more than maxObjects.
func (o objectsSeen) add(batch []p11.ObjectHandle) ([]p11.ObjectHandle, error) {
	fresh := batch[:0]
	for _, handle := range batch {
		_, known := o[handle]
		if !known {
			o[handle] = struct{}{}
			fresh = append(fresh, handle)
		}
	}
	endless := &hsm.Error{Op: "look for keys", Function: "C_FindObjects", Kind: hsm.ErrUnavailable}
	switch {
	case len(fresh) == 0:
		endless.Detail = fmt.Sprintf("the module's search does not end: after %d objects it gives only "+
			"those that it gave before; report that to its vendor", len(o))
		return nil, endless
	case len(o) > maxObjects:
		endless.Detail = fmt.Sprintf("the module's search gives more than %d objects; give the proxy a "+
			"token of its own", maxObjects)
		return nil, endless
	}
	return fresh, nil
}

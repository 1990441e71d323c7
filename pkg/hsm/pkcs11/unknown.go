package pkcs11

// Attributes that a module does not know. One of them spoils the call that asks for all attributes
// of a key, so that each had to be asked for by itself: 18 calls for a key instead of one.

import (
	"slices"
	"sync/atomic"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

// needed are the attributes that are asked for even if the module once did not know them: without
// them no key can be used.
var needed = []uint{
	p11.CKA_CLASS, p11.CKA_KEY_TYPE, p11.CKA_LABEL, p11.CKA_ID,
	p11.CKA_ENCRYPT, p11.CKA_DECRYPT, p11.CKA_VALUE_LEN,
}

// unknownAttributes are those that a module did not know of an AES key, for the life of the
// process. Other objects lack attributes for reasons of their own.
type unknownAttributes struct {
	types atomic.Pointer[[]uint]
}

// askable gives those of the attributes of an AES key that the module knows, as far as is known.
func (u *unknownAttributes) askable() []uint {
	types := u.types.Load()
	if types == nil {
		return described[hsm.SecretKey]
	}
	return slices.DeleteFunc(slices.Clone(described[hsm.SecretKey]), func(t uint) bool {
		return slices.Contains(*types, t)
	})
}

// learn notes what an object, of which these values were read, was asked for in vain.
func (u *unknownAttributes) learn(values attributes, unknown []uint) {
	class, ok := classOf(values)
	if !ok || class != hsm.SecretKey || keyTypeOf(values) != "AES" {
		return
	}
	for {
		before := u.types.Load()
		var types []uint
		if before != nil {
			types = slices.Clone(*before)
		}
		for _, t := range unknown {
			if !slices.Contains(needed, t) && !slices.Contains(types, t) {
				types = append(types, t)
			}
		}
		if u.types.CompareAndSwap(before, &types) {
			return
		}
	}
}

package pkcs11

// The hot pair of calls from Go: one struct gcm_call in C memory for each
// session, filled, run and wiped. Nothing else of the package is cgo but the
// loading of the module in load.go.

/*
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "gcm.h"
*/
import "C"

import (
	"unsafe"

	"xks-proxy/pkg/hsm"
)

// The sizes of gcm.h and of package hsm must be the same: an array index out of
// range here is a compile error.
var (
	_ = [1]struct{}{}[C.GCM_AAD-hsm.MaxAADSize]
	_ = [1]struct{}{}[C.GCM_IN-hsm.MaxDataSize-hsm.TagSize]
	_ = [1]struct{}{}[C.GCM_OUT-hsm.MaxDataSize-hsm.TagSize-hsm.LongIVSize]
	_ = [1]struct{}{}[C.GCM_IV-hsm.LongIVSize]
)

// gcmFunctions is a module's function list.
type gcmFunctions = *C.struct_ck_functions

// gcmCall is the scratch of one session, about 200 KB of C memory of which only
// the pages in use are real. Its slices are views of that memory. One goroutine
// at a time, like the session itself.
type gcmCall struct {
	functions gcmFunctions
	c         *C.struct_gcm_call
	iv        []byte
	aad       []byte
	in        []byte
	out       []byte
}

func newGCMCall(functions gcmFunctions, session uint) *gcmCall {
	// cgo's malloc never returns nil: it ends the process when memory is out.
	c := (*C.struct_gcm_call)(C.malloc(C.sizeof_struct_gcm_call))
	c.session = C.ck_ulong(session)
	return &gcmCall{
		functions: functions,
		c:         c,
		iv:        unsafe.Slice((*byte)(&c.iv[0]), C.GCM_IV),
		aad:       unsafe.Slice((*byte)(&c.aad[0]), C.GCM_AAD),
		in:        unsafe.Slice((*byte)(&c.in[0]), C.GCM_IN),
		out:       unsafe.Slice((*byte)(&c.out[0]), C.GCM_OUT),
	}
}

func (g *gcmCall) free() {
	C.free(unsafe.Pointer(g.c))
	g.c = nil
}

// gcmInput says how much of the scratch's buffers is filled, and with what
// parameters to go to the module.
type gcmInput struct {
	decrypt   bool
	key       uint // object handle
	mechanism uint32
	ivLen     int
	ivBits    int
	short     bool // parameters without ulIvBits
	aadLen    int
	inLen     int
}

// run makes the two calls. It gives the length of what now stands in out, the
// return value of the last call made, and whether that was the second one.
func (g *gcmCall) run(in gcmInput) (int, hsm.CKR, bool) {
	c := g.c
	c.key = C.ck_ulong(in.key)
	c.mechanism_type = C.ck_ulong(in.mechanism)
	c.iv_len = C.ck_ulong(in.ivLen)
	c.iv_bits = C.ck_ulong(in.ivBits)
	c.tag_bits = hsm.TagSize * 8
	c.aad_len = C.ck_ulong(in.aadLen)
	c.in_len = C.ck_ulong(in.inLen)
	c.out_len = C.GCM_OUT
	c.short_params = 0
	if in.short {
		c.short_params = 1
	}
	decrypt := C.int(0)
	if in.decrypt {
		decrypt = 1
	}
	rv := C.gcm_run(g.functions, c, decrypt)
	// A module that claims more than the room it was given must not make us read on.
	return int(min(c.out_len, C.GCM_OUT+1)), hsm.CKR(rv), c.init_succeeded != 0
}

// wipe clears so many bytes of in and of out: plaintext does not linger. AAD and IV
// are not secrets. (The compiler knows nothing of this memory, so it drops no store.)
func (g *gcmCall) wipe(inLen, outLen int) {
	clear(g.in[:inLen])
	clear(g.out[:outLen])
}

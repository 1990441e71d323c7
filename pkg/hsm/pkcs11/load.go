package pkcs11

// Loading a module, so that all calls go through one function list.
//
// Some modules (p11-kit's client and proxy) give each caller of C_GetFunctionList a list of its
// own, and only the list whose C_Initialize was called works; the others answer
// CKR_CRYPTOKI_NOT_INITIALIZED. miekg/pkcs11 asks for a list and hides it, so the hot pair of calls
// takes the very list that miekg got, and nobody else asks for one. It is read by reflection:
// miekg's Ctx is a pointer to a C structure {handle, sym}. The names and the type are checked at
// every start and by a test, so a release of miekg that changes them fails loudly and never calls
// through a wrong pointer.

/*
#include <stdlib.h>
#include "gcm.h"
*/
import "C"

import (
	"reflect"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

// loadedModule is the outcome of gcm_load in Go's terms.
type loadedModule struct {
	c       C.struct_gcm_module
	loaded  bool
	problem string
}

// loadLibrary loads the module at path. It stays loaded: miekg's handle of it is the same instance.
func loadLibrary(path string) *loadedModule {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	m := &loadedModule{}
	C.gcm_load(name, &m.c)
	m.loaded = m.c.loaded != 0
	m.problem = C.GoString(&m.c.problem[0])
	return m
}

// isPKCS11 reports whether the library has a C_GetFunctionList.
func (m *loadedModule) isPKCS11() bool { return m.c.get_list != nil }

// listError is why the module gave no function list.
func (m *loadedModule) listError() hsm.CKR { return hsm.CKR(C.gcm_list_error(&m.c)) }

// functionList is the list through which miekg calls the module, nil if the module gave none. It
// reports false if this version of miekg keeps the list in another way.
func functionList(ctx *p11.Ctx) (gcmFunctions, bool) {
	inner := reflect.ValueOf(ctx).Elem().FieldByName("ctx")
	if inner.Kind() != reflect.Pointer || inner.IsNil() || inner.Elem().Kind() != reflect.Struct {
		return nil, false
	}
	list := inner.Elem().FieldByName("sym")
	if list.Kind() != reflect.Pointer || list.Type().Elem().Kind() != reflect.Struct {
		return nil, false
	}
	version := list.Type().Elem().Field(0)
	if version.Name != "version" || list.Type().Elem().NumField() < leastListFields {
		return nil, false
	}
	return gcmFunctions(list.UnsafePointer()), true
}

// leastListFields is the version and the functions as far as C_Decrypt (PKCS#11 2.40 section 3.6).
const leastListFields = 1 + 35

// majorVersion is the version of PKCS#11 that the list is of.
func majorVersion(functions gcmFunctions) int { return int(functions.version.major) }

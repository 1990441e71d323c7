package pkcs11

// Errors of this package: how a return value of a module becomes a *hsm.Error.

import (
	"context"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

// Return values that this package acts on by name.
const (
	ckrGeneralError         hsm.CKR = 0x05
	ckrFunctionFailed       hsm.CKR = 0x06
	ckrArgumentsBad         hsm.CKR = 0x07
	ckrActionProhibited     hsm.CKR = 0x1B
	ckrAttributeSensitive   hsm.CKR = 0x11
	ckrAttributeTypeInvalid hsm.CKR = 0x12
	ckrDataLenRange         hsm.CKR = 0x21
	ckrFunctionNotSupported hsm.CKR = 0x54
	ckrKeyHandleInvalid     hsm.CKR = 0x60
	ckrKeySizeRange         hsm.CKR = 0x62
	ckrKeyTypeInconsistent  hsm.CKR = 0x63
	ckrKeyNotNeeded         hsm.CKR = 0x64
	ckrKeyNeeded            hsm.CKR = 0x66
	ckrKeyIndigestible      hsm.CKR = 0x67
	ckrKeyNotPermitted      hsm.CKR = 0x68
	ckrMechanismInvalid     hsm.CKR = 0x70
	ckrMechanismParam       hsm.CKR = 0x71
	ckrObjectHandleInvalid  hsm.CKR = 0x82
	ckrOperationActive      hsm.CKR = 0x90
	ckrPINIncorrect         hsm.CKR = 0xA0
	ckrPINInvalid           hsm.CKR = 0xA1
	ckrPINLenRange          hsm.CKR = 0xA2
	ckrPINExpired           hsm.CKR = 0xA3
	ckrPINLocked            hsm.CKR = 0xA4
	ckrSessionClosed        hsm.CKR = 0xB0
	ckrSessionCount         hsm.CKR = 0xB1
	ckrSessionInvalid       hsm.CKR = 0xB3
	ckrAlreadyLoggedIn      hsm.CKR = 0x100
	ckrNotLoggedIn          hsm.CKR = 0x101
	ckrPINNotInitialized    hsm.CKR = 0x102
	ckrUserTypeInvalid      hsm.CKR = 0x103
	ckrAnotherLoggedIn      hsm.CKR = 0x104
	ckrTooManyUserTypes     hsm.CKR = 0x105
	ckrNotInitialized       hsm.CKR = 0x190
	ckrFunctionRejected     hsm.CKR = 0x200
	ckrAlreadyInitialized   hsm.CKR = 0x191
	ckrVendorDefined        hsm.CKR = 0x80000000
)

// code gives the return value in an error of miekg's or of ours, CKROK if there is none.
func code(err error) hsm.CKR {
	var theirs p11.Error
	if errors.As(err, &theirs) {
		return hsm.CKR(theirs)
	}
	var ours *hsm.Error
	if errors.As(err, &ours) {
		return ours.Code
	}
	return hsm.CKROK
}

// unavailable is the fault of a PKCS#11 function that answered with err. Some HSMs let an expired
// PIN log in and then refuse everything else (PKCS#11 2.40 section 5.1.6, CKR_PIN_EXPIRED): that is
// a matter of the PIN.
func unavailable(op, function string, err error) *hsm.Error {
	e := &hsm.Error{Op: op, Function: function, Code: code(err), Kind: hsm.ErrUnavailable}
	if e.Code == ckrPINExpired {
		e.Kind, e.Detail = hsm.ErrPINIncorrect, "the login worked, but "+expiredAdvice
	}
	return e
}

// timeout says that ctx ended before the HSM could be asked.
func timeout(op string, ctx context.Context) *hsm.Error {
	return &hsm.Error{Op: op, Kind: fmt.Errorf("%w: %w", hsm.ErrTimeout, ctx.Err())}
}

// named returns err with its Op set to what the caller was doing, where err is
// one of ours: "decrypt" says more than "find" in a log line about a decrypt.
func named(op string, err error) error {
	var e *hsm.Error
	if !errors.As(err, &e) {
		return &hsm.Error{Op: op, Kind: hsm.ErrUnavailable, Detail: err.Error()}
	}
	if e.Op == op || e.Op == "" {
		e2 := *e
		e2.Op = op
		return &e2
	}
	e2 := *e
	e2.Op = op + ": " + e.Op
	return &e2
}

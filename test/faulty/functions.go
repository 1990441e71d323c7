package faulty

// The 68 functions of PKCS#11 2.40 and sets of them.

import (
	"fmt"
	"slices"
)

// Names for more than one function, for Rule.Function.
const (
	Every    = "*"       // all functions but C_GetFunctionList
	Sessions = "session" // those that are given a session
	Crypto   = "crypto"  // C_EncryptInit, C_Encrypt, C_DecryptInit, C_Decrypt
)

// functions stand in the order of CK_FUNCTION_LIST (PKCS#11 2.40 base, section 5.4). The
// module knows them by their place.
var functions = [...]string{
	"C_Initialize", "C_Finalize", "C_GetInfo", "C_GetFunctionList",
	"C_GetSlotList", "C_GetSlotInfo", "C_GetTokenInfo", "C_GetMechanismList",
	"C_GetMechanismInfo", "C_InitToken", "C_InitPIN", "C_SetPIN",
	"C_OpenSession", "C_CloseSession", "C_CloseAllSessions", "C_GetSessionInfo",
	"C_GetOperationState", "C_SetOperationState", "C_Login", "C_Logout",
	"C_CreateObject", "C_CopyObject", "C_DestroyObject", "C_GetObjectSize",
	"C_GetAttributeValue", "C_SetAttributeValue", "C_FindObjectsInit", "C_FindObjects",
	"C_FindObjectsFinal", "C_EncryptInit", "C_Encrypt", "C_EncryptUpdate",
	"C_EncryptFinal", "C_DecryptInit", "C_Decrypt", "C_DecryptUpdate",
	"C_DecryptFinal", "C_DigestInit", "C_Digest", "C_DigestUpdate",
	"C_DigestKey", "C_DigestFinal", "C_SignInit", "C_Sign",
	"C_SignUpdate", "C_SignFinal", "C_SignRecoverInit", "C_SignRecover",
	"C_VerifyInit", "C_Verify", "C_VerifyUpdate", "C_VerifyFinal",
	"C_VerifyRecoverInit", "C_VerifyRecover", "C_DigestEncryptUpdate", "C_DecryptDigestUpdate",
	"C_SignEncryptUpdate", "C_DecryptVerifyUpdate", "C_GenerateKey", "C_GenerateKeyPair",
	"C_WrapKey", "C_UnwrapKey", "C_DeriveKey", "C_SeedRandom",
	"C_GenerateRandom", "C_GetFunctionStatus", "C_CancelFunction", "C_WaitForSlotEvent",
}

// withoutSession are the functions that are given no session.
var withoutSession = []string{
	"C_Initialize", "C_Finalize", "C_GetInfo", "C_GetFunctionList", "C_GetSlotList", "C_GetSlotInfo",
	"C_GetTokenInfo", "C_GetMechanismList", "C_GetMechanismInfo", "C_InitToken", "C_OpenSession",
	"C_CloseAllSessions", "C_WaitForSlotEvent",
}

// functionSet has one bit for each function, by its place.
type functionSet [2]uint64

func setOf(names ...string) functionSet {
	var s functionSet
	for _, name := range names {
		i := slices.Index(functions[:], name)
		s[i/64] |= 1 << (i % 64)
	}
	return s
}

func (s functionSet) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

func (s functionSet) and(other functionSet) functionSet {
	return functionSet{s[0] & other[0], s[1] & other[1]}
}

func (s functionSet) without(other functionSet) functionSet {
	return functionSet{s[0] &^ other[0], s[1] &^ other[1]}
}

func (s functionSet) empty() bool { return s == functionSet{} }

var (
	everyFunction  = setOf(functions[:]...).without(setOf("C_GetFunctionList"))
	sessionCalls   = setOf(functions[:]...).without(setOf(withoutSession...))
	cryptoCalls    = setOf("C_EncryptInit", "C_Encrypt", "C_DecryptInit", "C_Decrypt")
	spoilableCalls = setOf("C_Encrypt", "C_Decrypt")
	objectCalls    = setOf("C_CopyObject", "C_DestroyObject", "C_GetObjectSize",
		"C_GetAttributeValue", "C_SetAttributeValue", "C_EncryptInit", "C_Encrypt", "C_DecryptInit",
		"C_Decrypt", "C_DigestKey", "C_SignInit", "C_VerifyInit", "C_WrapKey", "C_UnwrapKey", "C_DeriveKey")
)

// named gives the functions that a name stands for.
func named(function string) (functionSet, error) {
	switch function {
	case Every:
		return everyFunction, nil
	case Sessions:
		return sessionCalls, nil
	case Crypto:
		return cryptoCalls, nil
	case "C_GetFunctionList":
		return functionSet{}, fmt.Errorf("%s is not counted and cannot fail", function)
	}
	if !slices.Contains(functions[:], function) {
		return functionSet{}, fmt.Errorf("PKCS#11 2.40 has no function %q", function)
	}
	return setOf(function), nil
}

package pkcs11

// What a return value of the hot pair of calls means, and what is to be done
// about it. Pure: the table is tested without a module.

import (
	"slices"

	"xks-proxy/pkg/hsm"
)

// stage is the call that answered: the same code from C_DecryptInit and from
// C_Decrypt means different things.
type stage uint8

const (
	stageInit   stage = iota + 1 // C_EncryptInit, C_DecryptInit
	stageData                    // C_Encrypt, C_Decrypt
	stageRandom                  // C_GenerateRandom, for an IV
	stageOutput                  // all calls succeeded, and what came back cannot be right
)

// callError is an answer other than success.
type callError struct {
	stage   stage
	decrypt bool
	code    hsm.CKR
	detail  string // stageOutput: what is wrong
}

// function is the PKCS#11 function that answered.
func (e *callError) function() string {
	switch {
	case e.stage == stageRandom:
		return "C_GenerateRandom"
	case e.stage == stageInit && e.decrypt:
		return "C_DecryptInit"
	case e.stage == stageInit:
		return "C_EncryptInit"
	case e.decrypt:
		return "C_Decrypt"
	default:
		return "C_Encrypt"
	}
}

// as makes the error that the caller sees.
func (e *callError) as(op string, kind error) *hsm.Error {
	return &hsm.Error{Op: op, Function: e.function(), Code: e.code, Kind: kind, Detail: e.detail}
}

// verdict is what a return value amounts to.
type verdict uint8

const (
	fault          verdict = iota // of the HSM
	badCiphertext                 // certainly (requirement D2)
	vague                         // bad ciphertext or a fault: ask the canary
	vagueParameter                // bad parameters or a fault: ask the canary
	badUsage                      // the key does not allow this
	tooLarge
	staleHandle  // the key is gone, or has another handle now: look
	lostSession  // this session is of no use any more: take a new one
	lostLogin    // log in again
	loginChanged // somebody logged in during the call: its handle may have been another key's
	verdictCount // how many there are
)

// classify reads the answer e under profile p.
func classify(p *Profile, e *callError) verdict {
	switch e.code {
	case ckrSessionClosed, ckrSessionCount, ckrSessionInvalid:
		return lostSession
	case ckrNotLoggedIn:
		return lostLogin
	}
	switch e.stage {
	case stageInit:
		return classifyInit(e.code)
	case stageData:
		return classifyData(p, e)
	default:
		return fault
	}
}

func classifyInit(code hsm.CKR) verdict {
	switch code {
	case ckrKeyHandleInvalid, ckrObjectHandleInvalid:
		return staleHandle
	case ckrGeneralError:
		// Some modules say this of a deleted key and of a lost login.
		return staleHandle
	case ckrKeySizeRange, ckrKeyTypeInconsistent, ckrKeyNotPermitted:
		return badUsage
	case ckrOperationActive:
		return lostSession
	case ckrMechanismParam, ckrArgumentsBad:
		// Of all parameters, only the length of the AAD and, on decrypt, of the IV
		// come from the request. The canary goes with the profile's own.
		return vagueParameter
	default:
		return fault
	}
}

func classifyData(p *Profile, e *callError) verdict {
	if e.decrypt && slices.Contains(p.InvalidCiphertext, e.code) {
		return badCiphertext
	}
	if e.decrypt && slices.Contains(p.Ambiguous, e.code) {
		return vague
	}
	switch e.code {
	case ckrKeyHandleInvalid, ckrObjectHandleInvalid:
		return staleHandle
	case ckrKeySizeRange, ckrKeyTypeInconsistent, ckrKeyNotPermitted:
		return badUsage
	case ckrDataLenRange:
		return tooLarge
	default:
		return fault
	}
}

// cures says whether a verdict calls for another try, once.
func (v verdict) cures() bool {
	return v == staleHandle || v == lostSession || v == lostLogin || v == loginChanged
}

// isVague says that the answer may be about the request or be a fault.
func (v verdict) isVague() bool { return v == vague || v == vagueParameter }

// keepsSession reports whether a session can serve on after this verdict. When
// in doubt it cannot: a call that never reached the token may leave the
// operation active, and then every later one answers CKR_OPERATION_ACTIVE.
func (v verdict) keepsSession(at stage) bool {
	return v == badCiphertext || at == stageInit && v == badUsage
}

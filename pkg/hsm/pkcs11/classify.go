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
	fault         verdict = iota // of the HSM, the key or the size: compare with the test key
	badCiphertext                // certainly (requirement D2)
	vague                        // bad ciphertext, or busy, or broken: see proof
	busy                         // an ambiguous code where no ciphertext is to blame
	badParameter                 // a parameter is refused: the size of AAD, or of an IV
	notThisKey                   // the key, by its type, size, usage or policy
	staleHandle                  // the key is gone, or has another handle now: look
	lostSession                  // this session is of no use any more: take a new one
	lostLogin                    // log in again
	loginChanged                 // somebody logged in during the call: see Token.try
	verdictCount                 // how many there are
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
		return classifyInit(p, e.code)
	case stageData:
		return classifyData(p, e)
	default:
		return fault
	}
}

func classifyInit(p *Profile, code hsm.CKR) verdict {
	switch code {
	case ckrKeyHandleInvalid, ckrObjectHandleInvalid:
		return staleHandle
	case ckrGeneralError:
		// Some modules answer so for a deleted key and for a lost login.
		return staleHandle
	case ckrOperationActive:
		return lostSession
	case ckrMechanismParam, ckrArgumentsBad:
		// Of all parameters, only the length of the AAD and, on decrypt, of the IV
		// come from the request. The canary goes with the profile's own.
		return badParameter
	}
	switch {
	case slices.Contains(keyRefusals, code) || slices.Contains(keyRefusalsInit, code):
		return notThisKey
	case isAmbiguous(p, code):
		return busy
	default:
		return fault
	}
}

func classifyData(p *Profile, e *callError) verdict {
	switch {
	case e.decrypt && slices.Contains(p.InvalidCiphertext, e.code):
		return badCiphertext
	case e.decrypt && slices.Contains(p.Ambiguous, e.code):
		return vague
	case e.code == ckrKeyHandleInvalid || e.code == ckrObjectHandleInvalid:
		return staleHandle
	case slices.Contains(keyRefusals, e.code):
		return notThisKey
	case !e.decrypt && isAmbiguous(p, e.code):
		return busy
	default:
		return fault
	}
}

var (
	// keyRefusals say that a key may not, or cannot, do this, while another key may.
	keyRefusals = []hsm.CKR{
		ckrActionProhibited, ckrFunctionNotSupported, ckrKeySizeRange, ckrKeyTypeInconsistent,
		ckrKeyNotNeeded, ckrKeyNeeded, ckrKeyIndigestible, ckrKeyNotPermitted, ckrMechanismInvalid,
	}
	// keyRefusalsInit say so if they come from an Init call. The second is Luna's, for a key whose
	// policy forbids the mechanism.
	keyRefusalsInit = []hsm.CKR{ckrFunctionRejected, 0x80000115}
	// plainKeyRefusals can mean nothing else.
	plainKeyRefusals = []hsm.CKR{ckrKeySizeRange, ckrKeyTypeInconsistent, ckrKeyNotPermitted}
)

// isAmbiguous reports whether a code can mean that the HSM is busy.
func isAmbiguous(p *Profile, code hsm.CKR) bool {
	return slices.Contains(p.Ambiguous, code) || slices.Contains(vagueAnswers, code)
}

// cures reports whether a verdict calls for another try, once.
func (v verdict) cures() bool {
	return v == staleHandle || v == lostSession || v == lostLogin || v == loginChanged
}

// uncured is what a verdict means whose cure did not help.
func (v verdict) uncured(p *Profile, e *callError) verdict {
	switch {
	case v == staleHandle && e.stage == stageInit && isAmbiguous(p, e.code):
		return busy
	case v.cures():
		return fault
	default:
		return v
	}
}

// keepsSession reports whether a session can be used for another call after this answer. When
// in doubt it cannot: a call that never reached the token may leave the operation active, and then
// every later one answers CKR_OPERATION_ACTIVE.
func (a answer) keepsSession() bool {
	switch a.verdict {
	case badCiphertext, vague, busy:
		return true
	case notThisKey, badParameter:
		return a.failed.stage == stageInit
	default:
		return false
	}
}

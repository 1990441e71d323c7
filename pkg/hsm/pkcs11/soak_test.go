package pkcs11

// Random faults, one after the other, and what must be true under all of them.

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

const soakTime = 3 * time.Second

// Codes that are no verdict on a request or a key, whatever function answers them.
var faultCodes = []hsm.CKR{0x02, 0x30, 0x31, 0x32, 0x60, 0x82, 0x90, 0x91, 0xB0, 0xB1, 0xB3, 0xE0, 0x101, 0x150, 0x190, 0x80000004}

var faultyFunctions = []string{"C_EncryptInit", "C_Encrypt", "C_DecryptInit", "C_Decrypt", "C_OpenSession", "C_CloseSession", "C_GetSessionInfo",
	"C_GetTokenInfo", "C_Login", "C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_GetAttributeValue",
	faulty.Crypto, faulty.Sessions, faulty.Every}

func randomRule(r *rand.Rand) faulty.Rule {
	rule := faulty.Rule{Function: faultyFunctions[r.IntN(len(faultyFunctions))], Code: faultCodes[r.IntN(len(faultCodes))], After: uint64(r.IntN(4))}
	rule.Action = []faulty.Action{faulty.Return, faulty.Return, faulty.ErrorAfter, faulty.DropLogin, faulty.Truncate}[r.IntN(5)]
	switch rule.Action {
	case faulty.DropLogin:
		rule.Function = faulty.Sessions
	case faulty.Truncate:
		rule.Function = faulty.Crypto
	}
	if r.IntN(2) == 0 {
		rule.Times = uint64(1 + r.IntN(3))
	} else {
		rule.PerMillion = uint32(1 + r.IntN(500_000))
	}
	return rule
}

// A fault is answered as a fault or cured. It is never a verdict on a request, never a wrong answer
// and never a key that is not there (requirements X7, D2); and it leaves nothing behind.
func TestFaultsAreNoVerdicts(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	v := openVendor(t, nil)
	aad, plain := []byte("AAD"), []byte("plaintext")
	good := sealWithGo(t, v.value, 12, aad, plain)
	blamed, late := 0, 0
	verdict := func(err error) bool {
		if errors.Is(err, hsm.ErrKeyFault) || errors.Is(err, hsm.ErrKeyUsage) && code(err) == ckrNotLoggedIn {
			blamed++ // by chance: counted below
			return false
		}
		return err != nil && !hsm.IsFault(err) || hsm.IsConfig(err)
	}
	calls := map[string]func() (bool, error){ // false: a wrong answer
		"encrypt": func() (bool, error) {
			sealed, err := v.Encrypt(t.Context(), ref("k", 0), aad, plain)
			if err != nil {
				return sealed.Ciphertext == nil && !verdict(err), err
			}
			opened, err := goGCM(t, v.value, 12).Open(nil, sealed.IV, append(bytes.Clone(sealed.Ciphertext), sealed.Tag...), aad)
			return err == nil && bytes.Equal(opened, plain), err
		},
		"decrypt": func() (bool, error) {
			got, err := v.Decrypt(t.Context(), ref("k", 0), aad, good)
			return !verdict(err) && (err != nil || bytes.Equal(got, plain)), err
		},
		"tampered": func() (bool, error) {
			got, err := v.Decrypt(t.Context(), ref("k", 0), []byte("other AAD"), good)
			if errors.Is(err, hsm.ErrRefusedCiphertext) {
				return got == nil, nil
			}
			if errors.Is(err, hsm.ErrUnprovenCiphertext) {
				if v.doubt.isClean() {
					late++ // no time for a proof
				}
				return got == nil, nil
			}
			return got == nil && err != nil && !verdict(err), err
		},
		"keys": func() (bool, error) {
			keys, err := v.Keys(t.Context())
			return !verdict(err) && (err != nil || len(keys) == 2), err
		},
		"find": func() (bool, error) {
			found, err := v.Find(t.Context(), "k")
			return !verdict(err) && (err != nil || len(found) == 1), err
		},
	}
	start, rounds := time.Now(), 0
	for ; time.Since(start) < soakTime; rounds++ {
		rules := []faulty.Rule{randomRule(r), randomRule(r)}[:1+r.IntN(2)]
		v.set(t, rules...)
		for range 1 + r.IntN(3) {
			for name, call := range calls {
				ok, err := call()
				if !ok {
					t.Errorf("%s under %v: %v", name, rules, err)
				}
			}
		}
		v.Clear()
		v.forget()
		for name, call := range calls {
			ok, err := call()
			if !ok || err != nil {
				t.Errorf("%s after %v: %v", name, rules, err)
			}
		}
		if t.Failed() {
			break
		}
	}
	t.Logf("seed %d: %d rounds, %d faults, %d times the key was blamed", seed, rounds, v.Injected(), blamed)
	if late > 5+rounds/10 {
		t.Errorf("%d tampered ciphertexts were not found in %d rounds", late, rounds)
	}
	// Each round is another HSM, which was well before. What is blamed is so for a second, which is many rounds.
	if blamed > 5+rounds/12 {
		t.Errorf("faults of the HSM were blamed on the key %d times in %d rounds", blamed, rounds)
	}
	if v.Injected() < uint64(rounds)/2 {
		t.Error("hardly any fault was injected")
	}
}

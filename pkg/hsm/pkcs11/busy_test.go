package pkcs11

// A busy HSM that answers as if ciphertexts were bad (CKR_FUNCTION_FAILED, as CloudHSM when it is
// throttled): no good ciphertext is called bad.

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

// busyCounts are the outcomes of good and of tampered decrypts.
type busyCounts struct {
	good, unproven, failed, wrong int
	found, tamperedUnproven       int
}

// busyLoad makes decrypts from several callers, one in ten of them tampered.
func busyLoad(t *testing.T, v vendor, callers, each int) busyCounts {
	t.Helper()
	good := sealWithGo(t, v.value, 12, []byte("AAD"), []byte("plaintext"))
	var mu sync.Mutex
	var c busyCounts
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for i := range each {
				tampered := i%10 == 9
				aad := "AAD"
				if tampered {
					aad = "other"
				}
				plaintext, err := v.Decrypt(t.Context(), ref("k", 0), []byte(aad), good)
				mu.Lock()
				switch {
				case tampered && err == nil:
					t.Error("tampered and decrypted")
				case tampered && errors.Is(err, hsm.ErrRefusedCiphertext):
					c.found++
				case tampered:
					c.tamperedUnproven++
				case errors.Is(err, hsm.ErrRefusedCiphertext),
					errors.Is(err, hsm.ErrInvalidCiphertext),
					errors.Is(err, hsm.ErrKeyUsage),
					err == nil && string(plaintext) != "plaintext":
					c.wrong++
				case errors.Is(err, hsm.ErrUnprovenCiphertext):
					c.unproven++
				case err != nil:
					c.failed++
				default:
					c.good++
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return c
}

// 8,600 good decrypts and 8 changes from well to busy in each case.
func TestNoGoodCiphertextIsCalledBad(t *testing.T) {
	const callers, each, changes = 8, 150, 8
	for _, percent := range []uint32{10, 30, 50} {
		for _, function := range []string{"C_Decrypt", "C_DecryptInit", faulty.Crypto} {
			t.Run(fmt.Sprint(percent, " % of ", function), func(t *testing.T) {
				v := openVendor(t, func(c *Config) { c.Sessions = callers })
				var sum busyCounts
				for range changes {
					v.forget()
					action := faulty.ErrorAfter
					if function != "C_Decrypt" { // what takes effect leaves an operation active
						action = faulty.Return
					}
					v.set(t, faulty.Rule{Function: function, Action: action, Code: functionFailed,
						PerMillion: percent * 10_000})
					c := busyLoad(t, v, callers, each)
					sum.good += c.good
					sum.unproven += c.unproven
					sum.failed += c.failed
					sum.wrong += c.wrong
					sum.found += c.found
					sum.tamperedUnproven += c.tamperedUnproven
				}
				v.Clear()
				t.Logf("%+v, %d faults", sum, v.Injected())
				total := sum.good + sum.unproven + sum.failed
				if sum.wrong > 0 {
					t.Errorf("%d good ciphertexts were called bad", sum.wrong)
				}
				if sum.good < total*85/100 { // of crypto at 50 %, 3 of 4 are refused
					t.Errorf("only %d of %d good decrypts succeeded", sum.good, total)
				}
				v.forget()
				c := busyLoad(t, v, callers, each)
				// On a busy machine some proofs have no time.
				if c.found < callers*each*9/100 || c.unproven+c.failed+c.wrong > 0 {
					t.Errorf("well again: %+v", c)
				}
			})
		}
	}
}

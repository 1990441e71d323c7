package pkcs11

// A vague answer is believed when it comes again, on a token that was not caught at it lately.

import (
	"errors"
	"testing"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

func TestVagueAnswers(t *testing.T) {
	const generalError = 0x05
	v := openVendor(t, nil)
	good := sealWithGo(t, v.value, 12, nil, []byte("x"))
	decrypt := func(times uint64) error {
		t.Helper()
		err := v.Control.Set(faulty.Rule{Function: "C_Decrypt", Action: faulty.Return, Code: generalError, Times: times})
		if err != nil {
			t.Fatal(err)
		}
		defer v.Control.Clear()
		_, err = v.Decrypt(t.Context(), ref("k", 0), nil, good)
		return err
	}
	_, err := v.Decrypt(t.Context(), ref("k", 0), nil, good)
	if err != nil {
		t.Fatal(err)
	}
	err = decrypt(2)
	if !errors.Is(err, hsm.ErrInvalidCiphertext) {
		t.Errorf("twice, from a token without reproach: %v", err)
	}
	err = decrypt(1)
	if err != nil {
		t.Errorf("once: %v", err)
	}
	// Now it is known to answer so to good ciphertexts.
	err = decrypt(doubtfulRepeats)
	if err != nil {
		t.Errorf("%d times, from a doubtful token: %v", doubtfulRepeats, err)
	}
	err = decrypt(doubtfulRepeats + 1)
	if !errors.Is(err, hsm.ErrInvalidCiphertext) {
		t.Errorf("%d times, from a doubtful token: %v", doubtfulRepeats+1, err)
	}
	bad := good
	bad.Tag = append([]byte{good.Tag[0] ^ 1}, good.Tag[1:]...)
	calls := v.Control.Calls("C_Decrypt")
	_, err = v.Decrypt(t.Context(), ref("k", 0), nil, bad)
	if !errors.Is(err, hsm.ErrInvalidCiphertext) {
		t.Errorf("tampered: %v", err)
	}
	if n := v.Control.Calls("C_Decrypt") - calls; n > doubtfulRepeats+2 {
		t.Errorf("a tampered ciphertext cost %d decryptions", n)
	}
}

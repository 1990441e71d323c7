package pkcs11

// The manners and answers of other HSMs, played by a module that the test compiles
// around SoftHSM (testdata/vendor.c).

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"xks-proxy/pkg/hsm"
)

// openVendor opens a new token through the vendor module, with three keys and a canary.
func openVendor(t *testing.T, change Overrides) (*Token, []byte) {
	t.Helper()
	dir := t.TempDir()
	module := filepath.Join(dir, "vendor.so")
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	out, err := exec.Command(cc, "-shared", "-fPIC", "-O1", "-o", module, "-DSOFTHSM=\""+testModule+"\"", "testdata/vendor.c", "-ldl").CombinedOutput()
	if err != nil {
		t.Fatalf("compile the vendor module: %v\n%s", err, out)
	}
	// SoftHSM stays open through its own path, so that the vendor module never finalizes it.
	keep, err := acquireModule(testModule)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keep.release(true) })
	c, _ := newTestToken(t)
	c.Module, c.Overrides, c.Sessions = module, change, 1
	token := openTest(t, c)
	value := random(t, hsm.KeySize)
	err = token.CreateKeys(t.Context(), []NewKey{{Label: "k", Value: value}, {Label: "canary-key"}})
	if err != nil {
		t.Fatal(err)
	}
	return token, value
}

// IVs made by the HSM come back, are new each time, and open with Go's GCM.
func TestVendorIVs(t *testing.T) {
	for _, test := range []struct {
		source IVSource
		size   int
		bits   IVBits
	}{{IVWrittenBack, 12, ""}, {IVWrittenBack, 16, ""}, {IVWrittenBack, 12, IVBitsZero}, {IVAppended, 16, ""}} {
		t.Run(string(test.source), func(t *testing.T) {
			t.Setenv("VENDOR_IV", string(test.source))
			token, value := openVendor(t, Overrides{IVSource: test.source, IVSize: test.size, IVBits: test.bits})
			seen := map[string]bool{}
			for _, size := range []int{0, 1, 4300, hsm.MaxDataSize} {
				plain, aad := random(t, size), random(t, 55)
				sealed, err := token.Encrypt(t.Context(), ref("k", 0), aad, plain)
				if err != nil {
					t.Fatal(err)
				}
				if len(sealed.IV) != test.size || len(sealed.Ciphertext) != size || seen[string(sealed.IV)] {
					t.Errorf("IV %x, %d bytes of ciphertext for %d", sealed.IV, len(sealed.Ciphertext), size)
				}
				seen[string(sealed.IV)] = true
				opened, err := goGCM(t, value, test.size).Open(nil, sealed.IV, append(bytes.Clone(sealed.Ciphertext), sealed.Tag...), aad)
				if err != nil || !bytes.Equal(opened, plain) {
					t.Errorf("Go does not open it: %v", err)
				}
				got, err := token.Decrypt(t.Context(), ref("k", 0), aad, sealed)
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("decrypt: %v", err)
				}
			}
		})
	}
}

// An HSM that rebooted has forgotten the login and numbers its objects anew. The
// handle of one key is then that of another: what was encrypted with it would be lost.
func TestRebootRenumbersKeys(t *testing.T) {
	token, value := openVendor(t, Overrides{})
	err := token.CreateKeys(t.Context(), []NewKey{{Label: "before"}, {Label: "m", Value: value}, {Label: "behind"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, reboots := range []string{"0", "1", "2", "3"} {
		t.Setenv("VENDOR_REBOOTS", reboots)
		for _, label := range []string{"m", "k"} {
			good := sealWithGo(t, value, 12, nil, []byte("x"))
			_, err := token.Decrypt(t.Context(), ref(label, 0), nil, good)
			if err != nil {
				t.Errorf("reboot %s, %s: a good ciphertext: %v", reboots, label, err)
			}
			sealed, err := token.Encrypt(t.Context(), ref(label, 0), nil, []byte("x"))
			if err != nil {
				t.Fatalf("reboot %s, %s: %v", reboots, label, err)
			}
			_, err = goGCM(t, value, 12).Open(nil, sealed.IV, append(bytes.Clone(sealed.Ciphertext), sealed.Tag...), nil)
			if err != nil {
				t.Errorf("reboot %s: encrypted under another key than %s: %v", reboots, label, err)
			}
		}
	}
}

// What each answer comes to, once and for good, and that the token serves on after it.
func TestVendorAnswers(t *testing.T) {
	token, value := openVendor(t, Overrides{})
	good := sealWithGo(t, value, 12, make([]byte, 40), []byte("x"))
	long := sealWithGo(t, value, 16, make([]byte, 40), []byte("x"))
	for _, test := range []struct {
		fail    string
		encrypt error // wanted of Encrypt
		decrypt error // wanted of Decrypt
		long    error // wanted of Decrypt with an IV of 16 bytes
	}{
		// Once: cured, or the canary says that the HSM is well.
		{"Decrypt 5 1", nil, hsm.ErrInvalidCiphertext, hsm.ErrInvalidCiphertext},
		{"Decrypt 6 1", nil, hsm.ErrInvalidCiphertext, hsm.ErrInvalidCiphertext},
		{"Decrypt 40 1", nil, hsm.ErrInvalidCiphertext, hsm.ErrInvalidCiphertext},
		{"Decrypt 35 1", nil, hsm.ErrInvalidCiphertext, hsm.ErrInvalidCiphertext},
		{"Decrypt 30 1", nil, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"Decrypt 101 1", nil, nil, nil},
		{"DecryptInit 101 1", nil, nil, nil},
		{"DecryptInit 5 1", nil, nil, nil},
		{"DecryptInit 60 1", nil, nil, nil},
		{"DecryptInit 90 1", nil, nil, nil},
		{"DecryptInit B3 1", nil, nil, nil},
		{"DecryptInit 71 1", nil, hsm.ErrTooLarge, hsm.ErrInvalidCiphertext},
		{"DecryptInit 68 1", nil, hsm.ErrKeyUsage, hsm.ErrKeyUsage},
		{"DecryptInit 6 1", nil, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"EncryptInit 82 1", nil, nil, nil},
		{"EncryptInit 101 1", nil, nil, nil},
		{"EncryptInit B0 1", nil, nil, nil},
		{"EncryptInit 63 1", hsm.ErrKeyUsage, nil, nil},
		{"EncryptInit 7 1", hsm.ErrTooLarge, nil, nil},
		{"EncryptInit 80000004 1", hsm.ErrUnavailable, nil, nil},
		{"Encrypt 5 1", hsm.ErrUnavailable, nil, nil},
		{"Encrypt 21 1", hsm.ErrTooLarge, nil, nil},
		{"OpenSession B1 1", nil, nil, nil},
		// For good: a fault, never a verdict on the request.
		{"Decrypt 5 1000", nil, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"Decrypt 6 1000", nil, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"DecryptInit 5 1000", nil, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"DecryptInit 71 1000", nil, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"DecryptInit 82 1000", nil, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"DecryptInit 101 1000", nil, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"DecryptInit B3 1000", nil, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"EncryptInit 30 1000", hsm.ErrUnavailable, nil, nil},
		{"EncryptInit 90 1000", hsm.ErrUnavailable, nil, nil},
		{"EncryptInit 71 1000", hsm.ErrUnavailable, nil, nil},
	} {
		calls := map[string]struct {
			want error
			do   func() error
		}{
			"encrypt": {test.encrypt, func() error {
				_, err := token.Encrypt(t.Context(), ref("k", 0), make([]byte, 40), []byte("x"))
				return err
			}},
			"decrypt": {test.decrypt, func() error {
				_, err := token.Decrypt(t.Context(), ref("k", 0), make([]byte, 40), good)
				return err
			}},
			"decrypt with a long IV": {test.long, func() error {
				_, err := token.Decrypt(t.Context(), ref("k", 0), make([]byte, 40), long)
				return err
			}},
		}
		for name, call := range calls {
			t.Setenv("VENDOR_FAIL", test.fail)
			err := call.do()
			if !errors.Is(err, call.want) {
				t.Errorf("%s, %s: want %v, got %v", test.fail, name, call.want, err)
			}
			t.Setenv("VENDOR_FAIL", "none 0 0")
			err = call.do()
			if err != nil {
				t.Errorf("%s, %s: afterwards: %v", test.fail, name, err)
			}
		}
	}
}

package pkcs11

// The manners and answers of other HSMs, played by a module in front of SoftHSM (test/faulty).

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

// vendor is an open token behind the faulty module.
type vendor struct {
	*Token
	*faulty.Control
	value []byte // of the key "k"
}

// newVendor makes a token, without keys, behind a faulty module of its own. The configuration has one
// session.
func newVendor(t *testing.T) (Config, *faulty.Control) {
	t.Helper()
	dir := t.TempDir()
	control, err := faulty.New(filepath.Join(dir, "control"))
	if err != nil {
		t.Fatal(err)
	}
	name, file, _ := strings.Cut(control.Env(), "=")
	t.Setenv(name, file)
	// One file is one instance in a process, hence a copy for each test.
	text, err := os.ReadFile(faultyModule(t))
	if err != nil {
		t.Fatal(err)
	}
	module := filepath.Join(dir, "faulty.so")
	err = os.WriteFile(module, text, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	// SoftHSM stays open through its own path, so that the faulty module never finalizes it.
	keep, err := acquireModule(testModule)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keep.release(true) })
	c, _ := newTestToken(t)
	c.Module, c.Sessions = module, 1
	return c, control
}

// openVendor makes a token with the keys "k" and "canary-key" and opens it with one session through a
// faulty module of its own. change may be nil.
func openVendor(t *testing.T, change func(*Config)) vendor {
	t.Helper()
	return openPlaying(t, faulty.Manners{}, change)
}

// openPlaying is openVendor for an HSM with these manners.
func openPlaying(t *testing.T, manners faulty.Manners, change func(*Config)) vendor {
	t.Helper()
	c, control := newVendor(t)
	err := control.Play(manners)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&c)
	}
	return openPlayed(t, c, control)
}

// openPlayed opens what newVendor made and creates the keys "k" and "canary-key".
func openPlayed(t *testing.T, c Config, control *faulty.Control) vendor {
	t.Helper()
	token := openTest(t, c)
	t.Cleanup(control.Clear) // before the token is closed: it would wait for calls that hang
	value := random(t, hsm.KeySize)
	err := token.CreateKeys(t.Context(), []NewKey{{Label: "k", Value: value}, {Label: "canary-key"}})
	if err != nil {
		t.Fatal(err)
	}
	return vendor{token, control, value}
}

func (v vendor) set(t *testing.T, rules ...faulty.Rule) {
	t.Helper()
	err := v.Set(rules...)
	if err != nil {
		t.Fatal(err)
	}
}

// The profiles on HSMs that behave as their vendors say: encrypted there and opened elsewhere, the
// other way round, and tampered with.
func TestVendorProfiles(t *testing.T) {
	for _, test := range []struct {
		profile string
		manner  faulty.IVManner
		ivSize  int
		change  Overrides
	}{
		{"luna", faulty.IVAppended, 16, Overrides{}},
		{"luna", faulty.IVLess, 16, Overrides{}},
		{"cloudhsm", faulty.IVWrittenBack, 12, Overrides{}},
		{"nshield", faulty.IVWrittenBack, 12, Overrides{}},
		{"nshield", faulty.IVWrittenBack, 16, Overrides{IVSize: 16}},
		{"nshield", faulty.IVWrittenBack, 12, Overrides{IVBits: IVBitsZero}},
		{"utimaco", faulty.IVFromCaller, 12, Overrides{}},
		{"generic", faulty.IVFromCaller, 12, Overrides{}},
	} {
		t.Run(fmt.Sprint(test.profile, " ", test.manner, " ", test.ivSize, " ", test.change.IVBits), func(t *testing.T) {
			v := openVendor(t, func(c *Config) { c.Profile, c.Overrides = test.profile, test.change })
			v.Manner(test.manner)
			other := openWith(t, NewKey{Label: "k", Value: v.value})
			seen := map[string]bool{}
			for _, size := range []int{0, 1, 4300, v.profile.MaxData} {
				plain, aad := random(t, size), random(t, 55)
				sealed, err := v.Encrypt(t.Context(), ref("k", 0), aad, plain)
				if err != nil {
					t.Fatal(err)
				}
				if len(sealed.IV) != test.ivSize || len(sealed.Ciphertext) != size || seen[string(sealed.IV)] {
					t.Errorf("IV %x, %d bytes of ciphertext for %d", sealed.IV, len(sealed.Ciphertext), size)
				}
				seen[string(sealed.IV)] = true
				opened, err := goGCM(t, v.value, test.ivSize).Open(nil, sealed.IV, append(bytes.Clone(sealed.Ciphertext), sealed.Tag...), aad)
				if err != nil || !bytes.Equal(opened, plain) {
					t.Errorf("Go does not open it: %v", err)
				}
				opensOn(t, "the HSM", v.Token, aad, plain, sealed)
				opensOn(t, "the other HSM", other, aad, plain, sealed)
				for _, ivSize := range []int{hsm.IVSize, hsm.LongIVSize} {
					opensOn(t, "the HSM, of Go", v.Token, aad, plain, sealWithGo(t, v.value, ivSize, aad, plain))
				}
				foreign, err := other.Encrypt(t.Context(), ref("k", 0), aad, plain)
				if err != nil {
					t.Fatal(err)
				}
				opensOn(t, "the HSM, of the other", v.Token, aad, plain, foreign)
				refusesTampered(t, v.Token, aad, sealed)
			}
			if v.canary.sample.Load() == nil {
				t.Error("no canary was made: nothing vouched for the HSM")
			}
		})
	}
}

func opensOn(t *testing.T, where string, token *Token, aad, plain []byte, sealed hsm.Sealed) {
	t.Helper()
	got, err := token.Decrypt(t.Context(), ref("k", 0), aad, sealed)
	if err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%s does not open %d bytes with an IV of %d: %v", where, len(plain), len(sealed.IV), err)
	}
}

// refusesTampered is requirement D2 on this token.
func refusesTampered(t *testing.T, token *Token, aad []byte, good hsm.Sealed) {
	t.Helper()
	refusesAs(t, hsm.ErrRefusedCiphertext, token, aad, good)
}

// refusesAs is refusesTampered with the kind of error that the token's codes allow.
func refusesAs(t *testing.T, kind error, token *Token, aad []byte, good hsm.Sealed) {
	t.Helper()
	flip := func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-1] ^= 1; return b }
	tampered := map[string]hsm.Sealed{
		"tag": {IV: good.IV, Ciphertext: good.Ciphertext, Tag: flip(good.Tag)},
		"IV":  {IV: flip(good.IV), Ciphertext: good.Ciphertext, Tag: good.Tag},
	}
	if len(good.Ciphertext) > 0 {
		tampered["ciphertext"] = hsm.Sealed{IV: good.IV, Ciphertext: flip(good.Ciphertext), Tag: good.Tag}
	}
	check := func(what string, aad []byte, sealed hsm.Sealed) {
		t.Helper()
		got, err := token.Decrypt(t.Context(), ref("k", 0), aad, sealed)
		if !errors.Is(err, kind) || hsm.IsFault(err) || got != nil {
			t.Errorf("%s tampered with: %v", what, err)
		}
	}
	for what, sealed := range tampered {
		check(what, aad, sealed)
	}
	check("AAD", flip(aad), good)
}

// A profile that does not know its HSM: no ciphertext comes out, least of all one whose IV is lost.
// What others encrypted still opens.
func TestProfileOfAnotherHSM(t *testing.T) {
	for _, test := range []struct {
		profile string
		manner  faulty.IVManner
	}{
		{"generic", faulty.IVWrittenBack}, {"generic", faulty.IVAppended}, {"generic", faulty.IVLess},
		{"luna", faulty.IVFromCaller}, {"luna", faulty.IVWrittenBack},
		{"nshield", faulty.IVFromCaller}, {"cloudhsm", faulty.IVAppended}, {"cloudhsm", faulty.IVLess},
	} {
		v := openVendor(t, func(c *Config) { c.Profile = test.profile })
		v.Manner(test.manner)
		sealed, err := v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
		if !errors.Is(err, hsm.ErrUnavailable) || sealed.Ciphertext != nil {
			t.Errorf("%s on manner %d: %v, %v", test.profile, test.manner, sealed, err)
		}
		opensOn(t, test.profile, v.Token, nil, []byte("x"), sealWithGo(t, v.value, 12, nil, []byte("x")))
	}
}

// An HSM that rebooted has forgotten the login and numbers its objects anew. The
// handle of one key is then that of another: what was encrypted with it would be lost.
func TestRebootRenumbersKeys(t *testing.T) {
	v := openVendor(t, nil)
	err := v.CreateKeys(t.Context(), []NewKey{{Label: "before"}, {Label: "m", Value: v.value}, {Label: "behind"}})
	if err != nil {
		t.Fatal(err)
	}
	for reboots := range 4 {
		if reboots > 0 {
			v.Reboot()
		}
		for _, label := range []string{"m", "k"} {
			good := sealWithGo(t, v.value, 12, nil, []byte("x"))
			_, err := v.Decrypt(t.Context(), ref(label, 0), nil, good)
			if err != nil {
				t.Errorf("reboot %d, %s: a good ciphertext: %v", reboots, label, err)
			}
			sealed, err := v.Encrypt(t.Context(), ref(label, 0), nil, []byte("x"))
			if err != nil {
				t.Fatalf("reboot %d, %s: %v", reboots, label, err)
			}
			_, err = goGCM(t, v.value, 12).Open(nil, sealed.IV, append(bytes.Clone(sealed.Ciphertext), sealed.Tag...), nil)
			if err != nil {
				t.Errorf("reboot %d: encrypted under another key than %s: %v", reboots, label, err)
			}
		}
	}
}

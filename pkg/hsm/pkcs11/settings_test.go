package pkcs11

// The settings for HSMs that are not like SoftHSM, each on a module that plays such an HSM.

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

func play(t *testing.T, control *faulty.Control, m faulty.Manners) {
	t.Helper()
	err := control.Play(m)
	if err != nil {
		t.Fatal(err)
	}
}

// serves says that the key "k" encrypts what Go opens, and the other way round.
func (v vendor) serves(t *testing.T) {
	t.Helper()
	plain, aad := random(t, 48), random(t, 55)
	sealed, err := v.Encrypt(t.Context(), ref("k", 0), aad, plain)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := goGCM(
		t,
		v.value,
		len(sealed.IV),
	).Open(nil, sealed.IV, append(bytes.Clone(sealed.Ciphertext), sealed.Tag...), aad)
	if err != nil || !bytes.Equal(opened, plain) {
		t.Errorf("Go does not open it: %v", err)
	}
	opensOn(t, "the HSM", v.Token, aad, plain, sealed)
	opensOn(t, "the HSM, of Go", v.Token, aad, plain, sealWithGo(t, v.value, 12, aad, plain))
}

func TestChooseToken(t *testing.T) {
	slot := func(id uint, label, serial, model string) tokenSlot {
		return tokenSlot{
			id,
			p11.TokenInfo{
				Label:          label,
				SerialNumber:   serial,
				Model:          model,
				ManufacturerID: "ACME   ",
				Flags:          p11.CKF_TOKEN_INITIALIZED,
			},
		}
	}
	number := func(n uint) *uint { return &n }
	blank := slot(3, strings.Repeat(" ", 32), "0000000000000000", "HSM-1")
	unready := slot(9, "new", "9", "HSM-9")
	unready.info.Flags = 0
	all := []tokenSlot{
		slot(
			0,
			"a",
			"1",
			"HSM-1",
		), slot(1, "a", "2", "HSM-1"), slot(2, "b", "0000000000000000", "HSM-2"), blank,
		slot(0x2000000000000001, "hsm1", "", "HSM-1"), unready,
	}
	for name, test := range map[string]struct {
		config Config
		want   uint
		words  []string // of the error; none: found
	}{
		"label":                  {config: Config{Token: "b"}, want: 2},
		"label and serial":       {config: Config{Token: "a", Serial: "2"}, want: 1},
		"serial alone":           {config: Config{Serial: "1"}, want: 0},
		"slot":                   {config: Config{Slot: number(0)}, want: 0},
		"blank label, by slot":   {config: Config{Slot: number(3)}, want: 3},
		"large slot":             {config: Config{Slot: number(0x2000000000000001)}, want: 0x2000000000000001},
		"model":                  {config: Config{Model: "HSM-2"}, want: 2},
		"manufacturer and model": {config: Config{Manufacturer: "ACME", Model: "HSM-2"}, want: 2},
		"ignoring the flag":      {config: Config{Token: "new", IgnoreInitialized: true}, want: 9},
		"two with one label": {config: Config{Token: "a"},
			words: []string{`2 tokens match token "a"`, "set serial of the right one", `slot 0: label "a", serial "1"`, "slot 1"}},
		"only the slot differs": {config: Config{Model: "HSM-1", Serial: "0000000000000000"}, want: 3},
		"model of many":         {config: Config{Model: "HSM-1"}, words: []string{"4 tokens match token_model \"HSM-1\"", "set slot of the right one", "0x2000000000000001"}},
		"wrong slot":            {config: Config{Token: "b", Slot: number(1)}, words: []string{`looked for token "b", slot 1`, `slot 2: label "b"`}},
		"not initialised":       {config: Config{Token: "new"}, words: []string{"token_initialized: ignore", `"new"`}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := chooseToken(test.config, all)
			if test.words == nil {
				if err != nil || got.id != test.want {
					t.Errorf("slot %d, %v", got.id, err)
				}
				return
			}
			if !errors.Is(err, hsm.ErrTokenNotFound) {
				t.Fatalf("slot %d, %v", got.id, err)
			}
			for _, word := range test.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q is missing in: %v", word, err)
				}
			}
		})
	}
	_, err := chooseToken(Config{Token: "a"}, []tokenSlot{unready})
	if !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("no usable token is there: %v", err)
	}
}

// A token without label and serial number is chosen by what it has, and known by it later.
func TestTokenWithoutSerial(t *testing.T) {
	c, control := newVendor(t)
	blank := faulty.Manners{
		Token: faulty.TokenInfo{
			Label:        " ",
			Serial:       "0000000000000000",
			Model:        "blank-hsm",
			Manufacturer: "ACME",
		},
	}
	play(t, control, blank)
	// Other tests' tokens are in the same SoftHSM and look the same: only the slot is left.
	m, err := acquireModule(testModule)
	if err != nil {
		t.Fatal(err)
	}
	defer m.release(true)
	slot, err := findToken(m, c)
	if err != nil {
		t.Fatal(err)
	}
	c.Token, c.Model, c.Slot = "", "blank-hsm", &slot.id
	v := openPlayed(t, c, control)
	v.serves(t)
	err = v.Alive(t.Context())
	if err != nil {
		t.Error(err)
	}
	other := blank
	other.Token.Model = "other-hsm"
	play(t, control, other)
	err = v.Alive(t.Context())
	if !errors.Is(err, hsm.ErrUnavailable) || !strings.Contains(err.Error(), `model "other-hsm"`) {
		t.Errorf("another token without a serial number: %v", err)
	}
	other.Token.Serial = "77"
	other.Token.Model = "blank-hsm"
	play(t, control, other)
	err = v.Alive(t.Context())
	if !errors.Is(err, hsm.ErrUnavailable) || !strings.Contains(err.Error(), `serial "77"`) {
		t.Errorf("a token with a serial number: %v", err)
	}
	play(t, control, blank)
	err = v.Alive(t.Context())
	if err != nil {
		t.Errorf("the token is back: %v", err)
	}
}

func TestUserTypes(t *testing.T) {
	for _, user := range []UserType{UserCrypto, "0x80000001", "2147483649"} {
		c, control := newVendor(t)
		play(t, control, faulty.Manners{UserType: 0x80000001})
		openFails(t, c, hsm.ErrModule, "CKR_USER_TYPE_INVALID", "set user_type")
		c.UserType = user
		v := openPlayed(t, c, control)
		v.serves(t)
		v.Reboot() // the login is lost, and found to be lost
		v.serves(t)
	}
	c, control := newVendor(t)
	play(t, control, faulty.Manners{UserType: 2})
	c.UserType = UserContext
	openPlayed(t, c, control).serves(t)
}

// A token that needs no login: C_Login is never called, and a session that looks public is good.
func TestNoLogin(t *testing.T) {
	c, control := newVendor(t)
	pin := string(c.PIN)
	c.UserType, c.PIN = UserNone, ""
	play(t, control, faulty.Manners{NoLogin: pin})
	v := openPlayed(t, c, control)
	v.serves(t)
	err := v.Alive(t.Context())
	if err != nil {
		t.Error(err)
	}
	if calls := v.Calls("C_Login"); calls != 0 {
		t.Errorf("C_Login was called %d times", calls)
	}
	// It wants a login after all.
	v.set(t, faulty.Rule{Function: "C_EncryptInit", Action: faulty.Return, Code: 0x101})
	_, err = v.Encrypt(t.Context(), ref("k", 0), nil, nil)
	if !errors.Is(err, hsm.ErrUnavailable) || !strings.Contains(err.Error(), "user_type") {
		t.Errorf("a login is wanted: %v", err)
	}
}

// The same on SoftHSM itself, whose public objects need no login.
func TestPublicKeys(t *testing.T) {
	c, _ := newTestToken(t)
	c.UserType, c.PIN = UserNone, ""
	token := openTest(t, c)
	err := token.CreateKeys(t.Context(), []NewKey{{Label: "k"}})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := token.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	opensOn(t, "SoftHSM", token, nil, []byte("x"), sealed)
}

func TestTokenThatIsNotInitialized(t *testing.T) {
	c, control := newVendor(t)
	play(t, control, faulty.Manners{Token: faulty.TokenInfo{ClearFlags: faulty.TokenInitialized}})
	openFails(t, c, hsm.ErrTokenNotFound, c.Token, "token_initialized: ignore")
	c.IgnoreInitialized = true
	openPlayed(t, c, control).serves(t)
}

// The three forms of CK_GCM_PARAMS, with each way to make an IV.
func TestGCMParameters(t *testing.T) {
	forms := map[faulty.GCMParameters]IVBits{
		faulty.GCM48: IVBitsLength, faulty.GCM40: IVBitsAbsent, faulty.GCMZeroBits: IVBitsZero,
	}
	manners := map[faulty.IVManner]IVSource{
		faulty.IVFromCaller: IVProxy, faulty.IVWrittenBack: IVWrittenBack, faulty.IVAppended: IVAppended, faulty.IVLess: IVAppended,
	}
	for form, bits := range forms {
		for manner, source := range manners {
			t.Run(fmt.Sprint(bits, " ", source, " ", manner), func(t *testing.T) {
				c, control := newVendor(t)
				play(t, control, faulty.Manners{GCM: form, IV: manner})
				size := hsm.IVSize
				if source == IVAppended {
					size = hsm.LongIVSize
				}
				c.Profile, c.Overrides = "generic", Overrides{
					IVBits:   bits,
					IVSource: source,
					IVSize:   size,
				}
				v := openPlayed(t, c, control)
				v.serves(t)
				refusesTampered(
					t,
					v.Token,
					[]byte("aad"),
					sealWithGo(t, v.value, 12, []byte("aad"), []byte("x")),
				)
				for _, other := range []IVBits{IVBitsLength, IVBitsAbsent, IVBitsZero} {
					if other == bits {
						continue
					}
					v.profile.IVBits = other
					_, err := v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
					passes := form == faulty.GCM48 &&
						other != IVBitsAbsent // SoftHSM does not look at ulIvBits
					passes = passes ||
						source == IVAppended && other != IVBitsAbsent && form != faulty.GCM40
					if err != nil && !hsm.IsFault(err) || err == nil && !passes {
						t.Errorf("%s instead of %s: %v", other, bits, err)
					}
				}
			})
		}
	}
}

// What C_GetMechanismInfo says against the mechanism is tried before it is believed.
func TestMechanismThatSaysNo(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, *faulty.Control){
		"no flags": func(t *testing.T, control *faulty.Control) { play(t, control, faulty.Manners{NoUseFlags: true}) },
		"no answer": func(t *testing.T, control *faulty.Control) {
			vendor{Control: control}.set(t, faulty.Rule{Function: "C_GetMechanismInfo", Action: faulty.Return, Code: 0x54})
		},
		"not offered": func(t *testing.T, control *faulty.Control) {
			vendor{Control: control}.set(t, faulty.Rule{Function: "C_GetMechanismInfo", Action: faulty.Return, Code: 0x70})
		},
		"no flags, and no session keys": func(t *testing.T, control *faulty.Control) {
			play(t, control, faulty.Manners{NoUseFlags: true})
			vendor{Control: control}.set(t, faulty.Rule{Function: "C_GenerateKey", Action: faulty.Return, Code: 0x68, Times: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, control := newVendor(t)
			prepare(t, control)
			v := openPlayed(t, c, control)
			v.serves(t)
			objects, err := v.Keys(t.Context())
			if err != nil || len(objects) != 2 {
				t.Errorf("the key of the trial is still there: %v, %v", objects, err)
			}
		})
	}
	c, control := newVendor(t)
	vendor{
		Control: control,
	}.set(
		t,
		faulty.Rule{Function: "C_GetMechanismInfo", Action: faulty.Return, Code: 0x70},
		faulty.Rule{Function: "C_EncryptInit", Action: faulty.Return, Code: 0x70},
	)
	openFails(t, c, hsm.ErrModule, "does not offer mechanism 0x1087", "C_GetMechanismInfo")
}

package pkcs11

// The pure parts: what answers mean, profiles, splitting outputs, the table.

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"xks-proxy/pkg/hsm"
)

func TestClassify(t *testing.T) {
	p := generic
	for _, test := range []struct {
		stage   stage
		decrypt bool
		code    hsm.CKR
		want    verdict
	}{
		{stageData, true, 0x05, vague},
		{stageData, true, 0x06, vague},
		{stageData, true, 0x35, badCiphertext},
		{stageData, true, 0x40, badCiphertext},
		{stageData, true, 0x41, badCiphertext},
		{stageData, true, 0x21, fault},
		{stageData, true, 0x30, fault},
		{stageData, true, 0x02, fault},
		{stageData, true, 0x150, fault},
		{stageData, false, 0x05, busy},
		{stageData, false, 0x06, busy},
		{stageData, false, 0x40, fault},
		{stageData, false, 0x21, fault},
		{stageData, false, 0x68, notThisKey},
		{stageData, true, 0x68, notThisKey},
		{stageData, false, 0x200, fault},
		{stageData, false, 0x80000115, fault},
		{stageData, false, 0x82, staleHandle},
		{stageInit, true, 0x05, staleHandle},
		{stageInit, true, 0x06, busy},
		{stageInit, false, 0x06, busy},
		{stageInit, true, 0x40, fault},
		{stageInit, true, 0x41, fault},
		{stageInit, true, 0x60, staleHandle},
		{stageInit, true, 0x82, staleHandle},
		{stageInit, true, 0x71, badParameter},
		{stageInit, true, 0x07, badParameter},
		{stageInit, true, 0x70, notThisKey},
		{stageInit, true, 0x1B, notThisKey},
		{stageInit, true, 0x54, notThisKey},
		{stageInit, true, 0x64, notThisKey},
		{stageInit, true, 0x66, notThisKey},
		{stageInit, true, 0x67, notThisKey},
		{stageInit, true, 0x200, notThisKey},
		{stageInit, true, 0x80000115, notThisKey},
		{stageInit, false, 0x62, notThisKey},
		{stageInit, false, 0x63, notThisKey},
		{stageInit, false, 0x68, notThisKey},
		{stageInit, false, 0x90, lostSession},
		{stageInit, false, 0xB0, lostSession},
		{stageInit, false, 0xB1, lostSession},
		{stageData, true, 0xB3, lostSession},
		{stageInit, false, 0x101, lostLogin},
		{stageData, true, 0x101, lostLogin},
		{stageInit, true, 0x80000004, fault},
		{stageRandom, false, 0x05, fault},
		{stageRandom, false, 0xB3, lostSession},
		{stageOutput, false, 0, fault},
	} {
		got := classify(&p, &callError{stage: test.stage, decrypt: test.decrypt, code: test.code})
		if got != test.want {
			t.Errorf("stage %d, decrypt %v, %s: verdict %d, want %d", test.stage, test.decrypt, test.code, got, test.want)
		}
	}
	nshield := generic.with(Overrides{InvalidCiphertext: []hsm.CKR{0x06}, Ambiguous: []hsm.CKR{0x05, 0x80000004}})
	for code, want := range map[hsm.CKR]verdict{0x06: badCiphertext, 0x05: vague, 0x80000004: vague, 0x40: fault} {
		got := classify(&nshield, &callError{stage: stageData, decrypt: true, code: code})
		if got != want {
			t.Errorf("overridden, %s: verdict %d, want %d", code, got, want)
		}
	}
}

// A cure that did not help makes the answer mean something else.
func TestUncured(t *testing.T) {
	p := generic
	for _, test := range []struct {
		stage stage
		code  hsm.CKR
		want  verdict
	}{
		{stageInit, 0x05, busy},
		{stageInit, 0x82, fault},
		{stageData, 0x82, fault},
		{stageInit, 0x90, fault},
		{stageData, 0xB3, fault},
		{stageInit, 0x101, fault},
		{stageData, 0x101, fault},
		{stageData, 0x05, vague},
		{stageInit, 0x70, notThisKey},
	} {
		e := &callError{stage: test.stage, decrypt: true, code: test.code}
		v := classify(&p, e)
		got := v.uncured(&p, e)
		if got != test.want {
			t.Errorf("stage %d, %s: verdict %d, want %d", test.stage, test.code, got, test.want)
		}
	}
}

// An answer from an Init call is never a verdict on the ciphertext by itself.
func TestInitIsNeverBadCiphertext(t *testing.T) {
	for name, p := range profiles {
		for code := range hsm.CKR(0x210) {
			v := classify(&p, &callError{stage: stageInit, decrypt: true, code: code})
			if v == badCiphertext || v == vague {
				t.Errorf("%s: %s is verdict %d", name, code, v)
			}
		}
	}
}

func TestFunctionNames(t *testing.T) {
	for want, e := range map[string]callError{
		"C_EncryptInit":    {stage: stageInit},
		"C_Encrypt":        {stage: stageData},
		"C_DecryptInit":    {stage: stageInit, decrypt: true},
		"C_Decrypt":        {stage: stageData, decrypt: true},
		"C_GenerateRandom": {stage: stageRandom},
	} {
		if e.function() != want {
			t.Errorf("%s: %s", want, e.function())
		}
	}
}

func TestSplitSealed(t *testing.T) {
	ciphertext, tag := []byte("cipher"), bytes.Repeat([]byte{7}, 16)
	iv12, iv16 := bytes.Repeat([]byte{9}, 12), bytes.Repeat([]byte{9}, 16)
	proxy := generic
	back := generic.with(Overrides{IVSource: IVWrittenBack})
	luna, _ := LookupProfile("luna")
	plainOut := slices.Concat(ciphertext, tag)
	for _, test := range []struct {
		name    string
		profile Profile
		iv, out []byte
		want    []byte // IV; nil: refused
	}{
		{"proxy", proxy, iv12, plainOut, iv12},
		{"written back", back, iv12, plainOut, iv12},
		{"appended", luna, nil, slices.Concat(plainOut, iv16), iv16},
		{"not written back", back, make([]byte, 12), plainOut, nil},
		{"appended zeros", luna, nil, slices.Concat(plainOut, make([]byte, 16)), nil},
		{"nothing appended", luna, nil, plainOut, nil},
		{"appended 12 instead of 16", luna, nil, slices.Concat(plainOut, iv12), nil},
		{"appended against the profile", proxy, iv12, slices.Concat(plainOut, iv16), nil},
		{"tag cut", proxy, iv12, plainOut[:21], nil},
		{"nothing", proxy, iv12, nil, nil},
	} {
		sealed, err := splitSealed(&test.profile, len(ciphertext), test.iv, test.out, len(test.out))
		if test.want == nil {
			if err == nil {
				t.Errorf("%s: accepted", test.name)
			}
			continue
		}
		if err != nil || !bytes.Equal(sealed.Ciphertext, ciphertext) || !bytes.Equal(sealed.Tag, tag) || !bytes.Equal(sealed.IV, test.want) {
			t.Errorf("%s: %+v, %v", test.name, sealed, err)
			continue
		}
		_ = append(sealed.Ciphertext, 0xFF)
		_ = append(sealed.Tag, 0xFF)
		if !bytes.Equal(sealed.Tag, tag) || !bytes.Equal(sealed.IV, test.want) {
			t.Errorf("%s: appending to one slice changes the next", test.name)
		}
	}
	_, err := splitSealed(&proxy, 0, iv12, make([]byte, 10), 1<<20) // a length beyond the buffer
	if err == nil {
		t.Error("a length beyond the buffer was accepted")
	}
}

func TestProfiles(t *testing.T) {
	want := []string{"cloudhsm", "generic", "luna", "nshield", "softhsm", "utimaco"}
	if !slices.Equal(Profiles(), want) {
		t.Errorf("%v", Profiles())
	}
	for _, name := range Profiles() {
		p, ok := LookupProfile(name)
		err := p.validate()
		if !ok || err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	luna, _ := LookupProfile("luna")
	if luna.IVSource != IVAppended || luna.IVSize != 16 || luna.ivBits(0) != 0 {
		t.Errorf("luna: %+v", luna)
	}
	cloudhsm, _ := LookupProfile("cloudhsm")
	if cloudhsm.ReadOnlySessions || cloudhsm.IVSource != IVWrittenBack {
		t.Errorf("cloudhsm: %+v", cloudhsm)
	}
	yes := true
	changed := cloudhsm.with(Overrides{IVSource: IVProxy, IVSize: 16, IVBits: IVBitsZero, Mechanism: 0x80000001, MaxAAD: 1, MaxData: 2, ReadOnlySessions: &yes,
		InvalidCiphertext: []hsm.CKR{1}, Ambiguous: []hsm.CKR{2}})
	if changed.IVSource != IVProxy || changed.IVSize != 16 || changed.ivBits(16) != 0 || changed.Mechanism != 0x80000001 || changed.MaxAAD != 1 ||
		changed.MaxData != 2 || !changed.ReadOnlySessions || changed.InvalidCiphertext[0] != 1 || changed.Ambiguous[0] != 2 {
		t.Errorf("%+v", changed)
	}
	_, ok := LookupProfile("unknown")
	if ok {
		t.Error("an unknown profile was found")
	}
}

func TestValidate(t *testing.T) {
	good := Config{Module: "/lib/m.so", Token: "t", PIN: "1"}
	err := good.Validate()
	if err != nil {
		t.Error(err)
	}
	for word, change := range map[string]func(*Config){
		"absolute":              func(c *Config) { c.Module = "m.so" },
		"no token is chosen":    func(c *Config) { c.Token = "" },
		"manufacturer":          func(c *Config) { c.Manufacturer = strings.Repeat("x", 33) },
		"model":                 func(c *Config) { c.Model = strings.Repeat("x", 17) },
		"user type \"x\"":       func(c *Config) { c.UserType = "x" },
		"security officer":      func(c *Config) { c.UserType = "0" },
		"user type is none":     func(c *Config) { c.UserType = UserNone },
		"byte order mark":       func(c *Config) { c.PIN = "\uFEFF1234" },
		"not UTF-8":             func(c *Config) { c.PIN = "12\xFF" },
		"ends with a blank":     func(c *Config) { c.PIN = "1234 " },
		"line end":              func(c *Config) { c.PIN = "1234\r" },
		"32 bytes":              func(c *Config) { c.Token = strings.Repeat("x", 33) },
		"serial":                func(c *Config) { c.Serial = strings.Repeat("1", 17) },
		"PIN is empty":          func(c *Config) { c.PIN = "" },
		"zero byte":             func(c *Config) { c.PIN = "1\x002" },
		"1 to 1024":             func(c *Config) { c.Sessions = 1025 },
		"sessions -1":           func(c *Config) { c.Sessions = -1 },
		"\"nope\" is unknown":   func(c *Config) { c.Profile = "nope" },
		"IV source":             func(c *Config) { c.Overrides.IVSource = "x" },
		"IV size 13":            func(c *Config) { c.Overrides.IVSize = 13 },
		"IV bits":               func(c *Config) { c.Overrides.IVBits = "x" },
		"the largest AAD":       func(c *Config) { c.Overrides.MaxAAD = hsm.MaxAADSize + 1 },
		"the largest data":      func(c *Config) { c.Overrides.MaxData = -1 },
		"use 512 to 65536":      func(c *Config) { c.Overrides.MaxData = 511 },
		"cannot mean that a de": func(c *Config) { c.Overrides.Ambiguous = []hsm.CKR{0} },
	} {
		c := good
		change(&c)
		err := c.Validate()
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", word, err)
		}
	}
}

// The configuration, PIN included, survives its way to the worker.
func TestConfigAsJSON(t *testing.T) {
	no := false
	c := Config{Module: "/m.so", Token: "t", Serial: "s", PIN: "p", Sessions: 3, Profile: "luna", TestKey: "k",
		Overrides: Overrides{IVSize: 12, ReadOnlySessions: &no, Ambiguous: []hsm.CKR{5}}}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var back Config
	err = json.Unmarshal(text, &back)
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(back)
	if err != nil || !bytes.Equal(text, again) || back.PIN != "p" || *back.Overrides.ReadOnlySessions {
		t.Errorf("%s\n%s", text, again)
	}
}

func TestTableTwins(t *testing.T) {
	secret := func(handle uint, id ...byte) listed {
		return listed{handle: handle, object: hsm.Object{Label: "k", ID: id, Class: hsm.SecretKey, KeyType: "AES", Bits: 256, Usage: hsm.CanEncrypt | hsm.CanDecrypt}}
	}
	half := func(handle uint, class hsm.Class, id ...byte) listed {
		return listed{handle: handle, object: hsm.Object{Label: "k", ID: id, Class: class, KeyType: "RSA", Bits: 2048}}
	}
	var tab table
	for name, test := range map[string]struct {
		found []listed
		want  error
	}{
		"one":                  {[]listed{secret(1)}, nil},
		"two":                  {[]listed{secret(1), secret(2)}, hsm.ErrDuplicateKey},
		"three":                {[]listed{secret(1), secret(2), secret(3)}, hsm.ErrDuplicateKey},
		"odd IDs":              {[]listed{secret(1, 1), secret(2, 2, 2)}, hsm.ErrDuplicateKey},
		"two versions":         {[]listed{secret(1), secret(2, 0, 0, 0, 1)}, nil},
		"a pair":               {[]listed{half(1, hsm.PublicKey), half(2, hsm.PrivateKey)}, hsm.ErrKeyUsage},
		"a key before a pair":  {[]listed{secret(1), half(2, hsm.PublicKey), half(3, hsm.PrivateKey)}, nil},
		"a key behind a pair":  {[]listed{half(2, hsm.PublicKey), half(3, hsm.PrivateKey), secret(1)}, nil},
		"twins around a half":  {[]listed{secret(1), half(2, hsm.PublicKey), secret(3)}, hsm.ErrDuplicateKey},
		"another label's twin": {[]listed{secret(1), {handle: 9, object: hsm.Object{Label: "other", Class: hsm.SecretKey}}}, nil},
	} {
		tab.replaceAll(test.found)
		e, ok := tab.get(hsm.KeyRef{Label: "k"})
		if !ok {
			t.Errorf("%s: not there", name)
			continue
		}
		err := e.refuses(hsm.CanEncrypt)
		if !errors.Is(err, test.want) || err == nil && e.handle != 1 {
			t.Errorf("%s: handle %d, %v", name, e.handle, err)
		}
	}
}

func TestTableForgets(t *testing.T) {
	var tab table
	tab.replaceLabel("k", nil)
	one := listed{handle: 1, object: hsm.Object{Label: "k", Class: hsm.SecretKey, KeyType: "AES", Bits: 256, Usage: hsm.CanEncrypt | hsm.CanDecrypt}}
	tab.replaceLabel("k", tab.index([]listed{one})["k"])
	key := hsm.KeyRef{Label: "k"}
	tab.forget(key, 2) // somebody else's, older handle
	_, ok := tab.get(key)
	if !ok {
		t.Error("a newer handle was forgotten")
	}
	newest, ok := tab.newest("k")
	if !ok || newest != key {
		t.Errorf("newest: %v, %v", newest, ok)
	}
	tab.forget(key, 1)
	_, ok = tab.get(key)
	if ok {
		t.Error("not forgotten")
	}
	_, ok = tab.newest("k")
	if ok {
		t.Error("newest of nothing")
	}
}

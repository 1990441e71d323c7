package main

// From the keys of hsms[] to what the HSM's process gets.

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"xks-proxy/internal/secret"
	"xks-proxy/internal/testkit"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
)

const tokenKeys = `serial: "17", slot: 0x2000000000000001, token_manufacturer: ACME, token_model: M1,
    token_initialized: ignore, user_type: 0x80000001, vendor: Shown, model: Shown too,
    overrides: {iv_bits: absent, max_aad: 512, max_data: 600}, `

func TestTokenSettings(t *testing.T) {
	testkit.ConfigDir(t)
	c, _ := mustLoad(t, testkit.ValidConfig(t, "token: hsm-b, ", "token: hsm-b, "+tokenKeys))
	got := tokenSettings(c.HSMs[1], secret.New("1234"), keyIdentity{testKey: "test"})
	want := pkcs11.Config{
		Token: "hsm-b", Serial: "17", Manufacturer: "ACME", Model: "M1", IgnoreInitialized: true, UserType: "0x80000001", PIN: "1234",
		Overrides: pkcs11.Overrides{IVBits: pkcs11.IVBitsAbsent, MaxAAD: 512, MaxData: 600},
	}
	if got.Token != want.Token || got.Serial != want.Serial || got.Slot == nil || *got.Slot != 0x2000000000000001 ||
		got.Manufacturer != want.Manufacturer || got.Model != want.Model || !got.IgnoreInitialized ||
		got.UserType != want.UserType || got.PIN != want.PIN ||
		got.Overrides.IVBits != want.Overrides.IVBits ||
		got.Overrides.MaxAAD != want.Overrides.MaxAAD ||
		got.Overrides.MaxData != want.Overrides.MaxData {
		t.Errorf("%+v", got)
	}
	err := got.Validate()
	if err != nil {
		t.Error(err)
	}
	plain := tokenSettings(c.HSMs[0], secret.New("1234"), keyIdentity{})
	if plain.Slot != nil || plain.IgnoreInitialized || plain.UserType != pkcs11.UserNormal {
		t.Errorf("defaults: %+v", plain)
	}
	stdout, stderr, code := execute(t, "config", "check", "test.yaml")
	if code != 0 ||
		!strings.Contains(
			stdout,
			"hsm-b, serial 17, slot 2305843009213693953, manufacturer ACME, model M1",
		) {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

// A token that needs no login has no PIN, anywhere.
func TestTokenWithoutLogin(t *testing.T) {
	dir := testkit.ConfigDir(t)
	c, _ := mustLoad(
		t,
		testkit.ValidConfig(t, "token: hsm-b, pin: {file: hsm-b.pin}", "slot: 0, user_type: none"),
	)
	all, _, err := resolveSecrets(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if all.PINs["hsm-b"].Reveal() != "" || all.PINs["hsm-a"].Reveal() != "1234-a" ||
		len(all.AccessKeys["demo"]) != 1 {
		t.Errorf("the secrets are mixed up: %+v", all)
	}
	k := &pinKeeper{
		hsm:     c.HSMs[1],
		dir:     dir,
		refused: refusedPINs{directory: filepath.Join(dir, "state"), log: zap.NewNop()},
	}
	_, err = k.reread()
	if err != nil {
		t.Errorf("hsm restart: %v", err)
	}
	// What config show prints is a configuration, too.
	stdout, stderr, code := execute(t, "config", "show", "test.yaml")
	if code != 0 {
		t.Fatal(stderr)
	}
	testkit.WriteFile(t, "shown.yaml", stdout, 0o644)
	again, _, code := execute(t, "config", "show", "shown.yaml")
	if code != 0 || !strings.Contains(again, "user_type: none") {
		t.Errorf("exit code %d\n%s", code, again)
	}
}

// A PIN that one token or one user refused may be right for another.
func TestRefusedPINOfAnotherToken(t *testing.T) {
	dir := testkit.ConfigDir(t)
	err := os.MkdirAll("state", 0o700)
	if err != nil {
		t.Fatal(err)
	}
	r := refusedPINs{directory: filepath.Join(dir, "state"), log: zap.NewNop()}
	slot, other := 1, 2
	h := hsmConfig{Name: "hsm-a", Module: "/m.so", Slot: &slot, UserType: "user"}
	pin := secret.New("1234")
	r.note(h, pin, &hsm.Error{Kind: hsm.ErrPINIncorrect, Function: "C_Login", Code: 0xA0})
	if r.held(h, pin) == nil {
		t.Error("a refused PIN is not held")
	}
	for name, change := range map[string]func(*hsmConfig){
		"slot":         func(h *hsmConfig) { h.Slot = &other },
		"user type":    func(h *hsmConfig) { h.UserType = "crypto-user" },
		"model":        func(h *hsmConfig) { h.TokenModel = "M" },
		"manufacturer": func(h *hsmConfig) { h.TokenManufacturer = "M" },
	} {
		changed := h
		change(&changed)
		err := r.held(changed, pin)
		if err != nil {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

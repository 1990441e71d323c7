package fleet

// From the keys of hsms[] to what the HSM's process gets.

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"xks-proxy/internal/config"
	"xks-proxy/internal/secret"
	"xks-proxy/internal/testkit"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
)

const tokenKeys = `serial: "17", slot: 0x2000000000000001, token_manufacturer: ACME, token_model: M1,
    token_initialized: ignore, user_type: 0x80000001, vendor: Shown, model: Shown too,
    overrides: {iv_bits: absent, max_aad: 512, max_data: 600}, `

// loadText is the configuration of a file with this text.
func loadText(t *testing.T, text string) *config.Config {
	t.Helper()
	testkit.WriteFile(t, "test.yaml", text, 0o644)
	c, _, err := config.Load("test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTokenSettings(t *testing.T) {
	testkit.ConfigDir(t)
	c := loadText(t, testkit.ValidConfig(t, "token: hsm-b, ", "token: hsm-b, "+tokenKeys))
	got := TokenSettings(c.HSMs[1], secret.New("1234"), KeyIdentity{TestKey: "test"})
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
	plain := TokenSettings(c.HSMs[0], secret.New("1234"), KeyIdentity{})
	if plain.Slot != nil || plain.IgnoreInitialized || plain.UserType != pkcs11.UserNormal {
		t.Errorf("defaults: %+v", plain)
	}
}

// A token that needs no login has no PIN, anywhere.
func TestTokenWithoutLogin(t *testing.T) {
	dir := testkit.ConfigDir(t)
	c := loadText(
		t, testkit.ValidConfig(t, "token: hsm-b, pin: {file: hsm-b.pin}", "slot: 0, user_type: none"),
	)
	all, _, err := config.ResolveSecrets(t.Context(), c)
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
		refused: RefusedPINs{Directory: filepath.Join(dir, "state"), Log: zap.NewNop()},
	}
	_, err = k.reread()
	if err != nil {
		t.Errorf("hsm restart: %v", err)
	}
}

// A PIN that one token or one user refused may be right for another.
func TestRefusedPINOfAnotherToken(t *testing.T) {
	dir := testkit.ConfigDir(t)
	err := os.MkdirAll("state", 0o700)
	if err != nil {
		t.Fatal(err)
	}
	r := RefusedPINs{Directory: filepath.Join(dir, "state"), Log: zap.NewNop()}
	slot, other := 1, 2
	h := config.HSM{Name: "hsm-a", Module: "/m.so", Slot: &slot, UserType: "user"}
	pin := secret.New("1234")
	r.Note(h, pin, &hsm.Error{Kind: hsm.ErrPINIncorrect, Function: "C_Login", Code: 0xA0})
	if r.Held(h, pin) == nil {
		t.Error("a refused PIN is not held")
	}
	for name, change := range map[string]func(*config.HSM){
		"slot":         func(h *config.HSM) { h.Slot = &other },
		"user type":    func(h *config.HSM) { h.UserType = "crypto-user" },
		"model":        func(h *config.HSM) { h.TokenModel = "M" },
		"manufacturer": func(h *config.HSM) { h.TokenManufacturer = "M" },
	} {
		changed := h
		change(&changed)
		err := r.Held(changed, pin)
		if err != nil {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

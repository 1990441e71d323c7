package fleet

// The PIN that a process is started with, as it is corrected and refused.

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"xks-proxy/internal/secret"
	"xks-proxy/internal/testkit"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
	"xks-proxy/pkg/hsm/worker"
)

func newPINKeeper(t *testing.T, pin string) (*pinKeeper, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pin")
	testkit.WriteFile(t, file, pin+"\n", 0o600)
	h := refusedHSM
	h.Profile, h.Sessions, h.PIN = "softhsm", 8, secret.Ref{File: file}
	return &pinKeeper{
		hsm: h, keys: KeyIdentity{TestKey: "test"}, dir: t.TempDir(), pin: secret.New(pin),
		refused: RefusedPINs{Directory: t.TempDir(), Log: zap.NewNop()},
	}, file
}

func pinIn(t *testing.T, settings json.RawMessage) string {
	t.Helper()
	var c pkcs11.Config
	if err := json.Unmarshal(settings, &c); err != nil {
		t.Fatal(err)
	}
	return string(c.PIN)
}

// A corrected PIN is read when asked for, is the one that is then remembered or not, and one that cannot be
// read leaves all as it was.
func TestPINKeeper(t *testing.T) {
	k, file := newPINKeeper(t, "1111")
	c, err := k.watch(worker.Config{Name: "hsm-a"})
	if err != nil || c.Held != nil || c.Name != "hsm-a" || pinIn(t, c.Settings) != "1111" {
		t.Fatalf("%v, held %v", err, c.Held)
	}
	c.OnPIN(errPINRefused)
	if k.refused.Held(k.hsm, secret.New("1111")) == nil {
		t.Error("the refusal is not remembered")
	}
	again, err := k.watch(worker.Config{})
	if err != nil || !hsm.IsConfig(again.Held) {
		t.Errorf("the next start of the program: %v, held %v", err, again.Held)
	}

	testkit.WriteFile(t, file, "2222", 0o600)
	settings, err := c.Refresh()
	if err != nil || pinIn(t, settings) != "2222" {
		t.Fatalf("a corrected PIN: %v", err)
	}
	c.OnPIN(errPINRefused)
	if k.refused.Held(k.hsm, secret.New("2222")) == nil || k.refused.Held(k.hsm, secret.New("1111")) != nil {
		t.Error("not the PIN that was refused last is remembered")
	}

	testkit.WriteFile(t, file, "", 0o600)
	_, err = c.Refresh()
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("an empty PIN: %v", err)
	}
	c.OnPIN(errPINRefused)
	if k.refused.Held(k.hsm, secret.New("2222")) == nil {
		t.Error("a PIN that could not be read has taken the place of the last one")
	}
	c.OnPIN(nil)
	if k.refused.Held(k.hsm, secret.New("2222")) != nil {
		t.Error("held although the HSM took it")
	}
}

func TestPINKeeperChecksTheSettings(t *testing.T) {
	k, _ := newPINKeeper(t, "1111")
	k.hsm.Token = strings.Repeat("x", 33)
	_, err := k.watch(worker.Config{})
	if err == nil || !strings.Contains(err.Error(), "HSM hsm-a: token") || strings.Contains(err.Error(), "1111") {
		t.Errorf("error is %v", err)
	}
}

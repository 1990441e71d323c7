package fleet

// A refused PIN is remembered, and recognised in its file by nobody but the proxy.

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/internal/config"
	"xks-proxy/internal/secret"
	"xks-proxy/internal/testkit"
	"xks-proxy/pkg/hsm"
)

var (
	refusedHSM = config.HSM{
		Name:   "hsm-a",
		Module: "/usr/lib/vendor.so",
		Token:  "customer",
		Serial: "4711",
	}
	errPINRefused = &hsm.Error{
		HSM:      "hsm-a",
		Op:       "log in",
		Function: "C_Login",
		Code:     0xA0,
		Kind:     hsm.ErrPINIncorrect,
	}
	refusedPINFile = "refused-pin-hsm-a.json"
)

func TestRefusedPINIsHeld(t *testing.T) {
	r := RefusedPINs{Directory: t.TempDir(), Log: zap.NewNop()}
	pin := secret.New("wrong-pin-123")
	if err := r.Held(refusedHSM, pin); err != nil {
		t.Fatalf("held before it was refused: %v", err)
	}
	r.Note(refusedHSM, pin, errPINRefused)

	err := r.Held(refusedHSM, pin)
	var e *hsm.Error
	if !errors.As(err, &e) || !errors.Is(err, hsm.ErrPINIncorrect) || e.HSM != "hsm-a" {
		t.Fatalf("error is %v", err)
	}
	for _, want := range []string{"CKR_PIN_INCORRECT (0xA0)", "not tried again", "xks-proxy hsm restart hsm-a", refusedPINFile} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error is %q, want %q in it", err, want)
		}
	}
	if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), pin.Reveal()) {
		t.Errorf("error is %q", err)
	}

	for name, change := range map[string]func(*config.HSM){
		"module": func(h *config.HSM) { h.Module = "/usr/lib/other.so" },
		"token":  func(h *config.HSM) { h.Token = "other" },
		"serial": func(h *config.HSM) { h.Serial = "" },
		"name":   func(h *config.HSM) { h.Name = "hsm-b" },
	} {
		other := refusedHSM
		change(&other)
		if err := r.Held(other, pin); err != nil {
			t.Errorf("with another %s: %v", name, err)
		}
	}
	if err := r.Held(refusedHSM, secret.New("wrong-pin-124")); err != nil {
		t.Errorf("a corrected PIN: %v", err)
	}

	r.Note(refusedHSM, pin, nil)
	if err := r.Held(refusedHSM, pin); err != nil {
		t.Errorf("held although the HSM took it: %v", err)
	}
	r.Note(refusedHSM, pin, nil) // nothing to forget is no failure
	left, err := os.ReadDir(r.Directory)
	if err != nil || len(left) != 0 {
		t.Errorf("left in the state directory: %v, %v", left, err)
	}
}

// The file is for its owner, and holds neither the PIN nor a quick check of it.
func TestRefusedPINFile(t *testing.T) {
	r := RefusedPINs{Directory: t.TempDir(), Log: zap.NewNop()}
	pin := secret.New("wrong-pin-123")
	r.Note(refusedHSM, pin, errPINRefused)
	path := filepath.Join(r.Directory, refusedPINFile)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	first, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(first), pin.Reveal()) {
		t.Fatalf("%s, %v", first, err)
	}
	var file map[string]any
	if err := json.Unmarshal(first, &file); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"format", "hsm", "module", "token", "serial", "salt", "check", "refused", "reason"} {
		if file[field] == nil {
			t.Errorf("no %s in %s", field, first)
		}
	}
	r.Note(refusedHSM, pin, errPINRefused)
	second, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var again map[string]any
	if err := json.Unmarshal(second, &again); err != nil {
		t.Fatal(err)
	}
	if again["salt"] == file["salt"] || again["check"] == file["check"] {
		t.Error("the same salt twice")
	}
}

// Only a PIN that the HSM found wrong is remembered: one that was not compared may be right.
func TestRefusalsNotRemembered(t *testing.T) {
	for name, refusal := range map[string]*hsm.Error{
		"locked":          {Op: "log in", Kind: hsm.ErrPINLocked, Code: 0xA4},
		"one try left":    {Op: "log in", Kind: hsm.ErrPINLocked},
		"expired":         {Op: "log in", Kind: hsm.ErrPINIncorrect, Code: ckrPINExpired},
		"not initialised": {Op: "log in", Kind: hsm.ErrPINIncorrect, Code: ckrPINNotInitialized},
		"HSM away":        {Op: "log in", Kind: hsm.ErrUnavailable},
	} {
		r := RefusedPINs{Directory: t.TempDir(), Log: zap.NewNop()}
		r.Note(refusedHSM, secret.New("1234"), refusal)
		if err := r.Held(refusedHSM, secret.New("1234")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file that cannot be understood says that a PIN was refused, and not which: none is tried.
func TestRefusedPINUnreadable(t *testing.T) {
	for name, text := range map[string]string{"no JSON": "hello", "empty": "", "another format": `{"format":2}`} {
		r := RefusedPINs{Directory: t.TempDir(), Log: zap.NewNop()}
		testkit.WriteFile(t, filepath.Join(r.Directory, refusedPINFile), text, 0o600)
		err := r.Held(refusedHSM, secret.New("1234"))
		if !errors.Is(err, hsm.ErrPINIncorrect) ||
			!strings.Contains(err.Error(), "delete "+filepath.Join(r.Directory, refusedPINFile)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Without a state directory nothing is remembered; with one that cannot be written the log says
// what that means.
func TestRefusedPINNowhere(t *testing.T) {
	r := RefusedPINs{Log: zap.NewNop()}
	r.Note(refusedHSM, secret.New("1234"), errPINRefused)
	if err := r.Held(refusedHSM, secret.New("1234")); err != nil {
		t.Error(err)
	}
	log, seen := observer.New(zapcore.DebugLevel)
	r = RefusedPINs{Directory: "/dev/null/gone", Log: zap.New(log)}
	r.Note(refusedHSM, secret.New("1234"), errPINRefused)
	if seen.FilterMessageSnippet("cannot save whether").Len() != 1 {
		t.Errorf("log: %v", seen.All())
	}
}

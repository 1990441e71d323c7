package fleet

// What is remembered of a PIN that an HSM refused. HSMs lock after a few wrong
// PINs, and a service manager may start this program again and again.

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/config"
	"xks-proxy/internal/secret"
	"xks-proxy/pkg/durable"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
)

// RefusedPINs are the files refused-pin-NAME.json in the state directory, one for
// each HSM whose PIN was refused. Without a directory nothing is remembered.
type RefusedPINs struct {
	Directory string
	Log       *zap.Logger
}

// refusedPIN is one file. Check shows whether a PIN is the refused one. A wrong PIN may be close to
// the right one, so the hash function is slow and the file has mode 0600.
type refusedPIN struct {
	Format  int       `json:"format"` // 1
	HSM     string    `json:"hsm"`
	Module  string    `json:"module"`
	Token   string    `json:"token"`
	Serial  string    `json:"serial,omitempty"` // as configured
	Login   string    `json:"login,omitempty"`  // the other settings that choose the token and the user; "": defaults
	Salt    []byte    `json:"salt"`             // 16 bytes
	Check   []byte    `json:"check"`            // PBKDF2-HMAC-SHA256 of the PIN, 32 bytes
	Refused time.Time `json:"refused"`
	Reason  string    `json:"reason"`

	Function string  `json:"function,omitempty"` // that refused it
	Code     hsm.CKR `json:"code,omitempty"`
}

const (
	refusedPINFormat = 1
	pinSaltSize      = 16
	maxRefusedPIN    = 1 << 20 // bytes of a file
	pinIterations    = 600_000 // some 0.2 s, only after a refusal
)

// C_Login's answers to a PIN that was not tried: it may be good once the HSM is set right.
const (
	ckrPINExpired        hsm.CKR = 0xA3
	ckrPINNotInitialized hsm.CKR = 0x102
)

// File is the path of the file about an HSM.
func (r RefusedPINs) File(name string) string {
	return filepath.Join(r.Directory, "refused-pin-"+url.PathEscape(name)+".json")
}

// Held is why the PIN must not be tried on the HSM: an *hsm.Error of
// hsm.ErrPINIncorrect if this very PIN was refused before, nil if it was not.
func (r RefusedPINs) Held(h config.HSM, pin secret.Secret) error {
	if r.Directory == "" {
		return nil
	}
	file := r.File(h.Name)
	old, err := readRefusedPIN(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return heldError(
			refusedPIN{HSM: h.Name},
			fmt.Sprintf("so says %s, which cannot be read (%v)", file, err),
			file,
		)
	case old.HSM != h.Name || old.Module != h.Module || old.Token != h.Token || old.Serial != h.Serial || old.Login != loginText(h):
		return nil
	}
	check, err := pinCheck(pin, old.Salt)
	if err != nil || subtle.ConstantTimeCompare(check, old.Check) == 0 {
		return nil // a salt of another size cannot be ours
	}
	return heldError(
		old,
		"at "+old.Refused.Format(time.RFC3339)+", and the same PIN is not tried again",
		file,
	)
}

// loginText is what a refusal depends on beside label and serial number: a PIN that one token or
// one user type refused may be right for another.
func loginText(h config.HSM) string {
	rest := config.HSM{
		Slot:              h.Slot,
		TokenManufacturer: h.TokenManufacturer,
		TokenModel:        h.TokenModel,
	}
	text := rest.TokenText()
	if h.UserType != "" && h.UserType != string(pkcs11.UserNormal) {
		text += " user type " + h.UserType
	}
	return text
}

func heldError(old refusedPIN, what, file string) error {
	return &hsm.Error{
		HSM:      old.HSM,
		Op:       "log in",
		Function: old.Function,
		Code:     old.Code,
		Kind:     hsm.ErrPINIncorrect,
		Detail: fmt.Sprintf(
			"%s: only a corrected one is; if it was the HSM that was corrected, delete %s (while "+
				"the proxy runs: xks-proxy hsm restart %s)",
			what,
			file,
			old.HSM,
		),
	}
}

// Note is the worker's OnPIN: it remembers a refusal, and forgets it when the PIN was taken.
func (r RefusedPINs) Note(h config.HSM, pin secret.Secret, refusal error) {
	if r.Directory == "" {
		return
	}
	var err error
	var e *hsm.Error
	switch {
	case refusal == nil:
		err = r.forget(h.Name)
	case errors.As(refusal, &e) && WasTried(e):
		err = r.Remember(h, pin, e)
	}
	if err != nil {
		r.Log.Error(
			"cannot save whether the HSM refused the PIN; after a restart the proxy could try a "+
				"refused PIN again, or not try a good one",
			zap.String("hsm", h.Name),
			zap.Error(err),
		)
	}
}

// WasTried reports whether the HSM compared the PIN and found it wrong. The HSM does not compare a
// locked PIN, which may be right.
func WasTried(refusal *hsm.Error) bool {
	return errors.Is(refusal, hsm.ErrPINIncorrect) && refusal.Code != ckrPINExpired &&
		refusal.Code != ckrPINNotInitialized
}

// Remember writes that the HSM refused the PIN. The file holds a slow hash of the PIN.
func (r RefusedPINs) Remember(h config.HSM, pin secret.Secret, refusal *hsm.Error) error {
	salt := make([]byte, pinSaltSize)
	_, _ = rand.Read(salt) // never fails
	check, err := pinCheck(pin, salt)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(refusedPIN{
		Format: refusedPINFormat, HSM: h.Name, Module: h.Module, Token: h.Token, Serial: h.Serial, Login: loginText(h),
		Salt: salt, Check: check, Refused: time.Now().UTC().Truncate(time.Second), Reason: refusal.Error(),
		Function: refusal.Function, Code: refusal.Code,
	}, "", "  ")
	if err != nil {
		return err
	}
	return durable.ReplaceFile(r.File(h.Name), append(data, '\n'))
}

func (r RefusedPINs) forget(name string) error {
	err := os.Remove(r.File(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func readRefusedPIN(file string) (refusedPIN, error) {
	data, err := durable.ReadFile(file, maxRefusedPIN)
	if err != nil {
		return refusedPIN{}, err
	}
	var r refusedPIN
	err = json.Unmarshal(data, &r)
	if err != nil {
		return refusedPIN{}, err
	}
	if r.Format != refusedPINFormat {
		return refusedPIN{}, fmt.Errorf("format %d is not known to this version", r.Format)
	}
	return r, nil
}

func pinCheck(pin secret.Secret, salt []byte) ([]byte, error) {
	return pbkdf2.Key(sha256.New, pin.Reveal(), salt, pinIterations, sha256.Size)
}

package pkcs11

// Who logs in, and what a PIN may look like.

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	p11 "github.com/miekg/pkcs11"
)

// UserType names the user that C_Login is called for: one of the constants below, or the number
// of a vendor's own (PKCS#11 2.40 section 3.4, CK_USER_TYPE).
type UserType string

// Users that have a name.
const (
	UserNormal  UserType = "user"             // CKU_USER
	UserCrypto  UserType = "crypto-user"      // CKU_LIMITED_USER of a Luna, 0x80000001
	UserContext UserType = "context-specific" // CKU_CONTEXT_SPECIFIC
	UserNone    UserType = "none"             // the token needs no login, and C_Login is never called
)

const lunaCryptoUser = 0x80000001

// logsIn is false for a token that needs no login.
func (u UserType) logsIn() bool { return u != UserNone }

// number is the CK_USER_TYPE; 0 for a type that check refuses.
func (u UserType) number() uint {
	switch u {
	case "", UserNormal:
		return p11.CKU_USER
	case UserCrypto:
		return lunaCryptoUser
	case UserContext:
		return p11.CKU_CONTEXT_SPECIFIC
	}
	n, err := strconv.ParseUint(string(u), 0, 32)
	if err != nil {
		return 0
	}
	return uint(n)
}

func (u UserType) check() error {
	if u == UserNone || u.number() != 0 {
		return nil
	}
	n, err := strconv.ParseUint(string(u), 0, 32)
	if err == nil && n == p11.CKU_SO {
		return errors.New("user type 0 is the security officer, who cannot use keys")
	}
	return fmt.Errorf("user type %q is unknown: use %s, %s, %s, %s or a number such as 0x80000001",
		string(u), UserNormal, UserCrypto, UserContext, UserNone)
}

// ValidUserType says whether text is a UserType.
func ValidUserType(text string) error { return UserType(text).check() }

// loggedIn reads the state of a session (CK_STATE). Vendors have states of their own for users of
// their own: there everything counts that is not public.
func (u UserType) loggedIn(state uint) bool {
	if u.number() == p11.CKU_USER {
		return state == p11.CKS_RO_USER_FUNCTIONS || state == p11.CKS_RW_USER_FUNCTIONS
	}
	return state != p11.CKS_RO_PUBLIC_SESSION && state != p11.CKS_RW_PUBLIC_SESSION
}

// byteOrderMark is what some editors put before the first character of a file.
const byteOrderMark = "\uFEFF"

// CheckPIN says what is wrong with a PIN as it was read, before a try is spent on it. PINs are
// UTF-8 (PKCS#11 2.40 section 5.5). The error never quotes the PIN.
func CheckPIN(pin string) error {
	switch {
	case pin == "":
		return errors.New("the PIN is empty")
	case !utf8.ValidString(pin):
		return errors.New("the PIN is not UTF-8: save it as plain text")
	case strings.HasPrefix(pin, byteOrderMark):
		return errors.New("the PIN begins with a byte order mark: save it without one")
	case strings.ContainsAny(pin, "\x00\r\n"):
		return errors.New("the PIN holds a line end or a zero byte")
	case strings.TrimSpace(pin) != pin:
		return errors.New("the PIN begins or ends with a blank: remove it")
	}
	return nil
}

func (c Config) checkPIN() error {
	if c.UserType.logsIn() {
		return CheckPIN(string(c.PIN))
	}
	if c.PIN != "" {
		return errors.New("there is a PIN, but the user type is none: nobody would log in with it")
	}
	return nil
}

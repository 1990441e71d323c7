package faulty

// The manners of other HSMs: no faults, but what one device always does and another never.

import (
	"errors"
	"fmt"
	"time"

	"xks-proxy/pkg/hsm"
)

// IVManner is how an HSM comes by the IV of an encryption.
type IVManner uint32

// The manners of vendors. With all but IVFromCaller the HSM makes the IV, and a new one each time.
const (
	IVFromCaller  IVManner = iota // SoftHSM's
	IVWrittenBack                 // into the caller's buffer of zeros; other IVs are refused (0x71)
	IVAppended                    // 16 bytes behind the tag; an IV from the caller is passed over
	IVLess                        // as IVAppended, but an IV from the caller is refused (0x71)
)

// Manner sets how IVs are made from now on.
func (c *Control) Manner(iv IVManner) {
	if iv > IVLess {
		panic(fmt.Sprintf("faulty: IV manner %d is unknown", iv))
	}
	c.file.iv.Store(uint32(iv))
}

// GCMParameters is the form of CK_GCM_PARAMS that an HSM takes; any other is refused (0x71).
type GCMParameters uint32

// The forms.
const (
	GCM48       GCMParameters = iota // SoftHSM's: 48 bytes, ulIvBits is 8 times the length
	GCM40                            // 40 bytes, without ulIvBits, as PKCS#11 2.40 printed it first
	GCMZeroBits                      // 48 bytes, ulIvBits is 0
)

// Helper is a process that the module starts in each C_Initialize: sleep, for a day. Only SIGKILL
// ends it. Helpers gives the process ids.
type Helper uint32

// The kinds of helpers.
const (
	NoHelper         Helper = iota
	HelperIgnoreTerm        // in the worker's process group, ignores SIGTERM, SIGINT and SIGHUP
	HelperSetsid            // the same in a session of its own
)

// TokenInfo is what C_GetTokenInfo says instead of SoftHSM's own. Texts are padded with blanks:
// "" keeps SoftHSM's, " " is blank, "0000000000000000" a serial of zeros. A serial that changes
// while the module runs is a token that was replaced. SoftHSM's free slot stays as it is.
type TokenInfo struct {
	Label, Manufacturer, Model, Serial string

	ClearFlags, SetFlags uint32 // TokenInitialized, …
}

// TokenInitialized is CKF_TOKEN_INITIALIZED, which some tokens never set.
const TokenInitialized = 0x400

// Manners is an HSM. The zero value is SoftHSM.
type Manners struct {
	IV  IVManner
	GCM GCMParameters

	Token TokenInfo

	// OwnLists: each caller of C_GetFunctionList gets a list of its own, and only the one through
	// which C_Initialize was called works; the others answer CKR_CRYPTOKI_NOT_INITIALIZED. Set it
	// before the module is loaded.
	OwnLists bool

	// NoUseFlags: C_GetMechanismInfo tells of neither CKF_ENCRYPT nor CKF_DECRYPT.
	NoUseFlags bool

	// NoLogin is the PIN of a token that needs no login: the module logs in by itself, sessions
	// look public, the token is without CKF_LOGIN_REQUIRED, and C_Login with a PIN is
	// CKR_PIN_INCORRECT.
	NoLogin string

	// UserType is the only one that may log in, such as Luna's Crypto User 0x80000001; CKU_USER is
	// CKR_USER_TYPE_INVALID then.
	UserType uint32

	// After a wrong PIN every login, from all processes, answers ThrottleCode for Throttle.
	Throttle     time.Duration
	ThrottleCode hsm.CKR

	// With MaxSessions sessions open in a process, one more is refused with SessionCode.
	MaxSessions int
	SessionCode hsm.CKR

	// NULLabels: labels of objects have a NUL at the end, when read and when searched for.
	NULLabels bool

	// EndlessFind: a search that found something goes on forever, with its last object.
	EndlessFind bool

	// NewFinds: an endless search gives a new handle each time, of an object that does not exist.
	NewFinds bool

	// Leak is how many bytes each C_EncryptInit takes and never gives back.
	Leak int

	// LongValues: C_GetAttributeValue says that the CKA_ID of an object is 1 TiB long.
	LongValues bool

	// ManySlots: C_GetSlotList says that there are 2^40 slots.
	ManySlots bool

	// KeepsDeleted: a key that a process has used works on there when it was deleted.
	KeepsDeleted bool

	WrongTag hsm.CKR // C_Decrypt's code for a wrong tag; 0: SoftHSM's 0x5
	BadKey   hsm.CKR // the Init functions' code for a handle of no key; 0: SoftHSM's 0x82

	// What the module does to its process, in each C_Initialize.
	Helper  Helper
	Prints  bool // to standard output and standard error
	Moves   bool // another locale, umask 0, working directory /
	Signals bool // handlers without SA_ONSTACK for SIGHUP, SIGUSR1, SIGCHLD, …
}

// The places of manners and texts in the control file: the numbers of faulty.h.
const (
	mannerPlaces = 32
	textPlaces   = 8
)

func (m Manners) numbers() []uint64 {
	return []uint64{
		number(m.OwnLists), uint64(m.GCM), uint64(m.MaxSessions), uint64(m.SessionCode),
		number(m.NoUseFlags), uint64(m.Token.ClearFlags), uint64(m.Token.SetFlags),
		number(m.NoLogin != ""), uint64(m.UserType), uint64(m.Throttle.Microseconds()),
		uint64(m.ThrottleCode), number(m.NULLabels), number(m.EndlessFind), uint64(m.WrongTag),
		uint64(m.BadKey), uint64(m.Helper), number(m.Prints), number(m.Moves), number(m.Signals), number(m.KeepsDeleted),
		number(m.NewFinds), uint64(m.Leak), number(m.LongValues), number(m.ManySlots),
	}
}

func (m Manners) texts() []string {
	return []string{m.Token.Label, m.Token.Manufacturer, m.Token.Model, m.Token.Serial, m.NoLogin}
}

func number(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func (m Manners) check() error {
	for _, s := range m.texts() {
		if len(s) > MaxLabel {
			return fmt.Errorf("%q is over %d bytes", s, MaxLabel)
		}
	}
	switch {
	case m.IV > IVLess || m.GCM > GCMZeroBits || m.Helper > HelperSetsid:
		return errors.New("an IV manner, a form of GCM parameters or a helper that does not exist")
	case m.MaxSessions < 0 || (m.MaxSessions > 0) != (m.SessionCode != 0):
		return errors.New("a session limit needs a code, and the code a limit")
	case m.Leak < 0:
		return errors.New("a leak below 0")
	case m.Throttle < 0 || (m.Throttle > 0) != (m.ThrottleCode != 0):
		return errors.New("a login throttle needs a code, and the code a time")
	}
	return nil
}

// Play puts these manners in the place of those before. Rules stay.
func (c *Control) Play(m Manners) error {
	err := m.check()
	if err != nil {
		return fmt.Errorf("manners: %w", err)
	}
	c.Manner(m.IV)
	for i, s := range m.texts() {
		c.file.texts[i].write(s)
	}
	for i, n := range m.numbers() {
		c.file.manners[i].Store(n)
	}
	return nil
}

// Helpers gives the process ids of the last 32 helpers of all processes. The test must end them.
func (c *Control) Helpers() []int {
	n := min(c.file.helperCount.Load(), maxHelpers)
	var pids []int
	for i := range n {
		pids = append(pids, int(c.file.helpers[i].Load()))
	}
	return pids
}

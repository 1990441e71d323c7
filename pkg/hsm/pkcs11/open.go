package pkcs11

// Opening a token: load, find, log in, check.

import (
	"context"
	"fmt"
	"strings"
	"time"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

// closeTimeout bounds the clean-up after a token that did not open.
const closeTimeout = 5 * time.Second

// Open loads the module, finds the token by its label (and serial number), logs in
// once and checks that it does AES-GCM. It reads no keys. Errors are *hsm.Error of kind
// ErrModule, ErrTokenNotFound (ErrUnavailable if the module shows no token at all), ErrPINIncorrect, ErrPINLocked, ErrUnavailable or
// ErrTimeout; a Config that does not validate is ErrModule.
func Open(ctx context.Context, c Config) (*Token, error) {
	err := c.Validate()
	if err != nil {
		return nil, &hsm.Error{Op: "open", Kind: hsm.ErrModule, Detail: err.Error()}
	}
	profile, err := c.profile()
	if err != nil {
		return nil, &hsm.Error{Op: "open", Kind: hsm.ErrModule, Detail: err.Error()}
	}
	if ctx.Err() != nil {
		return nil, timeout("open", ctx)
	}
	m, err := acquireModule(c.Module)
	if err != nil {
		return nil, err
	}
	slot, err := findToken(m.ctx, c)
	if err != nil {
		m.release(true)
		return nil, err
	}
	t := newToken(m, c, profile, slot)
	err = t.start(ctx, slot)
	if err != nil {
		// With a context of its own: the caller's may be what ended the start.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = t.Close(ctx)
		return nil, err
	}
	return t, nil
}

func newToken(m *module, c Config, profile Profile, slot tokenSlot) *Token {
	t := &Token{config: c, profile: profile, module: m, slot: slot.id, listing: make(chan struct{}, 1), prepared: make(chan struct{})}
	t.listing <- struct{}{}
	t.keys.rule = c.KeyVersion
	t.info = describeToken(m.ctx, slot.info)
	t.info.Sessions = c.sessions()
	t.login = newLogin(m, &t.profile, slot.id, t.info.Serial, c.PIN)
	t.work = newPool(c.sessions(), t.openWork)
	t.admin = newPool(adminSessions, t.openReserved)
	return t
}

func (t *Token) start(ctx context.Context, slot tokenSlot) error {
	err := t.login.ensure(ctx)
	if err != nil {
		return err
	}
	err = checkMechanism(t.module.ctx, slot.id, t.profile.Mechanism)
	if err != nil {
		return err
	}
	t.reserve(ctx)
	go t.prepare(context.WithoutCancel(ctx))
	return nil
}

// prepare finds the test key and makes the canary, in the background. A missing test key is made up
// for later, and a token that fails its canary is found out by the first probe; neither is a reason
// not to start. The keys are listed when somebody asks for them: that may take minutes, and until
// then they are found one by one.
func (t *Token) prepare(ctx context.Context) {
	defer close(t.prepared)
	if t.config.TestKey != "" {
		_, _ = t.findOnce(ctx, t.config.TestKey)
	}
	t.firstCanary(ctx)
}

// tokenSlot is a token that is present.
type tokenSlot struct {
	id   uint
	info p11.TokenInfo
}

// findToken looks for the one token with the label, and the serial number if given.
func findToken(ctx *p11.Ctx, c Config) (tokenSlot, error) {
	present, err := presentTokens(ctx)
	if err != nil {
		return tokenSlot{}, err
	}
	var fits []tokenSlot
	for _, slot := range present {
		if trim(slot.info.Label) == c.Token && (c.Serial == "" || trim(slot.info.SerialNumber) == c.Serial) {
			fits = append(fits, slot)
		}
	}
	switch len(fits) {
	case 1:
		return fits[0], nil
	case 0:
		kind := hsm.ErrTokenNotFound
		if len(present) == 0 {
			kind = hsm.ErrUnavailable // a remote HSM that is down looks like this
		}
		return tokenSlot{}, &hsm.Error{Op: "find token", Kind: kind, Detail: wanted(c) + "; " + whatIsThere(present)}
	default:
		return tokenSlot{}, &hsm.Error{Op: "find token", Kind: hsm.ErrTokenNotFound,
			Detail: fmt.Sprintf("%d tokens have the label %q: set the serial number of the right one; %s", len(fits), c.Token, whatIsThere(fits))}
	}
}

func wanted(c Config) string {
	if c.Serial == "" {
		return fmt.Sprintf("looked for label %q", c.Token)
	}
	return fmt.Sprintf("looked for label %q with serial %q", c.Token, c.Serial)
}

// presentTokens gives the initialised tokens of the module. A slot that cannot be
// read is passed over: its token is not the one that is present.
func presentTokens(ctx *p11.Ctx) ([]tokenSlot, error) {
	ids, err := ctx.GetSlotList(true)
	if err != nil {
		return nil, unavailable("find token", "C_GetSlotList", err)
	}
	var present []tokenSlot
	for _, id := range ids {
		info, err := ctx.GetTokenInfo(id)
		if err == nil && info.Flags&p11.CKF_TOKEN_INITIALIZED != 0 {
			present = append(present, tokenSlot{id: id, info: info})
		}
	}
	return present, nil
}

func whatIsThere(present []tokenSlot) string {
	if len(present) == 0 {
		return "the module shows no token at all: is the HSM reachable, and does the module read the right configuration?"
	}
	parts := make([]string, len(present))
	for i, slot := range present {
		parts[i] = fmt.Sprintf("%q (serial %s)", trim(slot.info.Label), trim(slot.info.SerialNumber))
	}
	return "the module shows " + strings.Join(parts, ", ")
}

// checkMechanism refuses a token that says it cannot do AES-GCM.
func checkMechanism(ctx *p11.Ctx, slot uint, mechanism uint32) error {
	info, err := ctx.GetMechanismInfo(slot, []*p11.Mechanism{p11.NewMechanism(uint(mechanism), nil)})
	if code(err) == ckrMechanismInvalid {
		return &hsm.Error{Op: "check mechanism", Function: "C_GetMechanismInfo", Code: ckrMechanismInvalid, Kind: hsm.ErrModule,
			Detail: fmt.Sprintf("the token does not offer mechanism 0x%X (AES-GCM): look at its policy, or override the mechanism", mechanism)}
	}
	if err != nil {
		return unavailable("check mechanism", "C_GetMechanismInfo", err)
	}
	const both = p11.CKF_ENCRYPT | p11.CKF_DECRYPT
	if info.Flags&both != both {
		return &hsm.Error{Op: "check mechanism", Kind: hsm.ErrModule,
			Detail: fmt.Sprintf("the token offers mechanism 0x%X, but not for both encrypt and decrypt (flags 0x%X)", mechanism, info.Flags)}
	}
	return nil
}

func describeToken(ctx *p11.Ctx, info p11.TokenInfo) hsm.Info {
	result := hsm.Info{
		Label:           trim(info.Label),
		Serial:          trim(info.SerialNumber),
		Manufacturer:    trim(info.ManufacturerID),
		Model:           trim(info.Model),
		HardwareVersion: version(info.HardwareVersion),
		FirmwareVersion: version(info.FirmwareVersion),
	}
	library, err := ctx.GetInfo()
	if err == nil {
		result.Library = trim(library.LibraryDescription) + " " + version(library.LibraryVersion)
	}
	return result
}

// ListTokens gives the initialised tokens that the module shows. It needs no PIN.
func ListTokens(modulePath string) ([]hsm.Info, error) {
	m, err := acquireModule(modulePath)
	if err != nil {
		return nil, err
	}
	defer m.release(true)
	present, err := presentTokens(m.ctx)
	if err != nil {
		return nil, err
	}
	infos := make([]hsm.Info, len(present))
	for i, slot := range present {
		infos[i] = describeToken(m.ctx, slot.info)
	}
	return infos, nil
}

func version(v p11.Version) string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// trim drops the padding of a fixed-size field: blanks by the standard, zero bytes by some modules.
func trim(s string) string { return strings.TrimRight(s, " \x00") }

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

// Open loads the module, finds the token that the settings choose, logs in
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
	slot, err := findToken(m, c)
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
	t.login = newLogin(m, &t.profile, slot, c)
	t.work = newPool(c.sessions(), t.openWork)
	t.admin = newPool(adminSessions, t.openReserved)
	return t
}

func (t *Token) start(ctx context.Context, slot tokenSlot) error {
	err := t.login.ensure(ctx)
	if err != nil {
		return err
	}
	err = t.checkMechanism(slot.id)
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
	present, err := presentTokens(m)
	if err != nil {
		return nil, err
	}
	var infos []hsm.Info
	for _, slot := range present {
		if slot.initialised() {
			infos = append(infos, describeToken(m.ctx, slot.info))
		}
	}
	return infos, nil
}

func version(v p11.Version) string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// trim drops the padding of a fixed-size field: blanks by the standard, zero bytes by some modules.
func trim(s string) string { return strings.TrimRight(s, " \x00") }

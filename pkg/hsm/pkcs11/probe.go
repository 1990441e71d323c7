package pkcs11

// Probe finds out how a module wants to be spoken to, by trying it on a session key. It runs in a
// process of its own: a module can crash, and a call into it can hang.

import (
	"context"
	"fmt"
	"slices"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

// ProbeOptions say what is probed.
type ProbeOptions struct {
	// Config names the module, chooses the token and says who logs in. Profile and Overrides are
	// not looked at: they are what is found out.
	Config Config
	// Skip are the names of steps that are left out, because the module crashed or hung in them.
	Skip []string
}

// prober is one probe. It is one goroutine's.
type prober struct {
	t       *Token
	slot    tokenSlot
	profile Profile  // what is tried next; sessions look at it
	keyed   *session // holds the session keys
	key     uint
	work    *session // for calls that may leave a session unusable; nil: to be opened
	report  *ProbeReport
}

// probeStep is one step. An error of an essential one ends the probe.
type probeStep struct {
	name      string
	text      string
	essential bool
	run       func(*prober, context.Context) error
}

// formStep opens the names of the steps that try a form of the parameters. Any but the one that
// the HSM wants may make it crash, hence none is tried any more when one works.
const formStep = "iv-bits-"

var probeSteps = []probeStep{
	{"login", "logging in", true, (*prober).logIn},
	{"mechanism", "asking for the mechanism", true, (*prober).askMechanism},
	{"key", "making an AES-256 session key", true, (*prober).makeKey},
	{
		formStep + string(IVBitsLength),
		"encrypting: GCM parameters of 48 bytes, ulIvBits set",
		false,
		tryForm(IVBitsLength),
	},
	{
		formStep + string(IVBitsZero),
		"encrypting: GCM parameters of 48 bytes, ulIvBits 0",
		false,
		tryForm(IVBitsZero),
	},
	{
		formStep + string(IVBitsAbsent),
		"encrypting: GCM parameters of 40 bytes, no ulIvBits",
		false,
		tryForm(IVBitsAbsent),
	},
	{"choose", "choosing", true, (*prober).choose},
	{"random", "encrypting with the HSM's random generator", false, (*prober).tryRandom},
	{"import", "decrypting what was encrypted elsewhere", false, (*prober).importKey},
	{"tampered", "decrypting ciphertexts that were tampered with", false, (*prober).tamper},
	{"bad-key", "using a key that does not exist", false, (*prober).useBadKey},
	{"max-aad", "looking for the longest AAD", true, (*prober).limitAAD},
	{"max-data", "looking for the longest plaintext", true, (*prober).limitData},
	{"cost", "measuring an encryption", false, (*prober).measure},
	{"sessions", "opening sessions", false, (*prober).countSessions},
	{"list", "listing the keys", false, (*prober).listKeys},
}

// ProbeGoesOnWithout says whether a probe in which the module died at a step may be made again
// without that step. Up to the login none is: nobody knows what became of the PIN.
func ProbeGoesOnWithout(step string) bool {
	switch step {
	case "load", "token", "login", "mechanism", "key", "choose":
		return false
	}
	return slices.ContainsFunc(probeSteps, func(s probeStep) bool { return s.name == step })
}

// Probe tries the token that the options choose. tell is called with the report as it stands before
// each step. Errors are those of Open.
func Probe(
	ctx context.Context,
	o ProbeOptions,
	tell func(step, text string, soFar ProbeReport),
) (ProbeReport, error) {
	report := &ProbeReport{Module: o.Config.Module, UserType: o.Config.UserType, Skipped: o.Skip}
	c := o.Config
	c.Profile, c.Overrides = "generic", Overrides{}
	err := c.Validate()
	if err != nil {
		return *report, &hsm.Error{Op: "probe", Kind: hsm.ErrModule, Detail: err.Error()}
	}
	tell("load", "loading the module", *report)
	m, err := acquireModule(c.Module)
	if err != nil {
		return *report, err
	}
	tell("token", "looking for the token", *report)
	present, err := presentTokens(m)
	if err != nil {
		return *report, err
	}
	slot, err := chooseToken(c, present)
	if err != nil {
		return *report, err
	}
	p := &prober{slot: slot, profile: generic, report: report}
	if slices.Contains(o.Skip, "max-aad") {
		p.profile.MaxAAD = hsm.KMSAADSize + hsm.AADFraming
	}
	if slices.Contains(o.Skip, "max-data") {
		p.profile.MaxData = hsm.KMSDataSize
	}
	p.t = newToken(m, c, generic, slot)
	p.describe(present)
	defer p.end()
	for _, step := range probeSteps {
		if slices.Contains(o.Skip, step.name) ||
			report.Found && strings.HasPrefix(step.name, formStep) {
			continue
		}
		tell(step.name, step.text, *report)
		err = step.run(p, ctx)
		switch {
		case err != nil && step.essential:
			return *report, err
		case err != nil:
			p.remark("%s: %v", step.text, err)
		case ctx.Err() != nil:
			return *report, timeout("probe", ctx)
		}
	}
	return *report, nil
}

// end destroys the keys and closes all sessions, hence logs out.
func (p *prober) end() {
	p.drop()
	if p.keyed != nil {
		p.keyed.destroyTrialKey(p.key)
		p.keyed.close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = p.t.Close(ctx) // the process ends now in any case
}

func (p *prober) remark(format string, args ...any) {
	p.report.Remarks = append(p.report.Remarks, fmt.Sprintf(format, args...))
}

func (p *prober) describe(present []tokenSlot) {
	r := p.report
	r.Token, r.Slot = p.t.info, p.slot.id
	r.Token.Sessions = 0
	r.Initialized = p.slot.initialised()
	r.LoginRequired = p.slot.info.Flags&p11.CKF_LOGIN_REQUIRED != 0
	r.Choice = choiceOf(p.slot, present)
	if !r.Initialized {
		p.remark("the token says that it is not initialised, hence token_initialized: ignore")
	}
	if !r.LoginRequired && p.t.config.UserType.logsIn() {
		p.remark("the token says that it needs no login: user_type: none may do")
	}
	if r.LoginRequired && !p.t.config.UserType.logsIn() {
		p.remark("the token says that it needs a login: keys may be hidden without one")
	}
}

// choiceOf gives the settings that choose this token, as few as possible. The slot is the last resort.
func choiceOf(slot tokenSlot, present []tokenSlot) Choice {
	i := identityOf(slot.info)
	choices := []Choice{
		{Token: i.label}, {Serial: i.serial}, {Token: i.label, Serial: i.serial},
		{Manufacturer: i.manufacturer, Model: i.model},
	}
	for _, choice := range choices {
		if choice == (Choice{}) || choice.Serial != "" && !i.hasSerial() ||
			choice.Token == "" && choice.Serial == "" && choice.Model == "" {
			continue
		}
		c := Config{
			Token:        choice.Token,
			Serial:       choice.Serial,
			Manufacturer: choice.Manufacturer,
			Model:        choice.Model,
		}
		matching := 0
		for _, other := range present {
			if c.matches(other) {
				matching++
			}
		}
		if matching == 1 {
			return choice
		}
	}
	return Choice{Slot: &slot.id}
}

// ProbeTokens describes each token that the module shows, and the settings that choose it. It needs
// no PIN.
func ProbeTokens(module string) ([]ProbeReport, error) {
	m, err := acquireModule(module)
	if err != nil {
		return nil, err
	}
	defer m.release(true)
	present, err := presentTokens(m)
	if err != nil {
		return nil, err
	}
	reports := make([]ProbeReport, 0, len(present))
	for _, slot := range present {
		reports = append(reports, ProbeReport{
			Module: module, Token: describeToken(m.ctx, slot.info), Slot: slot.id, Choice: choiceOf(slot, present),
			Initialized: slot.initialised(), LoginRequired: slot.info.Flags&p11.CKF_LOGIN_REQUIRED != 0,
		})
	}
	return reports, nil
}

// logIn finds out on the way whether the token has read-only sessions.
func (p *prober) logIn(ctx context.Context) error {
	session, err := p.t.module.ctx.OpenSession(p.slot.id, p11.CKF_SERIAL_SESSION)
	if err == nil {
		_ = p.t.module.ctx.CloseSession(session)
	} else {
		p.remark("read-only sessions: C_OpenSession answers %s, hence read_only_sessions: false", code(err))
		p.profile.ReadOnlySessions, p.t.profile.ReadOnlySessions = false, false
	}
	return p.t.login.ensure(ctx)
}

func (p *prober) askMechanism(context.Context) error {
	doubt := mechanismDoubt(p.t.module.ctx, p.slot.id, MechanismAESGCM)
	if doubt == nil {
		p.report.Mechanism = "CKM_AES_GCM for encrypting and decrypting"
		return nil
	}
	p.report.Mechanism = doubt.Error()
	p.remark("C_GetMechanismInfo: %v; it is tried anyway, here and by serve", doubt)
	return nil
}

// makeKey makes the key in a session of its own: session objects end with the session that made
// them. It needs a read-write one on some tokens.
func (p *prober) makeKey(context.Context) error {
	s, err := openSession(p.t.module, &p.profile, p.slot.id)
	if err != nil {
		return err
	}
	key, err := s.makeTrialKey(p.t.config.UserType.logsIn())
	if err != nil && p.profile.ReadOnlySessions {
		s.close()
		writes := p.profile
		writes.ReadOnlySessions = false
		s, err = openSession(p.t.module, &writes, p.slot.id)
		if err != nil {
			return err
		}
		s.profile = &p.profile
		key, err = s.makeTrialKey(p.t.config.UserType.logsIn())
	}
	if err != nil {
		s.close()
		return fmt.Errorf(
			"this user cannot make an AES-256 session key, on which the probe tries things: %w",
			err,
		)
	}
	p.keyed, p.key = s, key
	return nil
}

// ListsOnly says that the options choose no token: the module's tokens are listed (ProbeTokens).
func (o ProbeOptions) ListsOnly() bool { return o.Config.wanted() == "" }

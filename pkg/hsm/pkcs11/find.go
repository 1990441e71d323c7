package pkcs11

// Which token of a module is the one that the configuration means, and whether a slot still
// holds it.

import (
	"fmt"
	"slices"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

// tokenSlot is a token that is present.
type tokenSlot struct {
	id   uint
	info p11.TokenInfo
}

// initialised says what the token says of itself; some in use say no.
func (s tokenSlot) initialised() bool { return s.info.Flags&p11.CKF_TOKEN_INITIALIZED != 0 }

func (s tokenSlot) String() string {
	text := fmt.Sprintf(
		"slot %s: label %q, serial %q, manufacturer %q, model %q",
		slotNumber(s.id),
		trim(
			s.info.Label,
		),
		trim(s.info.SerialNumber),
		trim(s.info.ManufacturerID),
		trim(s.info.Model),
	)
	if !s.initialised() {
		text += ", not initialised"
	}
	return text
}

// slotNumber is a slot as operators write it. Large ones are bit patterns (CloudHSM).
func slotNumber(id uint) string {
	if id > 0xFFFFFFFF {
		return fmt.Sprintf("0x%X", id)
	}
	return fmt.Sprint(id)
}

// selector is one setting by which a token is chosen.
type selector struct {
	name  string // as in the configuration file
	want  string // "": not set
	value func(tokenSlot) string
}

// selectors are all settings that choose a token, in the order in which they are reported.
func (c Config) selectors() []selector {
	slot := ""
	if c.Slot != nil {
		slot = slotNumber(*c.Slot)
	}
	return []selector{
		{"token", c.Token, func(s tokenSlot) string { return trim(s.info.Label) }},
		{"serial", c.Serial, func(s tokenSlot) string { return trim(s.info.SerialNumber) }},
		{"slot", slot, func(s tokenSlot) string { return slotNumber(s.id) }},
		{
			"token_manufacturer",
			c.Manufacturer,
			func(s tokenSlot) string { return trim(s.info.ManufacturerID) },
		},
		{"token_model", c.Model, func(s tokenSlot) string { return trim(s.info.Model) }},
	}
}

// matches says whether the token has all that the settings ask for.
func (c Config) matches(slot tokenSlot) bool {
	for _, s := range c.selectors() {
		if s.want != "" && s.value(slot) != s.want {
			return false
		}
	}
	return true
}

// wanted is what the configuration looks for, for messages.
func (c Config) wanted() string {
	var parts []string
	for _, s := range c.selectors() {
		switch {
		case s.want == "":
		case s.name == "slot":
			parts = append(parts, s.name+" "+s.want)
		default:
			parts = append(parts, fmt.Sprintf("%s %q", s.name, s.want))
		}
	}
	return strings.Join(parts, ", ")
}

// findToken looks for the one token that the settings choose.
func findToken(m *module, c Config) (tokenSlot, error) {
	present, err := presentTokens(m)
	if err != nil {
		return tokenSlot{}, err
	}
	return chooseToken(c, present)
}

// chooseToken is the pure part of findToken. Exactly one token must match.
func chooseToken(c Config, present []tokenSlot) (tokenSlot, error) {
	var usable, fits, uninitialised []tokenSlot
	for _, slot := range present {
		usesIt := slot.initialised() || c.IgnoreInitialized
		if usesIt {
			usable = append(usable, slot)
		}
		switch {
		case !c.matches(slot):
		case usesIt:
			fits = append(fits, slot)
		default:
			uninitialised = append(uninitialised, slot)
		}
	}
	failure := &hsm.Error{Op: "find token", Kind: hsm.ErrTokenNotFound}
	switch {
	case len(fits) == 1:
		return fits[0], nil
	case len(fits) > 1:
		failure.Detail = fmt.Sprintf("%d tokens match %s: %s; the module shows %s",
			len(fits), c.wanted(), c.tellingApart(fits), whatIsThere(fits))
	case len(uninitialised) > 0:
		failure.Detail = fmt.Sprintf(
			"looked for %s; the token that matches says that it is not initialised "+
				"(CKF_TOKEN_INITIALIZED is not set): initialise it, or set token_initialized: ignore "+
				"if it is "+
				"in use anyway; the module shows %s",
			c.wanted(),
			whatIsThere(uninitialised),
		)
	case len(usable) == 0:
		failure.Kind = hsm.ErrUnavailable // a remote HSM that is down looks like this
		failure.Detail = fmt.Sprintf(
			"looked for %s; the module shows no token at all: is the HSM reachable, "+
				"and does the module read the right configuration?",
			c.wanted(),
		)
	default:
		failure.Detail = fmt.Sprintf(
			"looked for %s; the module shows %s",
			c.wanted(),
			whatIsThere(usable),
		)
	}
	return tokenSlot{}, failure
}

// tellingApart names the settings that would choose one of several tokens.
func (c Config) tellingApart(fits []tokenSlot) string {
	var names []string
	for _, s := range c.selectors() {
		values := map[string]bool{}
		for _, slot := range fits {
			if s.value(slot) != "" {
				values[s.value(slot)] = true
			}
		}
		if s.want == "" && len(values) == len(fits) {
			names = append(names, s.name)
		}
	}
	// Slot numbers change on many HSMs: the last resort.
	if len(names) > 1 {
		names = slices.DeleteFunc(names, func(name string) bool { return name == "slot" })
	}
	return "set " + strings.Join(names, " or ") + " of the right one"
}

// presentTokens gives the tokens of the module, also those that say that they are not
// initialised. A slot that cannot be read is passed over: its token is not the one that is present.
func presentTokens(m *module) ([]tokenSlot, error) {
	ids, err := m.slots()
	if err != nil {
		return nil, unavailable("find token", "C_GetSlotList", err)
	}
	var present []tokenSlot
	for _, id := range ids {
		info, err := m.ctx.GetTokenInfo(id)
		if err == nil {
			present = append(present, tokenSlot{id: id, info: info})
		}
	}
	return present, nil
}

// maxListed bounds how many tokens one message names: it has to cross the socket of the worker whole.
const maxListed = 24

func whatIsThere(slots []tokenSlot) string {
	parts := make([]string, 0, len(slots))
	for i, slot := range slots {
		if i == maxListed {
			parts = append(parts, fmt.Sprintf("and %d more", len(slots)-i))
			break
		}
		parts = append(parts, slot.String())
	}
	return strings.Join(parts, "; ")
}

// identity is what tells one token from another. It does not hold the slot: slots change their
// numbers.
type identity struct {
	label, serial, manufacturer, model string
}

func identityOf(info p11.TokenInfo) identity {
	return identity{
		label: trim(info.Label), serial: trim(info.SerialNumber),
		manufacturer: trim(info.ManufacturerID), model: trim(info.Model),
	}
}

// hasSerial says whether the serial number tells this token from others. Some tokens leave it
// blank or zero.
func (i identity) hasSerial() bool { return strings.Trim(i.serial, "0 ") != "" }

// differs says how another token differs from this one; "" if it is the same. A serial number
// decides alone: an administrator may change a label, a firmware the model.
func (i identity) differs(other identity) string {
	switch {
	case i.hasSerial() || other.hasSerial():
		if i.serial != other.serial {
			return fmt.Sprintf(
				"the slot now holds a token with serial %q instead of %q",
				other.serial,
				i.serial,
			)
		}
	case i != other:
		return fmt.Sprintf(
			"the slot now holds a token with label %q, manufacturer %q and model %q "+
				"instead of %q, %q and %q (neither has a serial number)",
			other.label,
			other.manufacturer,
			other.model,
			i.label,
			i.manufacturer,
			i.model,
		)
	}
	return ""
}

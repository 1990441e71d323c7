package pkcs11

// Does the token do AES-GCM? What C_GetMechanismInfo says is believed when it is good, and tried
// when it is not: some modules leave the flags unset or do not answer, and the mechanism works.

import (
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

// checkMechanism refuses a token that cannot do AES-GCM. When in doubt it encrypts under a key of
// its own; where no such key can be made, the token opens, and probes with the test key decide.
func (t *Token) checkMechanism(slot uint) error {
	doubt := mechanismDoubt(t.module.ctx, slot, t.profile.Mechanism)
	if doubt == nil {
		return nil
	}
	s, err := openSession(t.module, &t.profile, slot)
	if err != nil {
		return named("check mechanism", err)
	}
	defer s.close()
	key, err := s.makeTrialKey(t.config.UserType.logsIn())
	if err != nil {
		return nil
	}
	defer s.destroyTrialKey(key)
	_, failed := s.seal(key, canaryAAD, canaryPlaintext)
	if failed != nil && failed.stage == stageInit && failed.code == ckrMechanismInvalid {
		return doubt
	}
	return nil
}

// mechanismDoubt is what the token says against its mechanism, nil if it offers it.
func mechanismDoubt(ctx *p11.Ctx, slot uint, mechanism uint32) error {
	info, err := ctx.GetMechanismInfo(
		slot,
		[]*p11.Mechanism{p11.NewMechanism(uint(mechanism), nil)},
	)
	if err != nil {
		return &hsm.Error{
			Op:       "check mechanism",
			Function: "C_GetMechanismInfo",
			Code:     code(err),
			Kind:     hsm.ErrModule,
			Detail: fmt.Sprintf(
				"the token does not offer mechanism 0x%X (AES-GCM): look at its policy, "+
					"or override the mechanism",
				mechanism,
			),
		}
	}
	const both = p11.CKF_ENCRYPT | p11.CKF_DECRYPT
	if info.Flags&both != both {
		return &hsm.Error{Op: "check mechanism", Kind: hsm.ErrModule,
			Detail: fmt.Sprintf(
				"the token offers mechanism 0x%X, but not for both encrypt and decrypt "+
					"(flags 0x%X)",
				mechanism,
				info.Flags,
			)}
	}
	return nil
}

// trialTemplate is for AES-256 session keys: they are gone with the session at the latest, and
// nobody else can find them on the token. private is as for NewKey.template.
func trialTemplate(private bool) []*p11.Attribute {
	return []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY),
		p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
		p11.NewAttribute(p11.CKA_TOKEN, false),
		p11.NewAttribute(p11.CKA_PRIVATE, private),
		p11.NewAttribute(p11.CKA_SENSITIVE, true),
		p11.NewAttribute(p11.CKA_EXTRACTABLE, false),
		p11.NewAttribute(p11.CKA_ENCRYPT, true),
		p11.NewAttribute(p11.CKA_DECRYPT, true),
	}
}

// makeTrialKey makes a session key.
func (s *session) makeTrialKey(private bool) (uint, error) {
	template := append(trialTemplate(private), p11.NewAttribute(p11.CKA_VALUE_LEN, hsm.KeySize))
	mechanism := []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}
	key, err := s.module.ctx.GenerateKey(s.handle, mechanism, template)
	if err != nil {
		return 0, unavailable("make a session key", "C_GenerateKey", err)
	}
	return uint(key), nil
}

// destroyTrialKey is for a key of makeTrialKey. An error does no harm: the key ends with the
// session.
func (s *session) destroyTrialKey(key uint) {
	_ = s.module.ctx.DestroyObject(s.handle, p11.ObjectHandle(key))
}

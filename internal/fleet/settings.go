package fleet

// From the configuration to the settings of the tokens and the groups.

import (
	"xks-proxy/internal/config"
	"xks-proxy/internal/secret"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/pkcs11"
)

// TokenSettings is what a process needs to open the token of h. Sensitive: it holds the PIN.
func TokenSettings(h config.HSM, pin secret.Secret, keys KeyIdentity) pkcs11.Config {
	var slot *uint
	if h.Slot != nil {
		n := uint(*h.Slot)
		slot = &n
	}
	return pkcs11.Config{
		Module: h.Module,
		Token:  h.Token, Serial: h.Serial, Slot: slot, Manufacturer: h.TokenManufacturer, Model: h.TokenModel,
		IgnoreInitialized: h.TokenInitialized == "ignore",
		UserType:          pkcs11.UserType(h.UserType), PIN: pkcs11.Secret(pin.Reveal()),
		Sessions: h.Sessions, Profile: h.Profile, Overrides: h.Overrides.PKCS11(), TestKey: keys.TestKey,
		KeyVersion: keys.version,
	}
}

// KeyIdentity is what the group that an HSM serves in says of its keys.
type KeyIdentity struct {
	TestKey string // "": it is in no group
	create  bool   // the test key, where it is missing
	version hsm.VersionRule
}

// KeysOf returns the key identity of the group of an HSM. All groups of an HSM agree on it, which
// package config checks.
func KeysOf(c *config.Config, name string) KeyIdentity {
	for _, g := range c.HSMGroups {
		for _, m := range g.HSMs {
			if m.HSM == name {
				return KeyIdentity{
					TestKey: g.TestKey.Label,
					create:  g.TestKey.Create,
					version: hsm.VersionRule(g.KeyVersion),
				}
			}
		}
	}
	return KeyIdentity{}
}

// groupSettings is how a group of a configuration is made. Two that are equal (sameGroup) are one
// group.
func groupSettings(c *config.Config, g config.Group, hsms map[string]*runningHSM) group.Config {
	var members []group.MemberConfig
	for _, m := range g.HSMs {
		h := c.HSM(m.HSM)
		members = append(members, group.MemberConfig{
			Name: m.HSM, Priority: m.Priority, Token: hsms[m.HSM].fleetProcess, Vendor: h.Vendor, Model: h.Model,
		})
	}
	return group.Config{
		Name: g.Name, Members: members, TestKey: g.TestKey.Label,
		ProbeInterval: g.ProbeInterval, ProbeTimeout: g.ProbeTimeout, CatalogueInterval: g.CatalogueInterval,
		AttemptTimeout: g.AttemptTimeout, Budget: c.Server.Budget,
		HedgeAfter: g.HedgeAfter, HedgePercent: g.HedgePercent,
		LostKey: catalogue.LostKey(
			g.LostKey,
		), KeyVersion: hsm.VersionRule(g.KeyVersion), ParityRate: g.ParityRate,
		StateDirectory: c.StateDirectory,
	}
}

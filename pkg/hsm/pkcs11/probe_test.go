package pkcs11

// The probe on HSMs of all manners: what it finds must serve.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

// probeOf probes the token of c and gives the report and the steps that were made.
func probeOf(t *testing.T, c Config, skip ...string) (ProbeReport, []string, error) {
	t.Helper()
	var steps []string
	report, err := Probe(
		t.Context(),
		ProbeOptions{Config: c, Skip: skip},
		func(step, _ string, _ ProbeReport) {
			steps = append(steps, step)
		},
	)
	return report, steps, err
}

// found is what a report says to put into a configuration.
func (r ProbeReport) found(c Config) Config {
	p := r.Profile
	c.Profile = "generic"
	c.Overrides = Overrides{
		IVSource: p.IVSource, IVSize: p.IVSize, IVBits: p.IVBits, MaxAAD: p.MaxAAD, MaxData: p.MaxData,
		ReadOnlySessions: &p.ReadOnlySessions, Ambiguous: p.Ambiguous,
	}
	return c
}

// Whatever makes the IV, and whatever form the parameters have: the profile found encrypts, decrypts
// and refuses what was tampered with.
func TestProbeFindsWhatServes(t *testing.T) {
	for _, manner := range []faulty.IVManner{faulty.IVFromCaller, faulty.IVWrittenBack, faulty.IVAppended, faulty.IVLess} {
		for _, form := range []faulty.GCMParameters{faulty.GCM48, faulty.GCM40, faulty.GCMZeroBits} {
			for _, codes := range []struct{ wrongTag, badKey hsm.CKR }{{0, 0}, {0x40, 0x60}, {0x80000004, 0x60}, {0x6, 0}} {
				t.Run(
					fmt.Sprintf("IV %d, form %d, 0x%X", manner, form, uint32(codes.wrongTag)),
					func(t *testing.T) {
						c, control := newVendor(t)
						play(
							t,
							control,
							faulty.Manners{
								IV:       manner,
								GCM:      form,
								WrongTag: codes.wrongTag,
								BadKey:   codes.badKey,
							},
						)
						report, _, err := probeOf(t, c)
						if err != nil || !report.Found || report.AcceptsTampered {
							t.Fatalf("%+v, %v", report, err)
						}
						wantTag := max(codes.wrongTag, 0x5)
						if len(report.Refusals) != 4 || report.Refusals[0].Code != wantTag ||
							report.Refusals[0].Function != "C_Decrypt" {
							t.Errorf("refusals: %+v", report.Refusals)
						}
						if report.BadKey == nil ||
							report.BadKey.Code != 0x82 && report.BadKey.Code != codes.badKey {
							t.Errorf("bad key: %+v", report.BadKey)
						}
						if !report.UsableAfterRefusal || report.AgreesWithGo == nil ||
							!*report.AgreesWithGo ||
							!slices.Equal(report.DecryptsIVSizes, []int{12, 16}) {
							t.Errorf("%+v", report)
						}
						v := openPlayed(t, report.found(c), control)
						v.serves(t)
						kind := hsm.ErrRefusedCiphertext
						if codes.wrongTag == 0x40 {
							kind = hsm.ErrInvalidCiphertext // it means nothing else
						}
						refusesAs(
							t,
							kind,
							v.Token,
							[]byte("aad"),
							sealWithGo(t, v.value, 12, []byte("aad"), []byte("x")),
						)
						keys, err := v.Keys(t.Context())
						if err != nil || len(keys) != 2 {
							t.Errorf("the probe left keys behind: %v, %v", keys, err)
						}
					},
				)
			}
		}
	}
}

// What else a module can be like.
func TestProbeReports(t *testing.T) {
	for name, test := range map[string]struct {
		manners faulty.Manners
		rules   []faulty.Rule
		change  func(*Config)
		check   func(ProbeReport) bool
	}{
		"SoftHSM": {check: func(r ProbeReport) bool {
			return slices.Contains(r.Profiles, "softhsm") && r.Profile.MaxAAD == hsm.MaxAADSize && r.Profile.MaxData == hsm.MaxDataSize &&
				len(r.Tries) == len(manners)+1 && r.Tries[len(manners)].IVSource == IVHSMRandom && r.Tries[len(manners)].Works &&
				r.Sessions == maxProbeSessions && r.SessionLimit == "" && r.EncryptTime > 0 && r.Choice.Token != "" && r.Choice.Serial == ""
		}},
		"no flags": {manners: faulty.Manners{NoUseFlags: true}, check: func(r ProbeReport) bool {
			return strings.Contains(r.Mechanism, "not for both encrypt and decrypt")
		}},
		"few sessions": {manners: faulty.Manners{MaxSessions: 7, SessionCode: 0x31}, check: func(r ProbeReport) bool {
			return r.Sessions == 7 && strings.Contains(r.SessionLimit, "0x31")
		}},
		"a small HSM": {
			rules: []faulty.Rule{
				{Function: "C_EncryptInit", AADOver: 1000, Action: faulty.Return, Code: 0x7},
				{Function: "C_Encrypt", DataOver: 2000, Action: faulty.Return, Code: 0x21},
			},
			check: func(r ProbeReport) bool { return r.Profile.MaxAAD == 1000 && r.Profile.MaxData == 2000 },
		},
		"crypto user": {
			manners: faulty.Manners{UserType: 0x80000001},
			change:  func(c *Config) { c.UserType = UserCrypto },
			check:   func(r ProbeReport) bool { return r.Found },
		},
		"no read-only sessions": {
			rules: []faulty.Rule{{Function: "C_OpenSession", Action: faulty.Return, Code: 0xB7, Times: 1}},
			check: func(r ProbeReport) bool { return !r.Profile.ReadOnlySessions },
		},
		"no imports": {
			rules: []faulty.Rule{{Function: "C_CreateObject", Action: faulty.Return, Code: 0x54}},
			check: func(r ProbeReport) bool {
				return r.Found && r.AgreesWithGo == nil && strings.Contains(fmt.Sprint(r.Remarks), "no key can be imported")
			},
		},
		"no serial": {
			manners: faulty.Manners{Token: faulty.TokenInfo{Serial: "0000000000000000"}},
			check:   func(r ProbeReport) bool { return r.Choice.Token != "" && r.Choice.Serial == "" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, control := newVendor(t)
			if test.change != nil {
				test.change(&c)
			}
			play(t, control, test.manners)
			vendor{Control: control}.set(t, test.rules...)
			report, _, err := probeOf(t, c)
			if err != nil || !test.check(report) {
				t.Errorf("%+v, %v", report, err)
			}
		})
	}
}

// Nothing is tried after a refused PIN, and the PIN once.
func TestProbeWithAWrongPIN(t *testing.T) {
	c, control := newVendor(t)
	c.PIN = "31415926"
	report, steps, err := probeOf(t, c)
	if !errors.Is(err, hsm.ErrPINIncorrect) || report.Found || steps[len(steps)-1] != "login" ||
		control.Calls("C_Login") != 1 {
		t.Errorf("%v, %v, %d logins", err, steps, control.Calls("C_Login"))
	}
}

func TestProbeFindsNoWay(t *testing.T) {
	c, control := newVendor(t)
	vendor{
		Control: control,
	}.set(
		t,
		faulty.Rule{Function: "C_EncryptInit", Action: faulty.Return, Code: 0x71},
	)
	report, _, err := probeOf(t, c)
	if !errors.Is(err, hsm.ErrModule) || report.Found || len(report.Tries) != 3*len(manners) ||
		!strings.Contains(err.Error(), "none of the ways") {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestProbeSkips(t *testing.T) {
	c, _ := newVendor(t)
	report, steps, err := probeOf(t, c, "max-aad", "sessions")
	if err != nil || slices.Contains(steps, "max-aad") || slices.Contains(steps, "sessions") ||
		!slices.Contains(steps, "max-data") {
		t.Errorf("%v, %v", steps, err)
	}
	if !report.Found || report.Profile.MaxAAD != 8215 || report.Sessions != 0 ||
		!slices.Equal(report.Skipped, []string{"max-aad", "sessions"}) {
		t.Errorf("%+v", report)
	}
	for step, want := range map[string]bool{"login": false, "load": false, "key": false, "max-aad": true, "iv-bits-absent": true, "other": false} {
		if ProbeGoesOnWithout(step) != want {
			t.Errorf("%s: %v", step, !want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Probe(ctx, ProbeOptions{Config: c}, func(string, string, ProbeReport) {})
	if !errors.Is(err, hsm.ErrTimeout) {
		t.Errorf("with an ended context: %v", err)
	}
}

func TestProbeTokens(t *testing.T) {
	c, _ := newTestToken(t)
	tokens, err := ProbeTokens(testModule)
	if err != nil {
		t.Fatal(err)
	}
	found := slices.IndexFunc(tokens, func(r ProbeReport) bool { return r.Token.Label == c.Token })
	if found < 0 || tokens[found].Choice != (Choice{Token: c.Token}) ||
		!tokens[found].Initialized ||
		!tokens[found].LoginRequired {
		t.Errorf("%+v", tokens)
	}
	free := tokens[slices.IndexFunc(tokens, func(r ProbeReport) bool { return !r.Initialized })]
	if free.Choice.Slot == nil {
		t.Errorf("the free slot: %+v", free)
	}
}

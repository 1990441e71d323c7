package pkcs11

// What a probe finds out.

import (
	"xks-proxy/pkg/hsm"
)

// ProbeReport is what was found. Its fields are filled in step by step.
type ProbeReport struct {
	Module        string   `json:"module"`
	Token         hsm.Info `json:"token"`
	Slot          uint     `json:"slot"`
	Initialized   bool     `json:"initialized"`
	LoginRequired bool     `json:"loginRequired"`
	UserType      UserType `json:"userType"`
	Choice        Choice   `json:"choice"`

	Mechanism string     `json:"mechanism"` // what C_GetMechanismInfo says of AES-GCM
	Tries     []ProbeTry `json:"tries"`

	// Found: there is a way to encrypt and decrypt. Only then the rest means something.
	Found   bool         `json:"found"`
	Profile ProbeProfile `json:"profile"`

	// DecryptsIVSizes are the IV sizes, in bytes, of ciphertexts made elsewhere that the HSM
	// decrypts; AgreesWithGo says that Go's AES-GCM opens what the HSM sealed. Both are nil if no
	// key could be imported.
	DecryptsIVSizes []int `json:"decryptsIVSizes,omitempty"`
	AgreesWithGo    *bool `json:"agreesWithGo,omitempty"`

	// Refusals are the answers to ciphertexts that were tampered with. If AcceptsTampered, the HSM
	// decrypted one and must not be used.
	Refusals           []ProbeAnswer `json:"refusals,omitempty"`
	AcceptsTampered    bool          `json:"acceptsTampered"`
	UsableAfterRefusal bool          `json:"usableAfterRefusal"` // the session is
	BadKey             *ProbeAnswer  `json:"badKey,omitempty"`

	Sessions     int              `json:"sessions"` // opened at once, at most maxProbeSessions
	SessionLimit string           `json:"sessionLimit,omitempty"`
	Keys         int              `json:"keys"` // that this user sees
	ListTime     hsm.Milliseconds `json:"listTimeMs"`
	EncryptTime  hsm.Milliseconds `json:"encryptTimeMs"` // of one encryption

	Skipped  []string `json:"skipped,omitempty"`
	Remarks  []string `json:"remarks,omitempty"`
	Profiles []string `json:"profiles,omitempty"` // built-in ones that say the same
}

// ProbeProfile is a Profile as configuration files spell it.
type ProbeProfile struct {
	IVSource         IVSource  `json:"ivSource"`
	IVSize           int       `json:"ivSize"`
	IVBits           IVBits    `json:"ivBits"`
	MaxAAD           int       `json:"maxAAD"`
	MaxData          int       `json:"maxData"`
	ReadOnlySessions bool      `json:"readOnlySessions"`
	Ambiguous        []hsm.CKR `json:"ambiguous"`
}

// ProbeTry is one way to make an IV, and whether the HSM takes it.
type ProbeTry struct {
	IVSource IVSource `json:"ivSource"`
	IVSize   int      `json:"ivSize"`
	IVBits   IVBits   `json:"ivBits"`
	Works    bool     `json:"works"`
	// Why not
	Answer string `json:"answer,omitempty"`
}

// ProbeAnswer is what the HSM answered to something that is wrong.
type ProbeAnswer struct {
	What     string  `json:"what"`
	Function string  `json:"function"`
	Code     hsm.CKR `json:"code"`
}

// Choice are the settings that choose this token among those that the module shows.
type Choice struct {
	Token        string `json:"token,omitempty"`
	Serial       string `json:"serial,omitempty"`
	Slot         *uint  `json:"slot,omitempty"`
	Manufacturer string `json:"manufacturer,omitempty"`
	Model        string `json:"model,omitempty"`
}

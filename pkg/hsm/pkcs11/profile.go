package pkcs11

// What HSMs do differently with AES-GCM, as data: one Profile for each vendor,
// every field of which the configuration can override.

import (
	"fmt"
	"maps"
	"slices"

	"xks-proxy/pkg/hsm"
)

// IVSource says who makes the IV of an encryption, and how it comes back.
type IVSource string

// The ways to get an IV.
const (
	// IVProxy: random bytes of the operating system's CSPRNG are given to the HSM.
	IVProxy IVSource = "proxy"
	// IVHSMRandom: as IVProxy, XORed with bytes from C_GenerateRandom, which are fetched
	// ahead: random if either is.
	IVHSMRandom IVSource = "hsm-random"
	// IVWrittenBack: the HSM is given a zeroed buffer and writes its IV there.
	IVWrittenBack IVSource = "written-back"
	// IVAppended: the HSM is given no IV and appends its own to the output, behind the tag.
	IVAppended IVSource = "appended"
)

// IVBits says what ulIvBits of CK_GCM_PARAMS holds (PKCS#11 2.40 errata: headers
// and documents disagreed whether the field is there at all).
type IVBits string

// What modules want in ulIvBits.
const (
	IVBitsLength IVBits = "length" // 8 × ulIvLen
	IVBitsZero   IVBits = "zero"
	IVBitsAbsent IVBits = "absent" // there is no such field: the parameters have 40 bytes, not 48
)

// MinLimit is the least that an HSM has to take of AAD and of data, bytes: the proxy's own
// probes and comparisons stay below it.
const MinLimit = 512

// MechanismAESGCM is CKM_AES_GCM.
const MechanismAESGCM uint32 = 0x1087

// Profile is how one kind of HSM wants to be spoken to.
type Profile struct {
	IVSource         IVSource
	IVSize           int // bytes: hsm.IVSize or hsm.LongIVSize
	IVBits           IVBits
	Mechanism        uint32 // CKM_AES_GCM, or the vendor's own number
	MaxAAD           int    // bytes the HSM takes, at most hsm.MaxAADSize
	MaxData          int    // bytes of plaintext or ciphertext, at most hsm.MaxDataSize
	ReadOnlySessions bool   // false: sessions are opened read-write although we only read

	// InvalidCiphertext are answers of C_Decrypt that can only mean that tag, IV,
	// AAD and ciphertext do not belong together (requirement D2).
	InvalidCiphertext []hsm.CKR
	// Ambiguous are answers of C_Decrypt that mean that, or that the HSM is busy or broken. See
	// proof for what tells them apart.
	Ambiguous []hsm.CKR
}

// Overrides replace fields of a profile; a zero field leaves the profile's value.
type Overrides struct {
	IVSource          IVSource  `json:"ivSource,omitempty"`
	IVSize            int       `json:"ivSize,omitempty"`
	IVBits            IVBits    `json:"ivBits,omitempty"`
	Mechanism         uint32    `json:"mechanism,omitempty"`
	MaxAAD            int       `json:"maxAAD,omitempty"`
	MaxData           int       `json:"maxData,omitempty"`
	ReadOnlySessions  *bool     `json:"readOnlySessions,omitempty"`
	InvalidCiphertext []hsm.CKR `json:"invalidCiphertext,omitempty"`
	Ambiguous         []hsm.CKR `json:"ambiguous,omitempty"`
}

var (
	// CKR_AEAD_DECRYPT_FAILED (PKCS#11 3.0), CKR_ENCRYPTED_DATA_INVALID and
	// CKR_ENCRYPTED_DATA_LEN_RANGE, CKR_SIGNATURE_INVALID: verdicts on the data.
	dataVerdicts = []hsm.CKR{0x35, 0x40, 0x41, 0xC0}
	// CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED.
	vagueAnswers = []hsm.CKR{0x05, 0x06}
)

// generic is the plain reading of the standard; the others say where they differ.
var generic = Profile{
	IVSource:          IVProxy,
	IVSize:            hsm.IVSize,
	IVBits:            IVBitsLength,
	Mechanism:         MechanismAESGCM,
	MaxAAD:            hsm.MaxAADSize,
	MaxData:           hsm.MaxDataSize,
	ReadOnlySessions:  true,
	InvalidCiphertext: dataVerdicts,
	Ambiguous:         vagueAnswers,
}

var profiles = map[string]Profile{
	"generic": generic,
	"softhsm": generic,
	// In FIPS mode a Luna makes the IV itself, 16 bytes, behind the tag.
	"luna": generic.with(Overrides{IVSource: IVAppended, IVSize: hsm.LongIVSize}),
	// nShield in a strict Security World takes no IV from outside.
	"nshield": generic.with(Overrides{IVSource: IVWrittenBack}),
	// CloudHSM: its own IV in a zeroed buffer, no read-only sessions, 16,288 bytes in one AES-GCM call.
	"cloudhsm": generic.with(Overrides{IVSource: IVWrittenBack, MaxData: 16288, ReadOnlySessions: new(bool)}),
	"utimaco":  generic,
}

// Profiles gives the names of all profiles, sorted.
func Profiles() []string {
	return slices.Sorted(maps.Keys(profiles))
}

// LookupProfile gives the profile of that name.
func LookupProfile(name string) (Profile, bool) {
	p, ok := profiles[name]
	return p, ok
}

func (p Profile) with(o Overrides) Profile {
	if o.IVSource != "" {
		p.IVSource = o.IVSource
	}
	if o.IVSize != 0 {
		p.IVSize = o.IVSize
	}
	if o.IVBits != "" {
		p.IVBits = o.IVBits
	}
	if o.Mechanism != 0 {
		p.Mechanism = o.Mechanism
	}
	if o.MaxAAD != 0 {
		p.MaxAAD = o.MaxAAD
	}
	if o.MaxData != 0 {
		p.MaxData = o.MaxData
	}
	if o.ReadOnlySessions != nil {
		p.ReadOnlySessions = *o.ReadOnlySessions
	}
	if len(o.InvalidCiphertext) != 0 {
		p.InvalidCiphertext = o.InvalidCiphertext
	}
	if len(o.Ambiguous) != 0 {
		p.Ambiguous = o.Ambiguous
	}
	return p
}

func (p Profile) validate() error {
	switch p.IVSource {
	case IVProxy, IVHSMRandom, IVWrittenBack, IVAppended:
	default:
		return fmt.Errorf("IV source %q is unknown: use %s, %s, %s or %s", p.IVSource, IVProxy, IVHSMRandom, IVWrittenBack, IVAppended)
	}
	if p.IVSize != hsm.IVSize && p.IVSize != hsm.LongIVSize {
		return fmt.Errorf("IV size %d: the XKS API allows %d or %d bytes", p.IVSize, hsm.IVSize, hsm.LongIVSize)
	}
	switch p.IVBits {
	case IVBitsLength, IVBitsZero, IVBitsAbsent:
	default:
		return fmt.Errorf("IV bits %q is unknown: use %s, %s or %s", p.IVBits, IVBitsLength, IVBitsZero, IVBitsAbsent)
	}
	if p.MaxAAD < MinLimit || p.MaxAAD > hsm.MaxAADSize {
		return fmt.Errorf("the largest AAD is %d bytes: use %d to %d", p.MaxAAD, MinLimit, hsm.MaxAADSize)
	}
	if p.MaxData < MinLimit || p.MaxData > hsm.MaxDataSize {
		return fmt.Errorf("the largest data is %d bytes: use %d to %d", p.MaxData, MinLimit, hsm.MaxDataSize)
	}
	for _, code := range slices.Concat(p.InvalidCiphertext, p.Ambiguous) {
		if code == hsm.CKROK {
			return fmt.Errorf("%s cannot mean that a decrypt failed", code)
		}
	}
	return nil
}

// ivBits is the value of ulIvBits for an IV of so many bytes.
func (p Profile) ivBits(size int) int {
	if p.IVBits == IVBitsZero {
		return 0
	}
	return size * 8
}

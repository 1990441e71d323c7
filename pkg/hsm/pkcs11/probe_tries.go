package pkcs11

// The tries of a probe: ways to make an IV, answers to what is wrong, limits.

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

// session gives a session to try something on.
func (p *prober) session() (*session, error) {
	if p.work != nil {
		return p.work, nil
	}
	s, err := openSession(p.t.module, &p.profile, p.slot.id)
	if err != nil {
		return nil, err
	}
	p.work = s
	return s, nil
}

// drop closes the session, which a failed call may have left with an operation active.
func (p *prober) drop() {
	if p.work != nil {
		p.work.close()
	}
	p.work = nil
}

// seal encrypts under the session key and drops the session if that fails.
func (p *prober) seal(aad, plaintext []byte) (hsm.Sealed, error) {
	s, err := p.session()
	if err != nil {
		return hsm.Sealed{}, err
	}
	sealed, failed := s.seal(p.key, aad, plaintext)
	if failed != nil {
		p.drop()
		return hsm.Sealed{}, failed.as("encrypt", hsm.ErrUnavailable)
	}
	return sealed, nil
}

// open decrypts under a key; a nil *callError means that the HSM took it.
func (p *prober) open(key uint, aad []byte, sealed hsm.Sealed) ([]byte, *callError, error) {
	s, err := p.session()
	if err != nil {
		return nil, nil, err
	}
	plaintext, failed := s.open(key, aad, sealed)
	return plaintext, failed, nil
}

var (
	probeAAD       = []byte("xks-proxy hsm probe")
	probePlaintext = []byte("forty-eight bytes, as AWS KMS sends most of them")
)

// roundTrip encrypts twice and decrypts: the two IVs must differ.
func (p *prober) roundTrip(aad, plaintext []byte) error {
	var previous []byte
	for range 2 {
		sealed, err := p.seal(aad, plaintext)
		if err != nil {
			return err
		}
		if bytes.Equal(previous, sealed.IV) {
			return errors.New("the HSM used one IV twice")
		}
		previous = sealed.IV
		opened, failed, err := p.open(p.key, aad, sealed)
		if err != nil {
			return err
		}
		if failed != nil {
			p.drop()
			return failed.as("decrypt what it encrypted", hsm.ErrUnavailable)
		}
		if !bytes.Equal(opened, plaintext) {
			return errors.New("the HSM decrypts what it encrypted to something else")
		}
	}
	return nil
}

// manners are the ways to make an IV, the one that serve uses by default first.
var manners = []struct {
	source IVSource
	size   int
}{
	{IVProxy, hsm.IVSize}, {IVWrittenBack, hsm.IVSize}, {IVWrittenBack, hsm.LongIVSize},
	{IVAppended, hsm.LongIVSize}, {IVAppended, hsm.IVSize}, {IVProxy, hsm.LongIVSize},
}

// tryForm tries all manners with one form of the parameters.
func tryForm(bits IVBits) func(*prober, context.Context) error {
	return func(p *prober, ctx context.Context) error {
		for _, manner := range manners {
			p.set(manner.source, manner.size, bits)
			try := ProbeTry{IVSource: manner.source, IVSize: manner.size, IVBits: bits}
			err := p.roundTrip(probeAAD, probePlaintext)
			try.Works = err == nil
			if err != nil {
				try.Answer = err.Error()
			}
			p.report.Found = p.report.Found || try.Works
			p.report.Tries = append(p.report.Tries, try)
			if ctx.Err() != nil {
				return timeout("try IVs", ctx)
			}
		}
		return nil
	}
}

func (p *prober) set(source IVSource, size int, bits IVBits) {
	p.profile.IVSource, p.profile.IVSize, p.profile.IVBits = source, size, bits
}

// choose takes the first try that works.
func (p *prober) choose(context.Context) error {
	for _, try := range p.report.Tries {
		if !try.Works {
			continue
		}
		p.set(try.IVSource, try.IVSize, try.IVBits)
		p.publish()
		return nil
	}
	detail := "none of the ways to make an IV works"
	if len(p.report.Tries) > 0 {
		detail += "; with an IV from the proxy: " + p.report.Tries[0].Answer
	}
	return &hsm.Error{Op: "probe", Kind: hsm.ErrModule, Detail: detail}
}

// tryRandom tries the fourth manner, which to the HSM is the first.
func (p *prober) tryRandom(context.Context) error {
	if p.profile.IVSource != IVProxy {
		return nil
	}
	p.profile.IVSource = IVHSMRandom
	err := p.roundTrip(probeAAD, probePlaintext)
	p.profile.IVSource = IVProxy
	try := ProbeTry{
		IVSource: IVHSMRandom,
		IVSize:   p.profile.IVSize,
		IVBits:   p.profile.IVBits,
		Works:    err == nil,
	}
	if err != nil {
		try.Answer = err.Error()
	}
	p.report.Tries = append(p.report.Tries, try)
	return nil
}

// publish copies the profile to the report.
func (p *prober) publish() {
	p.report.Profile = ProbeProfile{
		IVSource: p.profile.IVSource, IVSize: p.profile.IVSize, IVBits: p.profile.IVBits,
		MaxAAD: p.profile.MaxAAD, MaxData: p.profile.MaxData,
		ReadOnlySessions: p.profile.ReadOnlySessions,
		Ambiguous:        p.profile.Ambiguous,
	}
	p.report.Profiles = nil
	for _, name := range Profiles() {
		if profiles[name].equal(p.profile) {
			p.report.Profiles = append(p.report.Profiles, name)
		}
	}
}

func (p Profile) equal(q Profile) bool {
	return p.IVSource == q.IVSource && p.IVSize == q.IVSize && p.IVBits == q.IVBits &&
		p.Mechanism == q.Mechanism &&
		p.MaxAAD == q.MaxAAD && p.MaxData == q.MaxData &&
		p.ReadOnlySessions == q.ReadOnlySessions &&
		slices.Equal(p.InvalidCiphertext, q.InvalidCiphertext) &&
		slices.Equal(p.Ambiguous, q.Ambiguous)
}

// importKey compares the HSM with Go's AES-GCM under a session key that both know.
func (p *prober) importKey(context.Context) error {
	value := make([]byte, hsm.KeySize)
	_, _ = rand.Read(value) // never fails
	defer clear(value)
	template := append(
		trialTemplate(p.t.config.UserType.logsIn()),
		p11.NewAttribute(p11.CKA_VALUE, value),
	)
	handle, err := p.t.module.ctx.CreateObject(p.keyed.handle, template)
	if err != nil {
		p.remark(
			"no key can be imported (C_CreateObject: %s): the HSM was not compared with others",
			code(err),
		)
		return nil
	}
	defer p.keyed.destroyTrialKey(uint(handle))
	block, err := aes.NewCipher(value)
	if err != nil {
		return err
	}
	for _, size := range []int{hsm.IVSize, hsm.LongIVSize} {
		gcm, err := cipher.NewGCMWithNonceSize(block, size)
		if err != nil {
			return err
		}
		iv := make([]byte, size)
		_, _ = rand.Read(iv)
		all := gcm.Seal(nil, iv, probePlaintext, probeAAD)
		n := len(probePlaintext)
		opened, failed, err := p.open(
			uint(handle),
			probeAAD,
			hsm.Sealed{IV: iv, Ciphertext: all[:n], Tag: all[n:]},
		)
		if err != nil {
			return err
		}
		if failed != nil {
			p.drop()
			p.remark(
				"a ciphertext of another HSM with an IV of %d bytes is not decrypted (%s: %s)",
				size,
				failed.function(),
				failed.code,
			)
			continue
		}
		if bytes.Equal(opened, probePlaintext) {
			p.report.DecryptsIVSizes = append(p.report.DecryptsIVSizes, size)
		}
	}
	return p.compareWithGo(uint(handle), block)
}

func (p *prober) compareWithGo(key uint, block cipher.Block) error {
	s, err := p.session()
	if err != nil {
		return err
	}
	sealed, failed := s.seal(key, probeAAD, probePlaintext)
	if failed != nil {
		p.drop()
		return failed.as("encrypt under an imported key", hsm.ErrUnavailable)
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, len(sealed.IV))
	if err != nil {
		return err
	}
	opened, err := gcm.Open(nil, sealed.IV, slices.Concat(sealed.Ciphertext, sealed.Tag), probeAAD)
	agrees := err == nil && bytes.Equal(opened, probePlaintext)
	p.report.AgreesWithGo = &agrees
	if !agrees {
		p.remark(
			"Go does not decrypt what the HSM encrypts: do not pair it with another vendor's",
		)
	}
	return nil
}

func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[0] ^= 1
	return b
}

// tamper records the answers to ciphertexts that do not authenticate (requirement D2).
func (p *prober) tamper(context.Context) error {
	good, err := p.seal(probeAAD, probePlaintext)
	if err != nil {
		return err
	}
	for _, test := range []struct {
		what   string
		aad    []byte
		sealed hsm.Sealed
	}{
		{"wrong tag", probeAAD, hsm.Sealed{IV: good.IV, Ciphertext: good.Ciphertext, Tag: flipped(good.Tag)}},
		{"wrong AAD", flipped(probeAAD), good},
		{"wrong ciphertext", probeAAD, hsm.Sealed{IV: good.IV, Ciphertext: flipped(good.Ciphertext), Tag: good.Tag}},
		{"wrong IV", probeAAD, hsm.Sealed{IV: flipped(good.IV), Ciphertext: good.Ciphertext, Tag: good.Tag}},
	} {
		_, failed, err := p.open(p.key, test.aad, test.sealed)
		if err != nil {
			return err
		}
		if failed == nil {
			p.report.AcceptsTampered = true
			p.remark("%s: the HSM decrypts anyway. It must not be used", test.what)
			continue
		}
		p.report.Refusals = append(
			p.report.Refusals,
			ProbeAnswer{What: test.what, Function: failed.function(), Code: failed.code},
		)
		p.learn(failed)
		opened, again, err := p.open(p.key, probeAAD, good)
		p.report.UsableAfterRefusal = err == nil && again == nil &&
			bytes.Equal(opened, probePlaintext)
		if !p.report.UsableAfterRefusal {
			p.drop()
		}
	}
	p.publish()
	return nil
}

// learn adds a code that the profile does not know yet. One try cannot show that a code means
// nothing else, hence it counts as ambiguous.
func (p *prober) learn(failed *callError) {
	v := classify(&p.profile, failed)
	if v == badCiphertext || v == vague || failed.stage != stageData || failed.code == hsm.CKROK {
		return
	}
	p.profile.Ambiguous = append(slices.Clone(p.profile.Ambiguous), failed.code)
}

func (p *prober) useBadKey(context.Context) error {
	good, err := p.seal(probeAAD, probePlaintext)
	if err != nil {
		return err
	}
	const far = 0x00FFFFF1 // no token has so many objects
	_, failed, err := p.open(p.key+far, probeAAD, good)
	if err != nil {
		return err
	}
	if failed == nil {
		return errors.New("the HSM decrypts with a handle that no key has")
	}
	p.drop()
	p.report.BadKey = &ProbeAnswer{
		What:     "bad key handle",
		Function: failed.function(),
		Code:     failed.code,
	}
	if classify(&p.profile, failed) != staleHandle {
		p.remark(
			"the proxy does not know the answer to a key that is gone, %s: deleted keys will look like faults",
			failed.code,
		)
	}
	return nil
}

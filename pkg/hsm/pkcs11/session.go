package pkcs11

// One PKCS#11 session and the encryptions and decryptions done on it. A session
// belongs to one goroutine at a time: modules crash otherwise.

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

type session struct {
	module  *module
	profile *Profile
	handle  p11.SessionHandle
	gcm     *gcmCall
	ahead   ivBatch // of the HSM's random generator
}

// openSession opens a session on the slot, read-only if the profile allows.
func openSession(m *module, p *Profile, slot uint) (*session, error) {
	flags := uint(p11.CKF_SERIAL_SESSION)
	if !p.ReadOnlySessions {
		flags |= p11.CKF_RW_SESSION
	}
	handle, err := m.ctx.OpenSession(slot, flags)
	if err != nil {
		e := unavailable("open session", "C_OpenSession", err)
		if e.Code == ckrSessionCount {
			e.Kind = hsm.ErrBusy
		}
		return nil, e
	}
	return &session{module: m, profile: p, handle: handle, gcm: newGCMCall(m.gcm, uint(handle))}, nil
}

// close ends the session. Its error would help nobody: the session may be long gone.
func (s *session) close() {
	_ = s.module.ctx.CloseSession(s.handle)
	s.gcm.free()
}

// seal encrypts. Lengths have been checked.
func (s *session) seal(key uint, aad, plaintext []byte) (hsm.Sealed, *callError) {
	ivLen, failed := s.prepareIV()
	if failed != nil {
		return hsm.Sealed{}, failed
	}
	in := gcmInput{
		key:       key,
		mechanism: s.profile.Mechanism,
		ivLen:     ivLen,
		ivBits:    s.profile.ivBits(ivLen),
		short:     s.profile.IVBits == IVBitsAbsent,
		aadLen:    copy(s.gcm.aad, aad),
		inLen:     copy(s.gcm.in, plaintext),
	}
	n, rv, data := s.gcm.run(in)
	defer s.gcm.wipe(in.inLen, 0)
	if rv != hsm.CKROK {
		return hsm.Sealed{}, &callError{stage: stageOf(data), code: rv}
	}
	sealed, err := splitSealed(s.profile, len(plaintext), s.gcm.iv[:ivLen], s.gcm.out, n)
	if err != nil {
		return hsm.Sealed{}, &callError{stage: stageOutput, detail: err.Error()}
	}
	return sealed, nil
}

// open decrypts. Lengths have been checked.
func (s *session) open(key uint, aad []byte, sealed hsm.Sealed) ([]byte, *callError) {
	ivLen := copy(s.gcm.iv, sealed.IV)
	n := copy(s.gcm.in, sealed.Ciphertext)
	n += copy(s.gcm.in[n:], sealed.Tag)
	in := gcmInput{
		decrypt:   true,
		key:       key,
		mechanism: s.profile.Mechanism,
		ivLen:     ivLen,
		ivBits:    s.profile.ivBits(ivLen),
		short:     s.profile.IVBits == IVBitsAbsent,
		aadLen:    copy(s.gcm.aad, aad),
		inLen:     n,
	}
	n, rv, data := s.gcm.run(in)
	// A refused decrypt may have left plaintext too; never more than there was ciphertext.
	defer s.gcm.wipe(0, in.inLen)
	if rv != hsm.CKROK {
		return nil, &callError{stage: stageOf(data), decrypt: true, code: rv}
	}
	if n != len(sealed.Ciphertext) {
		detail := fmt.Sprintf("%d bytes of plaintext for %d bytes of ciphertext", n, len(sealed.Ciphertext))
		return nil, &callError{stage: stageOutput, decrypt: true, detail: detail}
	}
	plaintext := make([]byte, n)
	copy(plaintext, s.gcm.out)
	return plaintext, nil
}

func stageOf(data bool) stage {
	if data {
		return stageData
	}
	return stageInit
}

// prepareIV fills the scratch's IV as the profile wants it and gives its length. The system's
// generator is asked for every IV. None is made ahead: a copy of this memory, in a virtual machine
// that was cloned or restored from a snapshot, would use it again, and GCM does not survive that.
func (s *session) prepareIV() (int, *callError) {
	size := s.profile.IVSize
	switch s.profile.IVSource {
	case IVAppended:
		return 0, nil
	case IVWrittenBack:
		clear(s.gcm.iv[:size])
		return size, nil
	}
	iv := s.gcm.iv[:size]
	_, _ = rand.Read(iv) // never fails: it would end the process
	if s.profile.IVSource == IVHSMRandom {
		ahead, err := s.ahead.next(size, s.hsmRandom)
		if err != nil {
			return 0, &callError{stage: stageRandom, code: code(err), detail: err.Error()}
		}
		subtle.XORBytes(iv, iv, ahead)
	}
	return size, nil
}

// hsmRandom refuses what no random generator gives: short or constant output would
// repeat an IV, and GCM does not survive that.
func (s *session) hsmRandom(b []byte) error {
	random, err := s.module.ctx.GenerateRandom(s.handle, len(b))
	if err != nil {
		return err
	}
	if len(random) != len(b) || bytes.Count(random, random[:1]) == len(random) {
		return fmt.Errorf("the HSM's random generator gave %d bytes that are not random, asked for %d", len(random), len(b))
	}
	copy(b, random)
	return nil
}

// splitSealed takes the output of C_Encrypt apart (requirement E2) and copies it.
// plain is the length of the plaintext, iv what the scratch holds after the call,
// and the first n bytes of out are the output. Any other length than exactly that of
// ciphertext, tag and, where appended, IV is refused.
func splitSealed(p *Profile, plain int, iv, out []byte, n int) (hsm.Sealed, error) {
	want := plain + hsm.TagSize
	if p.IVSource == IVAppended {
		want += p.IVSize
	}
	if n != want {
		return hsm.Sealed{}, fmt.Errorf("%d bytes of output for %d bytes of plaintext, expected %d: is the HSM's profile right about the IV (%s)?", n, plain, want, p.IVSource)
	}
	all := make([]byte, 0, plain+hsm.TagSize+p.IVSize)
	all = append(all, out[:n]...)
	if p.IVSource != IVAppended {
		all = append(all, iv...)
	}
	sealed := hsm.Sealed{
		Ciphertext: all[:plain:plain],
		Tag:        all[plain : plain+hsm.TagSize : plain+hsm.TagSize],
		IV:         all[plain+hsm.TagSize:],
	}
	if len(sealed.IV) != p.IVSize {
		return hsm.Sealed{}, fmt.Errorf("the IV has %d bytes, expected %d", len(sealed.IV), p.IVSize)
	}
	// A buffer that came back untouched was the IV: the same for every message.
	if isZero(sealed.IV) {
		return hsm.Sealed{}, fmt.Errorf("the IV is all zeros: the HSM did not make one, correct its profile (%s)", p.IVSource)
	}
	return sealed, nil
}

func isZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

package worker

// Bodies of the operations: one form for every request, one for what Encrypt answers.

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"xks-proxy/pkg/hsm"
)

const (
	requestHead  = 4 + 4 + 2 + 4 + 1 + 1
	sealedHead   = 1 + 1
	maxLabelSize = 1024 // bytes; far above the 128 of an external key id (requirement U3)
)

// request is the body of kindEncrypt, kindDecrypt, kindFind and kindKeys:
//
//	timeout  4 bytes, µs: how long the caller waits; 0 = forever
//	version  4 bytes
//	sizes of label (2 bytes), AAD (4), IV (1), tag (1)
//	label, AAD, IV, tag
//	data     the rest: plaintext or ciphertext
//
// Numbers are big-endian. Fields that a kind does not use are empty.
type request struct {
	timeout time.Duration
	key     hsm.KeyRef
	aad     []byte
	iv      []byte
	tag     []byte
	data    []byte
}

// check refuses what the frame cannot carry, before anything is sent. The error
// is an *hsm.Error.
func (r *request) check() error {
	switch {
	case len(r.key.Label) > maxLabelSize:
		return &hsm.Error{Kind: hsm.ErrTooLarge, Detail: fmt.Sprintf("a label of %d bytes, at most %d", len(r.key.Label), maxLabelSize)}
	case len(r.aad) > hsm.MaxAADSize:
		return &hsm.Error{Kind: hsm.ErrTooLarge, Detail: fmt.Sprintf("an AAD of %d bytes, at most %d", len(r.aad), hsm.MaxAADSize)}
	case len(r.data) > hsm.MaxDataSize:
		return &hsm.Error{Kind: hsm.ErrTooLarge, Detail: fmt.Sprintf("data of %d bytes, at most %d", len(r.data), hsm.MaxDataSize)}
	case len(r.iv) > math.MaxUint8 || len(r.tag) > math.MaxUint8:
		return &hsm.Error{Kind: hsm.ErrInvalidCiphertext, Detail: fmt.Sprintf("an IV of %d and a tag of %d bytes", len(r.iv), len(r.tag))}
	}
	return nil
}

func (r *request) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, microseconds(r.timeout))
	b = binary.BigEndian.AppendUint32(b, r.key.Version)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.key.Label)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.aad)))
	b = append(b, byte(len(r.iv)), byte(len(r.tag)))
	b = append(b, r.key.Label...)
	b = append(b, r.aad...)
	b = append(b, r.iv...)
	b = append(b, r.tag...)
	return append(b, r.data...)
}

// parseRequest reads a request. Its slices are parts of body. The error is ErrProtocol.
func parseRequest(body []byte) (request, error) {
	if len(body) < requestHead {
		return request{}, fmt.Errorf("%w: a request of %d bytes", ErrProtocol, len(body))
	}
	label := int64(binary.BigEndian.Uint16(body[8:]))
	aad := int64(binary.BigEndian.Uint32(body[10:]))
	iv, tag := int64(body[14]), int64(body[15])
	rest := body[requestHead:]
	data := int64(len(rest)) - label - aad - iv - tag
	if label > maxLabelSize || aad > hsm.MaxAADSize || data < 0 || data > hsm.MaxDataSize {
		return request{}, fmt.Errorf("%w: a request of %d bytes with a label of %d, an AAD of %d, an IV of %d, a tag of %d",
			ErrProtocol, len(body), label, aad, iv, tag)
	}
	r := request{
		timeout: time.Duration(binary.BigEndian.Uint32(body)) * time.Microsecond,
		key:     hsm.KeyRef{Version: binary.BigEndian.Uint32(body[4:])},
	}
	r.key.Label, rest = string(rest[:label]), rest[label:]
	r.aad, rest = cut(rest, aad)
	r.iv, rest = cut(rest, iv)
	r.tag, rest = cut(rest, tag)
	r.data, _ = cut(rest, data)
	return r, nil
}

// appendSealed appends the body of kindSealed: the sizes of IV and tag (1 byte
// each), IV, tag, and the ciphertext as the rest.
func appendSealed(b []byte, s hsm.Sealed) []byte {
	b = append(b, byte(len(s.IV)), byte(len(s.Tag)))
	b = append(b, s.IV...)
	b = append(b, s.Tag...)
	return append(b, s.Ciphertext...)
}

// checkSealed refuses what appendSealed cannot say.
func checkSealed(s hsm.Sealed) error {
	if len(s.IV) > math.MaxUint8 || len(s.Tag) > math.MaxUint8 || len(s.Ciphertext) > hsm.MaxDataSize {
		return fmt.Errorf("%w: an answer with an IV of %d, a tag of %d and %d bytes of ciphertext",
			ErrProtocol, len(s.IV), len(s.Tag), len(s.Ciphertext))
	}
	return nil
}

// parseSealed reads the body of kindSealed. The slices are parts of body. The
// error is ErrProtocol.
func parseSealed(body []byte) (hsm.Sealed, error) {
	if len(body) < sealedHead {
		return hsm.Sealed{}, fmt.Errorf("%w: an answer of %d bytes to encrypt", ErrProtocol, len(body))
	}
	iv, tag := int64(body[0]), int64(body[1])
	rest := body[sealedHead:]
	data := int64(len(rest)) - iv - tag
	if data < 0 || data > hsm.MaxDataSize {
		return hsm.Sealed{}, fmt.Errorf("%w: an answer of %d bytes to encrypt with an IV of %d and a tag of %d", ErrProtocol, len(body), iv, tag)
	}
	var s hsm.Sealed
	s.IV, rest = cut(rest, iv)
	s.Tag, rest = cut(rest, tag)
	s.Ciphertext, _ = cut(rest, data)
	return s, nil
}

// cut splits off the first n bytes, so that appending to them cannot reach the rest.
func cut(b []byte, n int64) ([]byte, []byte) {
	return b[:n:n], b[n:]
}

// microseconds is d rounded up, in 4 bytes; what does not fit there is forever.
func microseconds(d time.Duration) uint32 {
	us := (d + time.Microsecond - 1) / time.Microsecond
	if us < 0 || us > math.MaxUint32 {
		return 0
	}
	return uint32(us)
}

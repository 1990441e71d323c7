package xks

// Encrypt and Decrypt with all sizes, on both HSMs (requirements E2–E4, D2, D3, U9).

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/hsmtest"
)

// only lets one HSM of the two work.
func (r *rig) only(working *hsmtest.Token) {
	for _, token := range []*hsmtest.Token{r.a, r.b} {
		token.SetHook(fails(hsm.ErrUnavailable))
	}
	working.SetHook(nil)
}

func pattern(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i*7 + i>>8)
	}
	return data
}

// TestRoundTrips: each size, what one HSM encrypts the other decrypts.
func TestRoundTrips(t *testing.T) {
	r := newRig(t)
	tokens := []*hsmtest.Token{r.a, r.b}
	for _, size := range []int{0, 1, 16, 4300, 8192} {
		for _, aadSize := range []int{-1, 0, 33, 8192, 65535} { // -1: absent
			for _, cdiv := range []bool{false, true} {
				plaintext, aad := pattern(size), pattern(max(aadSize, 0))
				request := encryptFields(plaintext)
				if aadSize >= 0 {
					request = request.with("additionalAuthenticatedData", b64(aad))
				}
				if cdiv {
					request = request.with("ciphertextDataIntegrityValueAlgorithm", "SHA_256")
				}
				for i := range tokens {
					name := fmt.Sprintf(
						"%d bytes, AAD %d, CDIV %v, by HSM %d", size, aadSize, cdiv, i,
					)
					r.only(tokens[i])
					sealed := r.encrypt(goodKey, request)
					sealed.wantOK(t)
					checkSealedReply(t, name, sealed, aad, size, cdiv)
					opened := sealed.decryptFields()
					if aadSize >= 0 {
						opened = opened.with("additionalAuthenticatedData", b64(aad))
					}
					r.only(tokens[1-i])
					answer := r.decrypt(goodKey, opened)
					answer.wantOK(t)
					if !bytes.Equal(answer.bytes(t, "plaintext"), plaintext) {
						t.Errorf("%s: another plaintext", name)
					}
				}
			}
		}
	}
}

func checkSealedReply(t *testing.T, name string, p reply, aad []byte, size int, cdiv bool) {
	t.Helper()
	ciphertext, iv, tag, metadata := p.bytes(t, "ciphertext"), p.bytes(
		t, "initializationVector",
	), p.bytes(t, "authenticationTag"), p.bytes(t, "ciphertextMetadata")
	if len(ciphertext) != size || len(iv) != 12 || len(tag) != 16 ||
		!bytes.Equal(metadata, []byte{1, 0, 0, 0, 2}) {
		t.Errorf("%s: %.300s", name, p.body)
	}
	if _, present := p.fields(t)["ciphertextDataIntegrityValue"]; present != cdiv {
		t.Errorf("%s: the integrity value is there: %v", name, present)
	}
	if !cdiv {
		return
	}
	want := sha256.Sum256(slices.Concat(aad, metadata, iv, ciphertext, tag)) // E4
	if !bytes.Equal(p.bytes(t, "ciphertextDataIntegrityValue"), want[:]) {
		t.Errorf("%s: wrong integrity value", name)
	}
}

// E3: AAD absent, null and "" are one AAD.
func TestAbsentAADIsEmptyAAD(t *testing.T) {
	r := newRig(t)
	forms := []fields{{}, {"additionalAuthenticatedData": nil}, {"additionalAuthenticatedData": ""}}
	for _, sealing := range forms {
		for _, opening := range forms {
			request, opened := encryptFields([]byte("x")), fields(nil)
			for name, value := range sealing {
				request = request.with(name, value)
			}
			opened = r.encrypt(goodKey, request).decryptFields()
			for name, value := range opening {
				opened = opened.with(name, value)
			}
			r.decrypt(goodKey, opened).wantOK(t)
		}
	}
}

// D1: a ciphertext with an IV of 16 bytes, made by hand, under version 1.
func TestLongIV(t *testing.T) {
	r := newRig(t)
	value := pattern(hsm.KeySize)
	for _, token := range []*hsmtest.Token{r.a, r.b} {
		token.AddObject(hsmtest.Object("known", 1), value)
	}
	block, err := aes.NewCipher(value)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithNonceSize(block, hsm.LongIVSize)
	if err != nil {
		t.Fatal(err)
	}
	iv, metadata := pattern(hsm.LongIVSize), []byte{1, 0, 0, 0, 1}
	frame := append([]byte{0, 3, 'a', 'a', 'd', 5}, metadata...)
	out := aead.Seal(nil, iv, []byte("by another hand"), frame)
	n := len(out) - hsm.TagSize
	p := r.decrypt("known", fields{
		"requestMetadata": metadataFields(
			"Decrypt",
		), "encryptionAlgorithm": "AES_GCM", "additionalAuthenticatedData": b64([]byte("aad")),
		"ciphertext": b64(
			out[:n],
		), "authenticationTag": b64(out[n:]), "initializationVector": b64(iv), "ciphertextMetadata": b64(metadata),
	})
	p.wantOK(t)
	if string(p.bytes(t, "plaintext")) != "by another hand" {
		t.Errorf("%s", p.body)
	}
}

// D2: whatever is altered, InvalidCiphertextException, and no HSM is blamed.
func TestAlteredCiphertext(t *testing.T) {
	r := newRig(t, compared)
	aad := []byte("project=nile,department=marketing")
	sealed := r.encrypt(
		goodKey, encryptFields(pattern(40)).with("additionalAuthenticatedData", b64(aad)),
	)
	good := sealed.decryptFields().with("additionalAuthenticatedData", b64(aad))
	r.decrypt(goodKey, good).wantOK(t)
	bad := map[string]fields{
		"AAD absent":     good.without("additionalAuthenticatedData"),
		"AAD longer":     good.with("additionalAuthenticatedData", b64(append(aad, 0))),
		"AAD shorter":    good.with("additionalAuthenticatedData", b64(aad[1:])),
		"no metadata":    good.without("ciphertextMetadata"),
		"null metadata":  good.with("ciphertextMetadata", nil),
		"empty metadata": good.with("ciphertextMetadata", ""),
	}
	for _, name := range []string{"ciphertext", "initializationVector", "authenticationTag", "ciphertextMetadata"} {
		value := sealed.bytes(t, name)
		for i := range value {
			for _, flip := range []byte{1, 0x80} {
				altered := slices.Clone(value)
				altered[i] ^= flip
				bad[fmt.Sprintf("%s byte %d ^ %d", name, i, flip)] = good.with(name, b64(altered))
			}
		}
		bad[name+" longer"] = good.with(name, b64(append(slices.Clone(value), 0)))
		bad[name+" shorter"] = good.with(name, b64(value[:len(value)-1]))
		bad[name+" empty"] = good.with(name, "")
	}
	for _, n := range []int{0, 1, 11, 13, 15, 17, 32, 8192} {
		bad[fmt.Sprintf("IV of %d", n)] = good.with("initializationVector", b64(pattern(n)))
		bad[fmt.Sprintf("tag of %d", n)] = good.with("authenticationTag", b64(pattern(n)))
	}
	bad["IV of 16"] = good.with("initializationVector", b64(pattern(16)))
	for _, n := range []int{1, 4, 6, 20, 21, 255, 256, 8192} {
		bad[fmt.Sprintf("metadata of %d", n)] = good.with(
			"ciphertextMetadata", b64(append([]byte{1}, pattern(n-1)...)),
		)
	}
	for _, version := range []uint32{0, 3, 1<<32 - 2, 1<<32 - 1} {
		bad[fmt.Sprintf("version %d", version)] = good.with(
			"ciphertextMetadata", b64(ciphertextMetadata(version)),
		)
	}
	for name, request := range bad {
		p := r.decrypt(goodKey, request)
		for p.errorName(t) == throttling { // versions that nobody knows are looked for, 20 a second
			r.waitForLook()
			p = r.decrypt(goodKey, request)
		}
		if p.errorName(t) != invalidCiphertext {
			t.Errorf("%s: %d %s", name, p.status, p.body)
		}
		if faults := r.lastLine()["hsm_faults"]; faults != nil {
			t.Errorf("%s: an HSM is blamed: %v", name, faults)
		}
	}
	// Under the wrong key.
	r.decrypt("wraps-too", good).want(t, invalidCiphertext)
	r.decrypt(goodKey, good).wantOK(t)
}

// D2: whatever code an HSM has for it, the HSM is asked once.
func TestInvalidCiphertextIsNotRetried(t *testing.T) {
	r := newRig(t, compared)
	good := encryptGood(r).decryptFields()
	r.setHooks(func(context.Context, hsmtest.Op, hsm.KeyRef) error {
		return &hsm.Error{
			Op: "decrypt", Function: "C_Decrypt", Code: 0x40, Kind: hsm.ErrInvalidCiphertext,
		}
	})
	r.decrypt(goodKey, good).want(t, invalidCiphertext)
	if n := r.lastLine()["attempts"]; n != int64(1) {
		t.Errorf("%v HSMs were asked", n)
	}
}

package test

// The figures of the issue: which sizes go round, and which are refused cleanly (U9, E2, E3, E4, D1, D3).

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"testing"
)

var (
	plaintextSizes = []int{0, 1, 16, 4300, 8192}
	aadSizes       = []int{0, 33, 8192, 65535}
)

// eachSize runs a test for every size class.
func eachSize(t *testing.T, test func(t *testing.T, plaintext, aad []byte)) {
	for _, p := range plaintextSizes {
		for _, a := range aadSizes {
			t.Run(fmt.Sprintf("plaintext-%d-aad-%d", p, a), func(t *testing.T) { test(t, randomBytes(p), randomBytes(a)) })
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	p := sharedProxy(t)
	for _, w := range []way{http1, http2} {
		c := p.client(t, w)
		for _, cdiv := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s-cdiv-%t", w, cdiv), func(t *testing.T) {
				eachSize(t, func(t *testing.T, plaintext, aad []byte) { c.roundTrip(t, plaintext, aad, cdiv) })
			})
		}
	}
}

// roundTrip checks every byte that an Encrypt answers, and that Decrypt gives the plaintext back.
func (c *client) roundTrip(t *testing.T, plaintext, aad []byte, cdiv bool) {
	t.Helper()
	body := encryptBody(plaintext, aad)
	if cdiv {
		body = withCDIV(body)
	}
	s := c.encrypt(t, "key-1", body)
	if len(s.Ciphertext) != len(plaintext) || len(s.InitializationVector) != 12 || len(s.AuthenticationTag) != 16 {
		t.Fatalf("ciphertext of %d bytes for %d, IV of %d, tag of %d", len(s.Ciphertext), len(plaintext), len(s.InitializationVector), len(s.AuthenticationTag))
	}
	if !bytes.Equal(s.CiphertextMetadata, metadataOf(2)) {
		t.Fatalf("ciphertextMetadata %x, want %x", s.CiphertextMetadata, metadataOf(2))
	}
	if got := s.open(t, c.proxy.world.Values[keyID{"key-1", 2}], aad); !bytes.Equal(got, plaintext) {
		t.Fatal("the ciphertext is of another plaintext")
	}
	checkCDIV(t, s, aad, cdiv)
	if got := c.decrypt(t, "key-1", s, aad); !bytes.Equal(got, plaintext) {
		t.Fatal("decrypted to another plaintext")
	}
}

func checkCDIV(t *testing.T, s *sealed, aad []byte, wanted bool) {
	t.Helper()
	if !wanted {
		if s.CiphertextDataIntegrityValue != nil {
			t.Fatal("an integrity value that nobody asked for")
		}
		return
	}
	hash := sha256.New()
	for _, part := range [][]byte{aad, s.CiphertextMetadata, s.InitializationVector, s.Ciphertext, s.AuthenticationTag} {
		hash.Write(part)
	}
	if !bytes.Equal(s.CiphertextDataIntegrityValue, hash.Sum(nil)) {
		t.Fatalf("ciphertextDataIntegrityValue %x, want %x", s.CiphertextDataIntegrityValue, hash.Sum(nil))
	}
}

// Some HSMs make IVs of 16 bytes: SoftHSM stands in for one by opening what Go has sealed.
func TestIVSizes(t *testing.T) {
	t.Parallel()
	p := sharedProxy(t)
	c := p.client(t, http1)
	for _, size := range []int{12, 16} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			eachSize(t, func(t *testing.T, plaintext, aad []byte) {
				s := seal(t, p.world.Values[keyID{"key-1", 1}], 1, size, plaintext, aad)
				if got := c.decrypt(t, "key-1", s, aad); !bytes.Equal(got, plaintext) {
					t.Fatal("decrypted to another plaintext")
				}
			})
		})
	}
}

// What the two-byte length of the AAD cannot say is refused, never wrapped around:
// with an AAD of 65536 bytes a wrapped length would be that of no AAD at all.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	p := sharedProxy(t)
	value := p.world.Values[keyID{"key-1", 1}]
	for _, w := range []way{http1, http2} {
		c := p.client(t, w)
		for _, size := range []int{65536, 65537, 90_000, 100_000} {
			t.Run(fmt.Sprintf("%s-aad-%d", w, size), func(t *testing.T) {
				aad := make([]byte, size)
				c.post(t, encryptURI("key-1"), encryptBody([]byte("x"), aad)).wantError(t, http.StatusNotImplemented, "UnsupportedOperationException")
				c.post(t, decryptURI("key-1"), decryptBody(seal(t, value, 1, 12, []byte("x"), aad), aad)).wantError(t, http.StatusNotImplemented, "UnsupportedOperationException")
			})
		}
		t.Run(w.String()+"-data", func(t *testing.T) {
			big := make([]byte, 8193)
			c.post(t, encryptURI("key-1"), encryptBody(big, nil)).wantError(t, http.StatusNotImplemented, "UnsupportedOperationException")
			c.post(t, decryptURI("key-1"), decryptBody(seal(t, value, 1, 12, big, nil), nil)).wantError(t, http.StatusNotImplemented, "UnsupportedOperationException")
		})
	}
}

// What one HSM encrypts the other decrypts, for every size class: two proxies, each with one
// of the HSMs only.
func TestEachHSMDecryptsTheOther(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	one := w.start(t, func(s *settings) { s.only(w.A); s.State += "-a" })
	other := w.start(t, func(s *settings) { s.only(w.B); s.State += "-b" })
	for _, direction := range []struct {
		name     string
		from, to *client
	}{
		{"a-to-b", one.client(t, http1), other.client(t, http2)},
		{"b-to-a", other.client(t, http1), one.client(t, http2)},
	} {
		t.Run(direction.name, func(t *testing.T) {
			eachSize(t, func(t *testing.T, plaintext, aad []byte) {
				s := direction.from.encrypt(t, "key-1", withCDIV(encryptBody(plaintext, aad)))
				if got := direction.to.decrypt(t, "key-1", s, aad); !bytes.Equal(got, plaintext) {
					t.Fatal("decrypted to another plaintext")
				}
			})
		})
	}
}

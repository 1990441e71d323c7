package pkcs11

// IVs that the proxy makes, and what becomes of them when memory is copied.

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

func TestIVBatch(t *testing.T) {
	fills, next := 0, byte(0)
	fill := func(b []byte) error {
		fills++
		for i := range b {
			next++
			b[i] = next
		}
		return nil
	}
	var batch ivBatch
	var all []byte
	for range ivBatchCount + 1 {
		iv, err := batch.next(12, fill)
		if err != nil || len(iv) != 12 || cap(iv) != 12 {
			t.Fatal(iv, err)
		}
		all = append(all, iv...)
	}
	if fills != 2 {
		t.Errorf("%d fills", fills)
	}
	for i, b := range all {
		if b != byte(i+1) {
			t.Fatalf("byte %d is %d: bytes were skipped or used twice", i, b)
		}
	}
	var broken ivBatch
	for range 2 {
		_, err := broken.next(12, func(b []byte) error { b[0] = 1; return errors.New("no random") })
		if err == nil {
			t.Error("an IV without random bytes")
		}
	}
}

// A virtual machine is restored from a snapshot, or cloned: whatever a session remembers of random
// bytes is there again. The IVs are new anyway, and those of the HSM's generator are not used as they are.
func TestRestoredMemoryMakesNewIVs(t *testing.T) {
	for _, source := range []IVSource{IVProxy, IVHSMRandom} {
		v := openVendor(t, func(c *Config) { c.Overrides.IVSource = source })
		encrypt := func() []byte {
			t.Helper()
			sealed, err := v.Encrypt(t.Context(), ref("k", 0), nil, []byte("x"))
			if err != nil {
				t.Fatal(err)
			}
			return sealed.IV
		}
		withSession := func(do func(*session)) {
			t.Helper()
			s, err := v.work.get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			do(s)
			v.work.put(s)
		}
		encrypt()
		var snapshot ivBatch
		var ahead []byte
		withSession(func(s *session) {
			ahead = bytes.Clone(s.ahead.unused)
			snapshot = ivBatch{buffer: bytes.Clone(s.ahead.buffer), unused: ahead}
		})
		if (len(ahead) > 0) != (source == IVHSMRandom) {
			t.Errorf("%s: %d random bytes are kept", source, len(ahead))
		}
		var ivs [][]byte
		for range 3 {
			withSession(func(s *session) { s.ahead = snapshot })
			ivs = append(ivs, encrypt(), encrypt())
		}
		for i, iv := range ivs {
			if slices.ContainsFunc(ivs[:i], func(other []byte) bool { return bytes.Equal(iv, other) }) || bytes.Contains(ahead, iv) {
				t.Errorf("%s: IV %d was used before, or lay in memory before", source, i)
			}
		}
		if calls := v.Calls("C_GenerateRandom"); (calls == 0) == (source == IVHSMRandom) {
			t.Errorf("%s: the HSM was asked for random bytes %d times", source, calls)
		}
	}
}

// What one IV costs: the system's generator is asked each time.
func BenchmarkIV(b *testing.B) {
	token, _, _ := benchToken(b)
	s, err := token.work.get(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer token.work.put(s)
	b.ReportAllocs()
	for b.Loop() {
		_, failed := s.prepareIV()
		if failed != nil {
			b.Fatal(failed.code)
		}
	}
}

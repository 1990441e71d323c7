package xks

// Known answers of the formats that ciphertexts depend on forever.

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"math"
	"strings"
	"testing"
)

// E6: the worked example of the specification.
func TestIntegrityValueKnownAnswer(t *testing.T) {
	decoded := func(s string) []byte {
		data, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	aad, metadata := []byte("project=nile,department=marketing"), []byte("key_version=1")
	got := ciphertextDataIntegrityValue(
		aad, metadata, decoded("HMrlRw85cAJUd5Ax"), decoded("ghxkK1txeDNn3q8Y"),
		decoded("vBxN2ncH1oEkR8WVXpmyYQ=="),
	)
	if b64(got) != "qHA/ImC9h5HsLRXqCyPmWgYx7tzyoTplzILbP0fPXsc=" {
		t.Errorf("CDIV %s", b64(got))
	}
}

// E3: framings written by hand.
func TestAADFraming(t *testing.T) {
	for _, c := range []struct{ name, aad, metadata, want string }{
		{"nothing", "", "", "0000" + "00"},
		{"metadata alone", "", "0100000002", "0000" + "05" + "0100000002"},
		{"both", "aabbcc", "0100000001", "0003" + "aabbcc" + "05" + "0100000001"},
		{"AAD alone", "00", "", "0001" + "00" + "00"},
		{"length over one byte", strings.Repeat("11", 258), "0100000001", "0102" + strings.Repeat("11", 258) + "05" + "0100000001"},
		{"the longest", strings.Repeat("22", 65535), "0100000001", "ffff" + strings.Repeat("22", 65535) + "05" + "0100000001"},
	} {
		aad, _ := hex.DecodeString(c.aad)
		metadata, _ := hex.DecodeString(c.metadata)
		if got := hex.EncodeToString(frameAAD(aad, metadata)); got != c.want {
			t.Errorf("%s: %.80s, want %.80s", c.name, got, c.want)
		}
	}
}

// E3: no byte can move between AAD and metadata unseen.
func TestAADFramingIsInjective(t *testing.T) {
	seen := map[string]string{}
	text := []byte{0, 1, 0, 0, 2, 1, 0, 0, 0, 1}
	for i := range len(text) + 1 {
		for j := i; j <= len(text); j++ {
			aad, metadata := text[:i], text[i:j]
			pair := hex.EncodeToString(aad) + "|" + hex.EncodeToString(metadata)
			frame := string(frameAAD(aad, metadata))
			if other, taken := seen[frame]; taken && other != pair {
				t.Errorf("%s and %s have one frame", pair, other)
			}
			seen[frame] = pair
		}
	}
}

// E3: format 1 and nothing else.
func TestCiphertextMetadata(t *testing.T) {
	for version, want := range map[uint32]string{0: "0100000000", 1: "0100000001", 0x01020304: "0101020304", math.MaxUint32: "01ffffffff"} {
		metadata := ciphertextMetadata(version)
		if hex.EncodeToString(metadata) != want || len(metadata) > maxCiphertextMetadata {
			t.Errorf("version %d: %x", version, metadata)
		}
		back, err := keyVersionOf(metadata)
		if err != nil || back != version {
			t.Errorf("version %d reads back as %d, %v", version, back, err)
		}
	}
	for _, bad := range [][]byte{nil, {}, {1}, {1, 0, 0, 0}, {1, 0, 0, 0, 1, 0}, {0, 0, 0, 0, 1}, {2, 0, 0, 0, 1}, {255, 0, 0, 0, 1}, bytes.Repeat([]byte{1}, 21)} {
		if _, err := keyVersionOf(bad); err == nil {
			t.Errorf("%x is taken", bad)
		}
	}
}

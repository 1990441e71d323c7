package xks

// The formats that stored ciphertexts depend on: ciphertextMetadata, the AAD that the HSM
// authenticates, and the ciphertext data integrity value. The meaning of a format number must never
// change.

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// maxCiphertextMetadata is the API's limit, in bytes (requirements E2, D1).
const maxCiphertextMetadata = 20

// format1 is the first byte of a ciphertextMetadata of five bytes: the format, then the key
// version, big-endian. appendAAD frames its AAD.
const (
	format1     = 1
	format1Size = 5
)

var errCiphertextFormat = errors.New(
	"the ciphertext metadata is of no format that this proxy ever wrote",
)

// ciphertextMetadata returns the metadata of a new ciphertext: 5 bytes.
func ciphertextMetadata(keyVersion uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{format1}, keyVersion)
}

// keyVersionOf returns the key version in a ciphertext's metadata. Its error is
// errCiphertextFormat.
func keyVersionOf(metadata []byte) (uint32, error) {
	if len(metadata) != format1Size || metadata[0] != format1 {
		return 0, errCiphertextFormat
	}
	return binary.BigEndian.Uint32(metadata[1:]), nil
}

// appendAAD appends the AAD as the HSM authenticates it (requirement E3). It contains lengths, so
// that no byte can move between AAD and metadata. len(aad) is at most 65535.
func appendAAD(dst, aad, metadata []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(aad)))
	dst = append(dst, aad...)
	dst = append(dst, byte(len(metadata)))
	return append(dst, metadata...)
}

func frameAAD(aad, metadata []byte) []byte {
	return appendAAD(make([]byte, 0, 2+len(aad)+1+len(metadata)), aad, metadata)
}

// ciphertextDataIntegrityValue returns the SHA-256 of the raw bytes (requirement E4).
func ciphertextDataIntegrityValue(aad, metadata, iv, ciphertext, tag []byte) []byte {
	hash := sha256.New()
	for _, part := range [][]byte{aad, metadata, iv, ciphertext, tag} {
		hash.Write(part)
	}
	return hash.Sum(nil)
}

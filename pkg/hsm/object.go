package hsm

// Key objects as a token lists them, and what the proxy reads out of them.

import (
	"encoding/binary"
	"strconv"
)

// Usage is what a key object allows (CKA_ENCRYPT, CKA_DECRYPT, …).
type Usage uint8

// The usages that GetKeyMetadata can name (requirement K1), in its order.
const (
	CanEncrypt Usage = 1 << iota
	CanDecrypt
	CanSign
	CanVerify
	CanWrap
	CanUnwrap
	CanDerive
)

// Class is the kind of a key object (CKA_CLASS).
type Class uint8

// The classes of key objects.
const (
	SecretKey Class = iota + 1
	PublicKey
	PrivateKey
)

// Object is one key object on a token, without its key material.
type Object struct {
	Label   string `json:"label"`        // CKA_LABEL
	ID      []byte `json:"id,omitempty"` // CKA_ID as it stands on the token
	Class   Class  `json:"class"`
	KeyType string `json:"keyType"` // CKA_KEY_TYPE without "CKK_": AES, RSA, EC, …; a number in hex if unknown
	Bits    int    `json:"bits"`    // key length; 0 if the token does not say
	Usage   Usage  `json:"usage"`

	Sensitive        bool `json:"sensitive"`
	AlwaysSensitive  bool `json:"alwaysSensitive"`
	Extractable      bool `json:"extractable"`
	NeverExtractable bool `json:"neverExtractable"`
	Local            bool `json:"local"` // generated on the token
}

// Version is the key version that CKA_ID holds: 4 bytes, big-endian. An object
// with any other CKA_ID, none included, is version 0.
func (o Object) Version() uint32 {
	if len(o.ID) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(o.ID)
}

// VersionID is the CKA_ID that an object of this version carries.
func VersionID(version uint32) []byte {
	return binary.BigEndian.AppendUint32(nil, version)
}

// IsAES256 reports whether the XKS API can use the key at all.
func (o Object) IsAES256() bool {
	return o.Class == SecretKey && o.KeyType == "AES" && o.Bits == KeySize*8
}

// Spec is the keySpec of GetKeyMetadata (requirement K1): AES_256, AES_128,
// RSA_2048, …; just the type where the token does not say the length.
func (o Object) Spec() string {
	if o.Bits == 0 {
		return o.KeyType
	}
	return o.KeyType + "_" + strconv.Itoa(o.Bits)
}

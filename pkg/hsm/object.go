package hsm

// Key objects as a token lists them.

import (
	"bytes"
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
)

// Usage is the set of operations that a key object allows (CKA_ENCRYPT, CKA_DECRYPT, …).
type Usage uint8

// The usages in the order of GetKeyMetadata (requirement K1).
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
	KeyType string `json:"keyType"` // CKA_KEY_TYPE without "CKK_": AES, …; hex if unknown
	Bits    int    `json:"bits"`    // key length; 0 if the token does not say
	Usage   Usage  `json:"usage"`

	Sensitive        bool `json:"sensitive"`
	AlwaysSensitive  bool `json:"alwaysSensitive"`
	Extractable      bool `json:"extractable"`
	NeverExtractable bool `json:"neverExtractable"`
	Local            bool `json:"local"` // generated on the token

	// Unreadable is set for an object that the token lists but does not let the proxy read. Label,
	// ID and Class hold what could be read of it, and the other fields are not set. It may be a key
	// of its label, or of any label if that is empty, in any version (X7).
	Unreadable *Unreadable `json:"unreadable,omitempty"`

	Rule VersionRule // how ID is read; see ReadBy
}

// Unreadable says why an object could not be read.
type Unreadable struct {
	Handle uint64 `json:"handle"` // in the process that listed it
	Code   CKR    `json:"code"`   // what C_GetAttributeValue answered
}

// DescribeUnreadable describes an unreadable object for an operator.
func (o Object) DescribeUnreadable() string {
	class, label := "unknown class", "unknown label"
	if name, ok := ClassNames[o.Class]; ok {
		class = name
	}
	if o.Label != "" {
		label = strconv.Quote(o.Label)
	}
	return fmt.Sprintf("object %d (%s, %s): %s",
		o.Unreadable.Handle, class, label, o.Unreadable.Code)
}

var ClassNames = map[Class]string{
	SecretKey: "secret key", PublicKey: "public key", PrivateKey: "private key",
}

// SplitUnreadable separates the objects that were read from those that could not be.
func SplitUnreadable(list []Object) ([]Object, []Object) {
	var unreadable []Object
	for _, o := range list {
		if o.Unreadable != nil {
			unreadable = append(unreadable, o)
		}
	}
	if len(unreadable) == 0 {
		return list, nil
	}
	read := make([]Object, 0, len(list)-len(unreadable))
	for _, o := range list {
		if o.Unreadable == nil {
			read = append(read, o)
		}
	}
	return read, unreadable
}

// UnreadableError returns the error for a key with an unreadable object.
func UnreadableError(op string, o Object) *Error {
	const detail = "the HSM lists an object labelled %q with handle %d and does not let it be read"
	return &Error{
		Op: op, Function: "C_GetAttributeValue", Code: o.Unreadable.Code, Kind: ErrKeyFault,
		Detail: fmt.Sprintf(detail, o.Label, o.Unreadable.Handle),
	}
}

// IsAES256 reports whether the object is an AES-256 key, the only kind that the XKS API can use.
func (o Object) IsAES256() bool {
	return o.Class == SecretKey && o.KeyType == "AES" && o.Bits == KeySize*8
}

// Spec returns the keySpec of GetKeyMetadata (requirement K1): AES_256, AES_128, RSA_2048, …, or
// only the type if the token does not report the length.
func (o Object) Spec() string {
	if o.Bits == 0 {
		return o.KeyType
	}
	return o.KeyType + "_" + strconv.Itoa(o.Bits)
}

// SortObjects sorts the objects of one label in place and returns them. A token may list the same
// objects in a different order each time.
func SortObjects(objects []Object) []Object {
	slices.SortFunc(objects, func(a, b Object) int {
		return cmp.Or(
			bytes.Compare(a.ID, b.ID),
			cmp.Compare(a.Class, b.Class),
			cmp.Compare(a.KeyType, b.KeyType),
			cmp.Compare(a.Bits, b.Bits),
		)
	})
	return objects
}

// SameObjects reports whether two lists have equal objects in the same order.
func SameObjects(a, b []Object) bool {
	return slices.EqualFunc(a, b, func(a, b Object) bool {
		sameID := bytes.Equal(a.ID, b.ID)
		a.ID, b.ID = nil, nil
		return sameID && reflect.DeepEqual(a, b)
	})
}

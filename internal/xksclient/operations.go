package xksclient

// The four operations of the XKS Proxy API as its client sees them: what is sent,
// what is answered, and what a client can check without a key.

import (
	"bytes"
	"crypto/sha256"
	"errors"

	"encoding/binary"
	"fmt"
	"xks-proxy/pkg/hsm"
)

// CallMetadata is requestMetadata: what AWS KMS says about the call behind a
// request (requirements K3, E1, D1, H3).
type CallMetadata struct {
	PrincipalARN string `json:"awsPrincipalArn,omitempty"`
	SourceVPC    string `json:"awsSourceVpc,omitempty"`
	SourceVPCE   string `json:"awsSourceVpce,omitempty"`
	KeyARN       string `json:"kmsKeyArn,omitempty"`
	Operation    string `json:"kmsOperation,omitempty"`
	RequestID    string `json:"kmsRequestId,omitempty"`
	ViaService   string `json:"kmsViaService,omitempty"`
}

// The names that the API gives to its only algorithms.
const (
	AlgorithmAESGCM = "AES_GCM"
	AlgorithmSHA256 = "SHA_256"
)

// HealthURI is what follows the XksProxyUriPath for GetHealthStatus.
const HealthURI = "/health"

// KeyURI is what follows the XksProxyUriPath: operation is encrypt, decrypt or metadata.
func KeyURI(key, operation string) string { return "/keys/" + key + "/" + operation }

// EncryptRequest is the body of Encrypt (requirement E1).
type EncryptRequest struct {
	Metadata      CallMetadata `json:"requestMetadata"`
	AAD           []byte       `json:"additionalAuthenticatedData,omitempty"`
	Plaintext     []byte       `json:"plaintext"` // never nil, which would be null
	Algorithm     string       `json:"encryptionAlgorithm"`
	CDIVAlgorithm string       `json:"ciphertextDataIntegrityValueAlgorithm,omitempty"`
}

// EncryptAnswer is the answer of Encrypt (requirement E2).
type EncryptAnswer struct {
	Ciphertext         []byte `json:"ciphertext"`
	IV                 []byte `json:"initializationVector"`
	Tag                []byte `json:"authenticationTag"`
	CiphertextMetadata []byte `json:"ciphertextMetadata"`
	CDIV               []byte `json:"ciphertextDataIntegrityValue"`
}

type decryptRequest struct {
	Metadata           CallMetadata `json:"requestMetadata"`
	AAD                []byte       `json:"additionalAuthenticatedData,omitempty"`
	Algorithm          string       `json:"encryptionAlgorithm"`
	Ciphertext         []byte       `json:"ciphertext"`
	IV                 []byte       `json:"initializationVector"`
	Tag                []byte       `json:"authenticationTag"`
	CiphertextMetadata []byte       `json:"ciphertextMetadata,omitempty"`
}

// DecryptAnswer is the answer of Decrypt (requirement D1).
type DecryptAnswer struct {
	Plaintext []byte `json:"plaintext"`
}

// MetadataRequest is the request of GetKeyMetadata and of GetHealthStatus.
type MetadataRequest struct {
	Metadata CallMetadata `json:"requestMetadata"`
}

// MetadataAnswer is the answer of GetKeyMetadata (requirement K1).
type MetadataAnswer struct {
	Spec   string   `json:"keySpec"`
	Usage  []string `json:"keyUsage"`
	Status string   `json:"keyStatus"`
}

// HealthAnswer is the answer of GetHealthStatus (requirement H1).
type HealthAnswer struct {
	FleetSize int           `json:"xksProxyFleetSize"`
	Vendor    string        `json:"xksProxyVendor"`
	Model     string        `json:"xksProxyModel"`
	EKMVendor string        `json:"ekmVendor"`
	Fleet     []fleetMember `json:"ekmFleetDetails"`
}

type fleetMember struct {
	ID     string `json:"id"`
	Model  string `json:"model"`
	Status string `json:"healthStatus"`
}

// DecryptRequest asks for what an encrypt answered.
func (a EncryptAnswer) DecryptRequest(metadata CallMetadata, aad []byte) decryptRequest {
	return decryptRequest{
		Metadata: metadata, AAD: aad, Algorithm: AlgorithmAESGCM,
		Ciphertext: NotNil(
			a.Ciphertext,
		), IV: a.IV, Tag: a.Tag, CiphertextMetadata: a.CiphertextMetadata,
	}
}

// Faults of an answer that AWS KMS would not take.
var (
	errCDIVAbsent = errors.New(
		"the proxy answered without the ciphertext data integrity value that was asked for",
	)
	errCDIVMismatch = errors.New(
		"the ciphertext data integrity value does not fit what was answered: something altered " +
			"it on its way",
	)
	errShape = errors.New(
		"the proxy answered a ciphertext, tag, IV or metadata of a length that the API does not " +
			"allow",
	)
)

// Check verifies what a client can verify of an encrypt: the lengths (requirement E2) and, if it
// asked for it, the ciphertext data integrity value (requirement E4).
func (a EncryptAnswer) Check(r EncryptRequest) error {
	if len(a.Ciphertext) != len(r.Plaintext) || len(a.Tag) != hsm.TagSize ||
		len(a.CiphertextMetadata) > 20 ||
		len(a.IV) != hsm.IVSize && len(a.IV) != hsm.LongIVSize {
		return errShape
	}
	if r.CDIVAlgorithm == "" {
		return nil
	}
	if len(a.CDIV) == 0 {
		return errCDIVAbsent
	}
	hash := sha256.New()
	for _, part := range [][]byte{r.AAD, a.CiphertextMetadata, a.IV, a.Ciphertext, a.Tag} {
		hash.Write(part)
	}
	if !bytes.Equal(hash.Sum(nil), a.CDIV) {
		return errCDIVMismatch
	}
	return nil
}

// NotNil makes an empty value "" in JSON; nil would be null.
func NotNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// ExampleKeyARN is a well-formed ARN that belongs to no account.
func ExampleKeyARN(region string) string {
	return "arn:aws:kms:" + region + ":123456789012:key/00000000-0000-0000-0000-000000000000"
}

// VersionText reads our own ciphertextMetadata, which begins with format 1.
func VersionText(metadata []byte) string {
	if len(metadata) != 5 || metadata[0] != 1 {
		return ""
	}
	return fmt.Sprintf(", key version %d", binary.BigEndian.Uint32(metadata[1:]))
}

package main

// The four operations of the XKS Proxy API as its client sees them: what is sent,
// what is answered, and what a client can check without a key.

import (
	"bytes"
	"crypto/sha256"
	"errors"

	"xks-proxy/pkg/hsm"
)

// callMetadata is requestMetadata: what AWS KMS says about the call behind a
// request (requirements K3, E1, D1, H3).
type callMetadata struct {
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
	algorithmAESGCM = "AES_GCM"
	algorithmSHA256 = "SHA_256"
)

const uriHealth = "/health"

// keyURI is what follows the XksProxyUriPath: operation is encrypt, decrypt or metadata.
func keyURI(key, operation string) string { return "/keys/" + key + "/" + operation }

type encryptRequest struct {
	Metadata      callMetadata `json:"requestMetadata"`
	AAD           []byte       `json:"additionalAuthenticatedData,omitempty"`
	Plaintext     []byte       `json:"plaintext"` // never nil, which would be null
	Algorithm     string       `json:"encryptionAlgorithm"`
	CDIVAlgorithm string       `json:"ciphertextDataIntegrityValueAlgorithm,omitempty"`
}

type encryptAnswer struct {
	Ciphertext         []byte `json:"ciphertext"`
	IV                 []byte `json:"initializationVector"`
	Tag                []byte `json:"authenticationTag"`
	CiphertextMetadata []byte `json:"ciphertextMetadata"`
	CDIV               []byte `json:"ciphertextDataIntegrityValue"`
}

type decryptRequest struct {
	Metadata           callMetadata `json:"requestMetadata"`
	AAD                []byte       `json:"additionalAuthenticatedData,omitempty"`
	Algorithm          string       `json:"encryptionAlgorithm"`
	Ciphertext         []byte       `json:"ciphertext"`
	IV                 []byte       `json:"initializationVector"`
	Tag                []byte       `json:"authenticationTag"`
	CiphertextMetadata []byte       `json:"ciphertextMetadata,omitempty"`
}

type decryptAnswer struct {
	Plaintext []byte `json:"plaintext"`
}

// metadataRequest is that of GetKeyMetadata and of GetHealthStatus.
type metadataRequest struct {
	Metadata callMetadata `json:"requestMetadata"`
}

type metadataAnswer struct {
	Spec   string   `json:"keySpec"`
	Usage  []string `json:"keyUsage"`
	Status string   `json:"keyStatus"`
}

type healthAnswer struct {
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

// decryptRequest asks for what an encrypt answered.
func (a encryptAnswer) decryptRequest(metadata callMetadata, aad []byte) decryptRequest {
	return decryptRequest{
		Metadata: metadata, AAD: aad, Algorithm: algorithmAESGCM,
		Ciphertext: notNil(a.Ciphertext), IV: a.IV, Tag: a.Tag, CiphertextMetadata: a.CiphertextMetadata,
	}
}

// Faults of an answer that AWS KMS would not take.
var (
	errCDIVAbsent   = errors.New("the proxy answered without the ciphertext data integrity value that was asked for")
	errCDIVMismatch = errors.New("the ciphertext data integrity value does not fit what was answered: something altered it on its way")
	errShape        = errors.New("the proxy answered a ciphertext, tag, IV or metadata of a length that the API does not allow")
)

// check is what a client can tell about an encrypt: the lengths (requirement E2) and,
// if it asked for it, the ciphertext data integrity value (requirement E4).
func (a encryptAnswer) check(r encryptRequest) error {
	if len(a.Ciphertext) != len(r.Plaintext) || len(a.Tag) != hsm.TagSize || len(a.CiphertextMetadata) > 20 ||
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

// notNil makes an empty value "" in JSON; nil would be null.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

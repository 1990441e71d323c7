package xks

// The JSON of the API: requests and replies.

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// requestMetadata is what AWS KMS says about the call behind a request. A nil pointer means absent
// or null, which differs from empty. The formats are not checked (requirement U11).
type requestMetadata struct {
	AWSPrincipalARN *string        `json:"awsPrincipalArn"`
	AWSSourceVPC    *string        `json:"awsSourceVpc"`
	AWSSourceVPCE   *string        `json:"awsSourceVpce"`
	KMSKeyARN       *string        `json:"kmsKeyArn"`
	KMSOperation    *string        `json:"kmsOperation"`
	KMSRequestID    *string        `json:"kmsRequestId"`
	KMSViaService   *string        `json:"kmsViaService"`
	Other           jsontext.Value `json:",embed"` // fields that KMS may add, for the log (L1)
}

// request is the union of the fields of the four operations. A byte string is nil if it is absent
// or null, and empty if it is "".
type request struct {
	Metadata             *requestMetadata `json:"requestMetadata"`
	AAD                  base64Bytes      `json:"additionalAuthenticatedData"`
	EncryptionAlgorithm  *string          `json:"encryptionAlgorithm"`
	Plaintext            base64Bytes      `json:"plaintext"`
	CDIVAlgorithm        *string          `json:"ciphertextDataIntegrityValueAlgorithm"`
	Ciphertext           base64Bytes      `json:"ciphertext"`
	CiphertextMetadata   base64Bytes      `json:"ciphertextMetadata"`
	InitializationVector base64Bytes      `json:"initializationVector"`
	AuthenticationTag    base64Bytes      `json:"authenticationTag"`
}

// base64Bytes is decoded from Base64 of RFC 4648 section 4 with padding, in the canonical form
// only. With two texts for the same bytes, somebody could alter a ciphertext unnoticed (requirement
// U10).
type base64Bytes []byte

var canonicalBase64 = base64.StdEncoding.Strict()

var errBase64 = errors.New("not standard Base64 with padding")

// UnmarshalJSONFrom implements json.UnmarshalerFrom. Its error is errBase64 or one of the decoder.
func (b *base64Bytes) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	value, err := dec.ReadValue()
	if err != nil {
		return err
	}
	switch value.Kind() {
	case 'n':
		*b = nil
		return nil
	case '"':
	default:
		return errBase64
	}
	text := []byte(value[1 : len(value)-1])
	if bytes.IndexByte(text, '\\') >= 0 {
		text, err = jsontext.AppendUnquote(nil, value)
		if err != nil {
			return err
		}
		defer clear(text) // a copy of what may be plaintext
	}
	if bytes.IndexByte(text, '\n') >= 0 || bytes.IndexByte(text, '\r') >= 0 {
		return errBase64 // encoding/base64 would pass over them
	}
	decoded := make([]byte, canonicalBase64.DecodedLen(len(text)))
	n, err := canonicalBase64.Decode(decoded, text)
	if err != nil {
		clear(decoded)
		return errBase64
	}
	*b = decoded[:n]
	return nil
}

// parseRequest accepts one object with exact field names and valid UTF-8, no field twice and
// nothing after the object. It ignores unknown fields (requirement U11).
func parseRequest(body []byte) (*request, error) {
	var r request
	err := json.Unmarshal(body, &r)
	if err == nil {
		return &r, nil
	}
	r.wipe()
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		if name := fieldOf(semantic.JSONPointer); name != "" {
			return nil, failure(
				validation, "A field has the wrong type or is not Base64: "+name+".", nil,
			)
		}
		return nil, invalid("The request body is not a JSON object.")
	}
	return nil, invalid(
		"The request body is not valid JSON, names a field twice, or is followed by other bytes.",
	)
}

// metadataOf returns the requestMetadata of a request that parseRequest refused, or nil.
func metadataOf(body []byte) *requestMetadata {
	var r struct {
		Metadata *requestMetadata `json:"requestMetadata"`
	}
	if json.Unmarshal(body, &r) != nil {
		return nil
	}
	return r.Metadata
}

// fieldOf returns the name of the field in a JSON error, if it is one of the API's. The caller's
// own text must not appear in an error message (requirement X6).
func fieldOf(pointer jsontext.Pointer) string {
	name := strings.TrimPrefix(string(pointer), "/requestMetadata")
	name = strings.TrimPrefix(name, "/")
	if pointer == "/requestMetadata" {
		name = "requestMetadata"
	}
	if knownFields[name] {
		return name
	}
	return ""
}

var knownFields = map[string]bool{
	"requestMetadata": true, "awsPrincipalArn": true, "awsSourceVpc": true, "awsSourceVpce": true,
	"kmsKeyArn": true, "kmsOperation": true, "kmsRequestId": true, "kmsViaService": true,
	"additionalAuthenticatedData": true, "encryptionAlgorithm": true, "plaintext": true,
	"ciphertextDataIntegrityValueAlgorithm": true, "ciphertext": true, "ciphertextMetadata": true,
	"initializationVector": true, "authenticationTag": true,
}

// wipe clears the plaintext.
func (r *request) wipe() { clear(r.Plaintext) }

// requireMetadata returns an error for the first of the fields that is absent from requestMetadata
// (K3, E1, H3).
func (r *request) requireMetadata(fields ...metadataField) error {
	if r.Metadata == nil {
		return missing("requestMetadata")
	}
	for _, f := range fields {
		if f.of(r.Metadata) == nil {
			return missing(f.name)
		}
	}
	return nil
}

type metadataField struct {
	name string
	of   func(*requestMetadata) *string
}

var (
	awsPrincipalARN = metadataField{
		"awsPrincipalArn", func(m *requestMetadata) *string { return m.AWSPrincipalARN },
	}
	kmsKeyARN = metadataField{
		"kmsKeyArn", func(m *requestMetadata) *string { return m.KMSKeyARN },
	}
	kmsOperation = metadataField{
		"kmsOperation", func(m *requestMetadata) *string { return m.KMSOperation },
	}
	kmsRequestID = metadataField{
		"kmsRequestId", func(m *requestMetadata) *string { return m.KMSRequestID },
	}
)

func missing(field string) error { return invalid("A required field is missing: " + field + ".") }

// response is the body of a successful reply.
type response interface {
	// appendJSON appends one line of compact JSON (requirement U6).
	appendJSON(dst []byte) []byte
}

type metadataResponse struct {
	keySpec   string
	keyUsage  []string
	keyStatus string
}

func (m *metadataResponse) appendJSON(dst []byte) []byte {
	dst = appendString(append(dst, `{"keySpec":`...), m.keySpec)
	dst = append(dst, `,"keyUsage":[`...)
	for i, usage := range m.keyUsage {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, usage)
	}
	dst = appendString(append(dst, `],"keyStatus":`...), m.keyStatus)
	return append(dst, '}')
}

type encryptResponse struct {
	ciphertext, metadata, iv, tag []byte
	cdiv                          []byte // nil if not asked for
}

func (e *encryptResponse) appendJSON(dst []byte) []byte {
	dst = appendBase64(append(dst, `{"authenticationTag":`...), e.tag)
	dst = appendBase64(append(dst, `,"ciphertext":`...), e.ciphertext)
	if e.cdiv != nil {
		dst = appendBase64(append(dst, `,"ciphertextDataIntegrityValue":`...), e.cdiv)
	}
	dst = appendBase64(append(dst, `,"ciphertextMetadata":`...), e.metadata)
	dst = appendBase64(append(dst, `,"initializationVector":`...), e.iv)
	return append(dst, '}')
}

type decryptResponse struct{ plaintext []byte }

func (d *decryptResponse) appendJSON(dst []byte) []byte {
	// The buffer gets its final size at once: growing it later would leave a copy of the plaintext.
	dst = slices.Grow(dst, base64.StdEncoding.EncodedLen(len(d.plaintext))+len(`{"plaintext":""}`))
	dst = appendBase64(append(dst, `{"plaintext":`...), d.plaintext)
	return append(dst, '}')
}

type healthResponse struct {
	FleetSize int            `json:"xksProxyFleetSize"`
	Vendor    string         `json:"xksProxyVendor"`
	Model     string         `json:"xksProxyModel"`
	EKMVendor string         `json:"ekmVendor"`
	Fleet     []healthDetail `json:"ekmFleetDetails"`
}

type healthDetail struct {
	ID           string `json:"id"`
	Model        string `json:"model"`
	HealthStatus string `json:"healthStatus"`
}

func (h *healthResponse) appendJSON(dst []byte) []byte {
	text, err := json.Marshal(h)
	if err != nil {
		panic(err) // strings and numbers, made valid UTF-8 before: cannot fail
	}
	return append(dst, text...)
}

func (e *apiError) appendJSON(dst []byte) []byte {
	dst = appendString(append(dst, `{"errorName":`...), string(e.name))
	dst = appendString(append(dst, `,"errorMessage":`...), e.message)
	return append(dst, '}')
}

// appendString appends a string that is the proxy's own or an HSM's.
func appendString(dst []byte, s string) []byte {
	dst, err := jsontext.AppendQuote(dst, strings.ToValidUTF8(s, "?"))
	if err != nil {
		panic(err) // invalid UTF-8, made valid just now: cannot fail
	}
	return dst
}

func appendBase64(dst, data []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, data)
	return append(dst, '"')
}

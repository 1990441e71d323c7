package harness

// Requests as they go over the wire: signed (AWS Signature Version 4), built by hand so that
// the client costs little beside the proxy it shares the machine with.

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"sync"
	"time"

	"xks-proxy/pkg/sigv4"
)

const (
	signedService = "kms-xks-proxy"
	signedHeaders = "host;x-amz-date"
	timeFormat    = "20060102T150405Z"
)

// Client signs for one credential of a key store. It is safe for concurrent use.
type Client struct {
	host, path, region string // path: of the key store, up to the version of the API
	credential         sigv4.Credential

	mu  sync.Mutex
	day string
	key []byte // of that day
}

// NewClient is a client of the key store at https://HOST/PATH.
func NewClient(host, path, region string, credential sigv4.Credential) *Client {
	return &Client{host: host, path: path, region: region, credential: credential}
}

// signingKey derives the key once a day.
func (c *Client) signingKey(day string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.day == day {
		return c.key
	}
	key := []byte("AWS4" + c.credential.SecretAccessKey)
	for _, part := range []string{day, c.region, signedService, "aws4_request"} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	c.day, c.key = day, key
	return key
}

// Request is a whole signed HTTP/1.1 request to a path below that of the key store.
func (c *Client) Request(below string, body []byte) []byte {
	return c.AppendRequest(nil, below, body)
}

// AppendRequest appends a Request.
func (c *Client) AppendRequest(dst []byte, below string, body []byte) []byte {
	path, at := c.path+below, time.Now()
	date := at.UTC().Format(timeFormat)
	day := date[:8]
	bodyHash := sha256.Sum256(body)
	canonical := make([]byte, 0, 512)
	canonical = append(
		canonical,
		"POST\n"+path+"\n\nhost:"+c.host+"\nx-amz-date:"+date+"\n\n"+signedHeaders+"\n"...)
	canonical = hex.AppendEncode(canonical, bodyHash[:])
	hash := sha256.Sum256(canonical)
	scope := day + "/" + c.region + "/" + signedService + "/aws4_request"
	toSign := append(canonical[:0], "AWS4-HMAC-SHA256\n"+date+"\n"+scope+"\n"...)
	toSign = hex.AppendEncode(toSign, hash[:])
	mac := hmac.New(sha256.New, c.signingKey(day))
	mac.Write(toSign)
	dst = append(
		dst,
		"POST "+path+" HTTP/1.1\r\nHost: "+c.host+
			"\r\nContent-Type: application/json\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(
		dst,
		"\r\nX-Amz-Date: "+date+"\r\nAuthorization: AWS4-HMAC-SHA256 Credential="+
			c.credential.AccessKeyID+"/"+scope+
			", SignedHeaders="+signedHeaders+", Signature="...)
	dst = hex.AppendEncode(dst, mac.Sum(nil))
	dst = append(dst, "\r\n\r\n"...)
	return append(dst, body...)
}

// EncryptPath and DecryptPath are the paths of a key's operations, below that of the key store.
func EncryptPath(key string) string { return "/keys/" + key + "/encrypt" }
func DecryptPath(key string) string { return "/keys/" + key + "/decrypt" }

// HealthPath is that of GetHealthStatus.
const HealthPath = "/health"

func appendMetadata(dst []byte, operation, requestID string) []byte {
	return append(
		dst,
		`{"requestMetadata":{"awsPrincipalArn":"arn:aws:iam::123456789012:user/Alice",`+
			`"kmsKeyArn":"arn:aws:kms:us-east-1:123456789012:key/`+
			`1234abcd-12ab-34cd-56ef-1234567890ab",`+
			`"kmsOperation":"`+operation+`","kmsRequestId":"`+requestID+
			`","kmsViaService":"ebs"}`...)
}

// AppendEncryptBody appends the body of an Encrypt. integrity asks for the ciphertext data
// integrity
// value.
func AppendEncryptBody(
	dst []byte, requestID string, plaintext, aad []byte, integrity bool,
) []byte {
	dst = appendMetadata(dst, "GenerateDataKey", requestID)
	dst = appendBytes(dst, "plaintext", plaintext)
	dst = appendBytes(dst, "additionalAuthenticatedData", aad)
	if integrity {
		dst = append(dst, `,"ciphertextDataIntegrityValueAlgorithm":"SHA_256"`...)
	}
	return append(dst, `,"encryptionAlgorithm":"AES_GCM"}`...)
}

// What KMS sends for a data key: 48 bytes to encrypt under some 300 bytes of AAD.
var (
	dataKey    = bytes.Repeat([]byte{'p'}, 48)
	dataKeyAAD = bytes.Repeat([]byte{'a'}, 300)
)

// someRequestID is a kmsRequestId of the usual length, for requests that are sent again and
// again.
const someRequestID = "4112f4d6-db54-4af4-ae30-c55a22a8dfae"

// DataKeyBody is the body of an Encrypt as KMS sends it for a data key.
func DataKeyBody(integrity bool) []byte {
	return AppendEncryptBody(nil, someRequestID, dataKey, dataKeyAAD, integrity)
}

// DataKeyDecryptBody is the body of the Decrypt of what a DataKeyBody was answered with.
func DataKeyDecryptBody(s *Sealed) []byte {
	return AppendDecryptBody(nil, someRequestID, s, dataKeyAAD)
}

// Sealed is what an Encrypt answers and a Decrypt wants.
type Sealed struct {
	Ciphertext []byte
	IV         []byte
	Tag        []byte
	Metadata   []byte
}

// ParseSealed reads the answer of an Encrypt. What is missing is nil.
func ParseSealed(reply []byte) Sealed {
	return Sealed{
		Ciphertext: Field(reply, "ciphertext"), IV: Field(reply, "initializationVector"),
		Tag: Field(reply, "authenticationTag"), Metadata: Field(reply, "ciphertextMetadata"),
	}
}

// AppendDecryptBody appends the body of a Decrypt.
func AppendDecryptBody(dst []byte, requestID string, s *Sealed, aad []byte) []byte {
	dst = appendMetadata(dst, "Decrypt", requestID)
	dst = appendBytes(dst, "ciphertext", s.Ciphertext)
	dst = appendBytes(dst, "ciphertextMetadata", s.Metadata)
	dst = appendBytes(dst, "initializationVector", s.IV)
	dst = appendBytes(dst, "authenticationTag", s.Tag)
	dst = appendBytes(dst, "additionalAuthenticatedData", aad)
	return append(dst, `,"encryptionAlgorithm":"AES_GCM"}`...)
}

// HealthBody is the body of a GetHealthStatus.
func HealthBody(requestID string) []byte {
	return []byte(`{"requestMetadata":{"kmsRequestId":"` + requestID +
		`","kmsOperation":"KmsHealthCheck"}}`)
}

func appendBytes(dst []byte, name string, value []byte) []byte {
	dst = append(dst, `,"`+name+`":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, value)
	return append(dst, '"')
}

// Field reads a Base64 field out of a reply, whose JSON the proxy writes without spaces and
// escapes; anything else is nil, hence wrong.
func Field(reply []byte, name string) []byte {
	_, rest, found := bytes.Cut(reply, []byte(`"`+name+`":"`))
	if !found {
		return nil
	}
	text, _, found := bytes.Cut(rest, []byte{'"'})
	if !found {
		return nil
	}
	value := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(value, text)
	if err != nil {
		return nil
	}
	return value[:n]
}

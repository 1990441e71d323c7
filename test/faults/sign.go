package main

// Requests as they go over the wire: signed (AWS Signature Version 4), built by hand so that
// the client costs little beside the proxy it shares the machine with.

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"sync"
	"time"
)

const (
	signedService = "kms-xks-proxy"
	signedHeaders = "host;x-amz-date"
	timeFormat    = "20060102T150405Z"
)

// signer signs for one credential. Safe for concurrent use.
type signer struct {
	host, region, accessKeyID, secret string

	mu  sync.Mutex
	day string
	key []byte // of that day
}

// signingKey derives the key once a day.
func (s *signer) signingKey(day string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.day == day {
		return s.key
	}
	key := []byte("AWS4" + s.secret)
	for _, part := range []string{day, s.region, signedService, "aws4_request"} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	s.day, s.key = day, key
	return key
}

// appendRequest appends a whole HTTP/1.1 request.
func (s *signer) appendRequest(dst []byte, path string, body []byte, at time.Time) []byte {
	date := at.UTC().Format(timeFormat)
	day := date[:8]
	bodyHash := sha256.Sum256(body)
	canonical := make([]byte, 0, 512)
	canonical = append(canonical, "POST\n"+path+"\n\nhost:"+s.host+"\nx-amz-date:"+date+"\n\n"+signedHeaders+"\n"...)
	canonical = hex.AppendEncode(canonical, bodyHash[:])
	hash := sha256.Sum256(canonical)
	scope := day + "/" + s.region + "/" + signedService + "/aws4_request"
	toSign := append(canonical[:0], "AWS4-HMAC-SHA256\n"+date+"\n"+scope+"\n"...)
	toSign = hex.AppendEncode(toSign, hash[:])
	mac := hmac.New(sha256.New, s.signingKey(day))
	mac.Write(toSign)
	dst = append(dst, "POST "+path+" HTTP/1.1\r\nHost: "+s.host+"\r\nContent-Type: application/json\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, "\r\nX-Amz-Date: "+date+"\r\nAuthorization: AWS4-HMAC-SHA256 Credential="+s.accessKeyID+"/"+scope+
		", SignedHeaders="+signedHeaders+", Signature="...)
	dst = hex.AppendEncode(dst, mac.Sum(nil))
	dst = append(dst, "\r\n\r\n"...)
	return append(dst, body...)
}

// The bodies of the API, by hand.

func appendMetadata(dst []byte, operation, requestID string) []byte {
	return append(dst, `{"requestMetadata":{"awsPrincipalArn":"arn:aws:iam::123456789012:user/Alice",`+
		`"kmsKeyArn":"arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab","kmsOperation":"`+operation+
		`","kmsRequestId":"`+requestID+`","kmsViaService":"ebs"}`...)
}

func appendEncryptBody(dst []byte, requestID string, plaintext, aad []byte, integrity bool) []byte {
	dst = appendMetadata(dst, "GenerateDataKey", requestID)
	dst = appendBytes(dst, "plaintext", plaintext)
	dst = appendBytes(dst, "additionalAuthenticatedData", aad)
	if integrity {
		dst = append(dst, `,"ciphertextDataIntegrityValueAlgorithm":"SHA_256"`...)
	}
	return append(dst, `,"encryptionAlgorithm":"AES_GCM"}`...)
}

func appendDecryptBody(dst []byte, requestID string, r *record) []byte {
	dst = appendMetadata(dst, "Decrypt", requestID)
	dst = appendBytes(dst, "ciphertext", r.Ciphertext)
	dst = appendBytes(dst, "ciphertextMetadata", r.Metadata)
	dst = appendBytes(dst, "initializationVector", r.IV)
	dst = appendBytes(dst, "authenticationTag", r.Tag)
	dst = appendBytes(dst, "additionalAuthenticatedData", aadOf(r.AAD))
	return append(dst, `,"encryptionAlgorithm":"AES_GCM"}`...)
}

func appendBytes(dst []byte, name string, value []byte) []byte {
	dst = append(dst, `,"`+name+`":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, value)
	return append(dst, '"')
}

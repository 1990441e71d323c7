package xks

// A signer of a few lines, written from AWS's description of Signature Version 4 and independent of
// package sigv4.

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"xks-proxy/pkg/sigv4"
)

func sign(
	r *http.Request, path string, body []byte, c sigv4.Credential, region string, at time.Time,
) {
	stamp := at.UTC().Format("20060102T150405Z")
	scope := strings.Join([]string{stamp[:8], region, Service, "aws4_request"}, "/")
	canonical := strings.Join(
		[]string{
			r.Method, path, "", "host:" + r.Host, "x-amz-date:" + stamp, "", "host;x-amz-date",
			hexSHA256(body),
		},
		"\n",
	)
	toSign := strings.Join(
		[]string{"AWS4-HMAC-SHA256", stamp, scope, hexSHA256([]byte(canonical))}, "\n",
	)
	key := []byte("AWS4" + c.SecretAccessKey)
	for part := range strings.SplitSeq(scope, "/") {
		key = hmacSHA256(key, part)
	}
	r.Header.Set("X-Amz-Date", stamp)
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+c.AccessKeyID+"/"+scope+
		", SignedHeaders=host;x-amz-date, Signature="+hex.EncodeToString(hmacSHA256(key, toSign)))
}

func hmacSHA256(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func hexSHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

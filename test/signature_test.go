package test

// A SigV4 signer that can be told to sign wrongly. Right signatures come from the AWS SDK.

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"xks-proxy/pkg/sigv4"
)

// signature is everything that goes into one.
type signature struct {
	credential sigv4.Credential
	date       string // x-amz-date
	scopeDate  string
	region     string
	service    string
	terminator string
	headers    []string // signed
	method     string
	path       string
	host       string
}

func (c *client) signature(k *call) *signature {
	now := time.Now().UTC()
	return &signature{
		credential: c.credential, date: now.Format("20060102T150405Z"), scopeDate: now.Format("20060102"), region: signedRegion,
		service: signedService, terminator: "aws4_request", headers: []string{"host", "x-amz-date"}, method: k.method, path: k.path, host: c.proxy.Listen,
	}
}

// sign gives the Authorization header of a request with this body and these other headers.
func (s *signature) sign(body []byte, header http.Header) string {
	slices.Sort(s.headers)
	canonical := s.method + "\n" + s.path + "\n\n"
	for _, name := range s.headers {
		value := strings.Join(header[http.CanonicalHeaderKey(name)], ",")
		switch name {
		case "host", ":authority":
			value = s.host
		case "x-amz-date":
			value = s.date
		}
		canonical += name + ":" + value + "\n"
	}
	signed := strings.Join(s.headers, ";")
	canonical += "\n" + signed + "\n" + hexHash(body)
	scope := s.scopeDate + "/" + s.region + "/" + s.service + "/" + s.terminator
	key := []byte("AWS4" + s.credential.SecretAccessKey)
	for _, part := range []string{s.scopeDate, s.region, s.service, s.terminator} {
		key = hash(key, part)
	}
	sum := hash(key, "AWS4-HMAC-SHA256\n"+s.date+"\n"+scope+"\n"+hexHash([]byte(canonical)))
	return "AWS4-HMAC-SHA256 Credential=" + s.credential.AccessKeyID + "/" + scope + ", SignedHeaders=" + signed + ", Signature=" + hex.EncodeToString(sum)
}

func hash(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func hexHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// signedBy makes the call carry a signature of ours, changed by edit.
func (c *client) signedBy(k *call, edit func(*signature)) *call {
	s := c.signature(k)
	edit(s)
	k.unsigned = true
	k.afterSign = func(r *http.Request) {
		r.Header.Set("X-Amz-Date", s.date)
		r.Header.Set("Authorization", s.sign(k.body, r.Header))
	}
	return k
}

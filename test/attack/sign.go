package main

// Requests before they are signed, in which everything can be wrong, and AWS Signature Version 4
// over them, in which every part can be another's.

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	signedService = "kms-xks-proxy"
	signedRegion  = "us-east-1"
	terminator    = "aws4_request"
	timeFormat    = "20060102T150405Z"
)

// credential signs.
type credential struct{ ID, Secret string }

// header is one line of a request's header.
type header struct{ name, value string }

// sketch is a request and how it is signed.
type sketch struct {
	method, target, version string
	headers                 []header
	body                    []byte

	algorithm            string
	id, secret           string
	at                   time.Time
	day, region, service string // of the scope
	end                  string // of the scope
	keyDay, keyRegion    string // of the signing key; "": those of the scope
	keyService, keyEnd   string
	signed               []string // names, in the order in which they are listed
	signedTarget         string   // "": target
	signedMethod         string   // "": method
	signedQuery          string
	signedBody           []byte // nil: body
	date                 string // of x-amz-date; "": at
	payloadHash          string // "": of the body
	signature            string // "": computed
	authorization        string // "": composed
	afterSigning         func([]header) []header
}

// newSketch is a good request as AWS KMS sends it: host and x-amz-date are signed.
func newSketch(t *target, who *tenant, below string, body []byte) *sketch {
	now := time.Now().UTC()
	return &sketch{
		method: "POST", target: who.path(below), version: "HTTP/1.1", body: body,
		headers: []header{{"Host", t.host()}, {"Content-Type", "application/json"}},
		id:      who.Credential.ID, secret: who.Credential.Secret, algorithm: "AWS4-HMAC-SHA256",
		at: now, day: now.Format("20060102"), region: signedRegion, service: signedService,
		end:    terminator,
		signed: []string{"host", "x-amz-date"},
	}
}

// all signs content-length and content-type as well, as AWS's SDKs do.
func (s *sketch) all() *sketch {
	s.signed = []string{"content-length", "content-type", "host", "x-amz-date"}
	return s
}

// edited is the sketch after an edit.
func (s *sketch) edited(edit func(*sketch)) *sketch {
	edit(s)
	return s
}

func (s *sketch) add(name, value string) { s.headers = append(s.headers, header{name, value}) }

func (s *sketch) get(name string) string {
	for _, h := range s.headers {
		if strings.EqualFold(h.name, name) {
			return h.value
		}
	}
	return ""
}

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func hexHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// sign completes the headers.
func (s *sketch) sign() []header {
	date := orElse(s.date, s.at.Format(timeFormat))
	all := append(slices.Clone(s.headers), header{"X-Amz-Date", date})
	if s.get("Content-Length") == "" && s.get("Transfer-Encoding") == "" {
		all = append(all, header{"Content-Length", fmt.Sprint(len(s.body))})
	}
	body := s.body
	if s.signedBody != nil {
		body = s.signedBody
	}
	var canonical strings.Builder
	fmt.Fprintf(
		&canonical, "%s\n%s\n%s\n", orElse(s.signedMethod, s.method),
		orElse(s.signedTarget, s.target), s.signedQuery,
	)
	for _, name := range s.signed {
		var values []string
		for _, h := range all {
			if strings.EqualFold(h.name, name) {
				values = append(values, strings.Join(strings.Fields(h.value), " "))
			}
		}
		fmt.Fprintf(&canonical, "%s:%s\n", name, strings.Join(values, ","))
	}
	names := strings.Join(s.signed, ";")
	fmt.Fprintf(&canonical, "\n%s\n%s", names, orElse(s.payloadHash, hexHash(body)))
	scope := s.day + "/" + s.region + "/" + s.service + "/" + s.end
	toSign := s.algorithm + "\n" + date + "\n" + scope + "\n" + hexHash([]byte(canonical.String()))
	key := []byte("AWS4" + s.secret)
	for _, part := range []string{
		orElse(s.keyDay, s.day), orElse(s.keyRegion, s.region), orElse(s.keyService, s.service),
		orElse(s.keyEnd, s.end),
	} {
		key = mac(key, part)
	}
	signature := orElse(s.signature, hex.EncodeToString(mac(key, toSign)))
	authorization := orElse(
		s.authorization,
		fmt.Sprintf(
			"%s Credential=%s/%s, SignedHeaders=%s, Signature=%s", s.algorithm, s.id, scope, names,
			signature,
		),
	)
	all = append(all, header{"Authorization", authorization})
	if s.afterSigning != nil {
		all = s.afterSigning(all)
	}
	return all
}

// bytes is the request as HTTP/1.1 has it.
func (s *sketch) bytes() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\n", s.method, s.target, s.version)
	for _, h := range s.sign() {
		fmt.Fprintf(&b, "%s: %s\r\n", h.name, h.value)
	}
	b.WriteString("\r\n")
	b.Write(s.body)
	return b.Bytes()
}

// The bodies of the API.

func requestMetadata(operation string) string {
	return `{"requestMetadata":{"awsPrincipalArn":"arn:aws:iam::123456789012:user/Alice",` +
		`"kmsKeyArn":"arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab","kmsOperation":"` + operation +
		`","kmsRequestId":"4112f4d6-db54-4af4-ae30-c55a22a8dfae"}`
}

func encryptBody(plaintext string) []byte {
	return []byte(
		requestMetadata("Encrypt") + `,"plaintext":"` + base64Of(
			[]byte(plaintext),
		) + `","encryptionAlgorithm":"AES_GCM"}`,
	)
}

func decryptBody(sealed []byte) []byte {
	return []byte(requestMetadata("Decrypt") + string(sealed) + `,"encryptionAlgorithm":"AES_GCM"}`)
}

func metadataBody() []byte { return []byte(requestMetadata("DescribeKey") + "}") }

func healthBody() []byte { return []byte(requestMetadata("KmsHealthCheck") + "}") }

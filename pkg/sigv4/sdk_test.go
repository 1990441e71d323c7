// This file uses the AWS SDK's signer as an oracle: on generated requests, and over real HTTPS with
// net/http at both ends.

package sigv4

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// TestSDKGenerated covers A1, A2 and A5 over many shapes of requests.
func TestSDKGenerated(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 4))
	v := newTestVerifier(t)
	signer := v4.NewSigner()
	pick := func(choices ...string) string { return choices[random.IntN(len(choices))] }
	text := func(alphabet string, most int) string {
		s := make([]rune, random.IntN(most+1))
		for i := range s {
			s[i] = []rune(alphabet)[random.IntN(len([]rune(alphabet)))]
		}
		return string(s)
	}
	const printable = " !\"#$%&'()*+,-./0123456789:;<=>?@ABCXYZ[\\]^_`abcxyz{|}~"
	for i := range 3000 {
		body := make([]byte, random.IntN(200))
		for j := range body {
			body[j] = byte(random.Uint32())
		}
		path := "/" + text("abcXYZ019-._~/", 40)
		if random.IntN(3) == 0 {
			path += text("%25%41+:@!$&'()*,;=é", 0) + pick(
				"%20", "%2F", "%E1%88%B4", "+", ":", "@", "!$&'()*,;=", "%7e",
			)
		}
		host := pick("xks.example.com", "xks.example.com:8443", "127.0.0.1:1", "[::1]:9000")
		request, err := http.NewRequest(
			pick("POST", "GET", "PUT", "DELETE", "PATCH"), "https://"+host+path,
			bytes.NewReader(body),
		)
		if err != nil {
			t.Fatal(err)
		}
		for range random.IntN(6) {
			name := pick(
				"Content-Type", "Accept", "X-One", "X-One-Two", "X", "X-Amz-Meta-A", "User-Agent",
				"Cache-Control",
			)
			request.Header.Add(name, text(printable+"    éሴ", 30))
		}
		if random.IntN(3) == 0 {
			request.Header.Set("X-Amz-Content-Sha256", hexSHA256(string(body)))
		}
		credential := testConfig.Credentials[random.IntN(2)]
		at := testNow.Add(time.Duration(random.IntN(600)-300) * time.Second)
		region := pick("us-east-1", "eu-central-1", "us-gov-west-1")
		err = signer.SignHTTP(
			context.Background(),
			aws.Credentials{
				AccessKeyID: credential.AccessKeyID, SecretAccessKey: credential.SecretAccessKey,
				SessionToken: pick("", "", "token"),
			},
			request,
			hexSHA256(string(body)),
			DefaultService,
			region,
			at,
		)
		if err != nil {
			t.Fatal(err)
		}
		received := &Request{
			Method: request.Method, Path: request.URL.EscapedPath(), Host: request.Host,
			Header: request.Header, ContentLength: request.ContentLength, Body: body,
		}
		identity, err := v.Verify(received, testNow)
		if err != nil {
			t.Fatalf("request %d, %+v: %v", i, received, err)
		}
		if identity != (Identity{credential.AccessKeyID, region, at}) {
			t.Fatalf("identity is %+v", identity)
		}
		received.Body = append(received.Body, 0)
		_, err = v.Verify(received, testNow)
		if err == nil {
			t.Fatalf("request %d: accepted with a longer body", i)
		}
	}
}

// receive makes a Request of what net/http hands to a handler, as pkg/xks does.
func receive(r *http.Request) (*Request, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	path, query, _ := strings.Cut(r.RequestURI, "?")
	return &Request{
		Method: r.Method, Path: path, Query: query, Host: r.Host, Header: r.Header,
		ContentLength: r.ContentLength, Body: body,
	}, nil
}

// verifyingServer answers over HTTPS, on HTTP/1.1 and HTTP/2, with the protocol and who signed, or
// 401 and why not.
func verifyingServer(t *testing.T) *httptest.Server {
	t.Helper()
	v := newTestVerifier(t)
	server := httptest.NewUnstartedServer(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			received, err := receive(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			identity, err := v.Verify(received, time.Now())
			if err != nil {
				http.Error(w, err.Error(), http.StatusUnauthorized)
				return
			}
			_, hasLength := r.Header["Content-Length"]
			fmt.Fprintf(
				w, "%s %s %s length-header=%t", r.Proto, identity.AccessKeyID, identity.Region,
				hasLength,
			)
		}),
	)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// TestSDKOverHTTPS: the SDK signs content-length. net/http leaves that header in r.Header on both
// protocols, which this test pins down.
func TestSDKOverHTTPS(t *testing.T) {
	server := verifyingServer(t)
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		transport := server.Client().Transport.(*http.Transport).Clone()
		transport.TLSClientConfig.NextProtos = nil // httptest asks for HTTP/2
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetHTTP1(protocol == "HTTP/1.1")
		transport.Protocols.SetHTTP2(protocol == "HTTP/2.0")
		client := &http.Client{Transport: transport}
		for _, body := range []string{`{"a":1}`, ""} {
			t.Run(fmt.Sprintf("%s, %d bytes", protocol, len(body)), func(t *testing.T) {
				request, err := http.NewRequest(
					"POST", server.URL+"/kms/xks/v1/health", strings.NewReader(body),
				)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Content-Type", "application/json")
				err = v4.NewSigner().
					SignHTTP(context.Background(), aws.Credentials{AccessKeyID: newID, SecretAccessKey: newSecret},
						request, hexSHA256(body), DefaultService, "us-east-1", time.Now())
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(
					request.Header.Get("Authorization"), "content-length",
				) != (body != "") {
					t.Fatal("the SDK does not sign content-length as expected")
				}
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				answer, err := io.ReadAll(response.Body)
				if err != nil {
					t.Fatal(err)
				}
				want := protocol + " " + newID + " us-east-1 length-header=true"
				if string(answer) != want {
					t.Fatalf("answer is %q, not %q", answer, want)
				}
			})
		}
		transport.CloseIdleConnections()
	}
}

// TestContentLengthTakenOut: a server that takes Content-Length out of the header does not break
// such clients.
func TestContentLengthTakenOut(t *testing.T) {
	r := testRequest()
	r.Header.Set("Content-Length", fmt.Sprint(len(r.Body)))
	testReference.sign(r, oldID, "us-east-1", testNow, "content-length", "host", "x-amz-date")
	r.Header.Del("Content-Length")
	r.ContentLength = int64(len(r.Body))
	v := newTestVerifier(t)
	_, err := v.Verify(r, testNow)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = -1
	_, err = v.Verify(r, testNow)
	if err == nil {
		t.Fatal("accepted without any content length")
	}
}

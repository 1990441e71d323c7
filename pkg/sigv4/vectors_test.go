// This file checks the Verifier against the signatures that AWS published in its SigV4 test suite:
// an oracle that shares no code with us.

package sigv4

import (
	"net/http"
	"testing"
	"time"
)

// TestPublishedVectors covers A1, A2 and A4. These vectors of the test suite do not apply, because
// such a request is refused or cannot arrive:
//
//   - get-vanilla-query-*, get-vanilla-empty-query-key, get-vanilla-utf8-query, post-vanilla-query,
//     post-vanilla-empty-query-value: a query (U5);
//   - get-relative, get-slash, get-slashes, get-slash-dot-slash, get-slash-pointless-dot,
//     "normalized": the path is verified raw (U5), so the "unnormalized" ones are here;
//   - get-space: a request target with a space is not HTTP (TestAppendPath has its encoding).
//
// get-header-value-multiline is here as net/http unfolds it: on one line.
func TestPublishedVectors(t *testing.T) {
	const (
		emptyBody = ""
		form      = "Param1=value1"
		formHash  = "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e"
		token     = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
		stsToken  = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
		unreserve = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		plainList = "host;x-amz-date"
		my1List   = "host;my-header1;x-amz-date"
	)
	my1 := func(values ...string) http.Header { return http.Header{"My-Header1": values} }
	vectors := []struct {
		name, method, path string
		header             http.Header
		body, signed       string
		signature          string
	}{
		{
			"get-vanilla", "GET", "/", nil, emptyBody, plainList,
			"5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
		},
		{
			"get-vanilla-with-session-token", "GET", "/",
			http.Header{"X-Amz-Security-Token": {token}}, emptyBody,
			plainList + ";x-amz-security-token",
			"07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
		},
		{
			"get-header-key-duplicate", "GET", "/", my1("value2", "value2", "value1"), emptyBody,
			my1List, "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
		},
		{
			"get-header-value-order", "GET", "/", my1("value4", "value1", "value3", "value2"),
			emptyBody, my1List, "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
		},
		{
			"get-header-value-multiline", "GET", "/", my1("value1 value2 value3"), emptyBody,
			my1List, "cfd34249e4b1c8d6b91ef74165d41a32e5fab3306300901bb65a51a73575eefd",
		},
		{
			"get-header-value-trim", "GET", "/",
			http.Header{"My-Header1": {" value1"}, "My-Header2": {` "a   b   c"`}}, emptyBody,
			"host;my-header1;my-header2;x-amz-date",
			"acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
		},
		{
			"get-unreserved", "GET", unreserve, nil, emptyBody, plainList,
			"07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
		},
		{
			"get-utf8", "GET", "/ሴ", nil, emptyBody, plainList,
			"8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
		},
		{
			"get-relative-unnormalized", "GET", "/example/..", nil, emptyBody, plainList,
			"eca7ead57bb5aa5c8e28007acd4ff04e1ff9a0ff3b237ec1554a184887ff9282",
		},
		{
			"get-relative-relative-unnormalized", "GET", "/example1/example2/../..", nil, emptyBody,
			plainList, "dc33e0856fd4baca4d7aa2146c38958283844764f38c74252a333df5e613003b",
		},
		{
			"get-slash-unnormalized", "GET", "//", nil, emptyBody, plainList,
			"c88bcd3d312d75078c0cd961d6deae3f4c754924b01669efcfcb439fd5e5b76e",
		},
		{
			"get-slashes-unnormalized", "GET", "//example//", nil, emptyBody, plainList,
			"87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5",
		},
		{
			"get-slash-dot-slash-unnormalized", "GET", "/./", nil, emptyBody, plainList,
			"68714168e6557f8f2de0ef956fc24dc2593a4bd2961f8df51898d8a134695145",
		},
		{
			"get-slash-pointless-dot-unnormalized", "GET", "/./example", nil, emptyBody, plainList,
			"beb03f223f7deae4146464f06e29eebbee9c8afbe15c290cf07aa8b119e14cff",
		},
		{
			"post-vanilla", "POST", "/", nil, emptyBody, plainList,
			"5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
		},
		{
			"post-header-key-case", "POST", "/", nil, emptyBody, plainList,
			"5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
		},
		{
			"post-header-key-sort", "POST", "/", my1("value1"), emptyBody, my1List,
			"c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
		},
		{
			"post-header-value-case", "POST", "/", my1("VALUE1"), emptyBody, my1List,
			"cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
		},
		{
			"post-sts-header-before", "POST", "/", http.Header{"X-Amz-Security-Token": {stsToken}},
			emptyBody, plainList + ";x-amz-security-token",
			"85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
		},
		// The token is added after signing: an unsigned one is ignored.
		{
			"post-sts-header-after", "POST", "/", http.Header{"X-Amz-Security-Token": {stsToken}},
			emptyBody, plainList,
			"5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
		},
		{
			"post-x-www-form-urlencoded", "POST", "/",
			http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, form,
			"content-type;host;x-amz-date",
			"ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
		},
		{
			"post-x-www-form-urlencoded, body signed",
			"POST",
			"/",
			http.Header{
				"Content-Type":   {"application/x-www-form-urlencoded"},
				"Content-Length": {"13"}, "X-Amz-Content-Sha256": {formHash},
			},
			form,
			"content-length;content-type;host;x-amz-content-sha256;x-amz-date",
			"d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
		},
		{
			"post-x-www-form-urlencoded-parameters, body signed",
			"POST",
			"/",
			http.Header{
				"Content-Type":         {"application/x-www-form-urlencoded; charset=utf-8"},
				"X-Amz-Content-Sha256": {formHash},
			},
			form,
			"content-length;content-type;host;x-amz-content-sha256;x-amz-date",
			"328d1b9eaadca9f5818ef05e8392801e091653bafec24fcab71e7344e7f51422",
		},
	}
	verifier := newVerifier(Config{
		Service:     "service",
		Credentials: []Credential{{"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}},
	})
	now := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	for _, vector := range vectors {
		t.Run(vector.name, func(t *testing.T) {
			header := http.Header{}
			if vector.header != nil {
				header = vector.header.Clone()
			}
			header.Set("X-Amz-Date", "20150830T123600Z")
			request := &Request{
				Method: vector.method, Path: vector.path, Host: "example.amazonaws.com", Header: header,
				ContentLength: int64(len(vector.body)), Body: []byte(vector.body),
			}
			header.Set(
				"Authorization",
				"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders="+
					vector.signed+", Signature="+vector.signature,
			)
			identity, err := verifier.Verify(request, now)
			if err != nil {
				t.Fatal(err)
			}
			if identity != (Identity{"AKIDEXAMPLE", "us-east-1", now}) {
				t.Fatalf("identity is %+v", identity)
			}
			request.Body = append(request.Body, ' ')
			_, err = verifier.Verify(request, now)
			if err == nil {
				t.Fatal("accepted with another body")
			}
		})
	}
}

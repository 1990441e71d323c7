package test

// The rows about URIs, methods, media types, protocols: U1 to U8.

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

func httpRequirements() []requirement {
	return []requirement{
		{number: "U1", status: met,
			says: "Base path `[/prefix]/kms/xks/v1`, 10 to 128 characters. A prefix is one key store, matched whole, exactly, case-sensitively, raw; key stores are isolated from each other",
			checks: []check{
				{"a key store is served at an empty prefix, at one segment and at several", overEveryWay(checkPrefixes)},
				{"no credential, key or path of one key store works at another", refuses(crossStoreRefusals)},
				{"a prefix in another case, a part of one, or one with more before or after it is 404 InvalidUriPathException", refuses(prefixRefusals)},
			},
			also: []string{"TestTenants", "TestFilesDoNotCross", "TestThousandKeyStores", "internal/config: TestBadConfigurations"}},
		{number: "U2", status: partly, but: "creating keys and `doctor`, which warn of URIs over 256 characters, are not there yet",
			says:   "`POST …/keys/{externalKeyId}/metadata`, `encrypt`, `decrypt` and `POST …/health`; no refusal by length of the URI",
			checks: []check{{"all four are served, also with a key id of 128 characters", overEveryWay(checkAllOperations)}}},
		{number: "U3", status: met,
			says: "externalKeyId: 1 to 128 of `A-Z a-z 0-9 - . _`, anything else is KeyNotFoundException",
			checks: []check{
				{"an id with each kind of character works", overEveryWay(checkOddKeyID)},
				{"an id of 129 characters, with other characters, or that no HSM has is 404 KeyNotFoundException", refuses(keyIDRefusals)},
			}},
		{number: "U4", status: met,
			says:   "Any method but POST at an API URI: 405 with `Allow: POST` and UnsupportedOperationException",
			checks: []check{{"GET, PUT, DELETE, PATCH, OPTIONS, HEAD, TRACE and an unknown method get it at all four URIs, and no body after HEAD", overEveryWay(checkMethods)}}},
		{number: "U5", status: met,
			says: "Any other path is 404 InvalidUriPathException; paths are taken raw and never redirected; a key store with `hosts` is there under its own names only; a query is AuthenticationFailedException",
			checks: []check{
				{"percent signs, empty segments, dots, a trailing slash, other versions and operations are 404 with any method, and no redirect", refuses(pathRefusals)},
				{"a query, signed or not, is 401 AuthenticationFailedException", refuses(queryRefusals)},
			},
			also: []string{"TestHosts", "TestFilesDoNotCross", "TestCertificatesByName", "TestNextTenantByCopy", "pkg/xks: TestHosts"}},
		{number: "U6", status: met,
			says: "Requests are `application/json`, or ValidationException. Replies are one line of compact JSON with Content-Length and `Content-Type: application/json`",
			checks: []check{
				{"parameters and letter case of the media type do not matter", overEveryWay(checkMediaTypes)},
				{"a missing, other or repeated Content-Type is 400 ValidationException", refuses(mediaTypeRefusals)},
				{"replies of success and of every kind of error are one line of JSON with Content-Length and Content-Type", overEveryWay(checkReplyForm)},
			}},
		{number: "U7", status: met,
			says:   "HTTP/1.1 works, HTTP/2 is offered, a client that cannot do HTTP/2 gets 1.1",
			checks: []check{{"ALPN chooses HTTP/2 when both can, HTTP/1.1 when only that or nothing is offered; HTTP/1.0 is answered, too", checkProtocols}}},
		{number: "U8", status: met,
			says: "TLS 1.2 and 1.3 with at least one of the four cipher suites that AWS names; on 1.2 only ECDHE AEAD suites",
			checks: []check{
				{"TLS_AES_256_GCM_SHA384 is offered on 1.3 and TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 on 1.2", checkCipherSuites},
				{"TLS 1.1 and TLS 1.2 with CBC suites or without ECDHE are refused", checkTLSRefusals},
			},
			also: []string{"TestCipherSuitesOfTLS13", "internal/server: TestCipherSuites"}},
	}
}

func checkPrefixes(t *testing.T, c *client) {
	w := c.proxy.world
	c.fleet(t)
	c.as(w.Other).at(otherPrefix).fleet(t)
	regional := c.as(w.Regional).at(regionalPrefix)
	k := regional.call(metadataURI("key"), encode(keyMetadataBody())) // its label template makes key-1 of it
	k.region = "eu-central-1"
	regional.mustDo(t, k).wantOK(t, new(object))
}

// crossStoreRefusals: who has a credential of one key store, and keys that another has.
func crossStoreRefusals(_ testing.TB, w *world) []refusal {
	sign := func(k *call) { k.path = apiPath + metadataURI("other-1") } // of the key store without prefix, signed by the main one
	return []refusal{
		{"another store's path", metadataURI("other-1"), keyMetadataBody(), sign, 401, "AuthenticationFailedException"},
		{"another store's path and no key", metadataURI("nothing"), keyMetadataBody(), func(k *call) { k.path = apiPath + metadataURI("nothing") }, 401, "AuthenticationFailedException"},
		{"the proxy's own test key", metadataURI(testKey), keyMetadataBody(), nil, 404, "KeyNotFoundException"},
		{"a key that the store's labels leave out", "", keyMetadataBody(), func(k *call) { k.who, k.path = &w.Other, apiPath+metadataURI("key-1") }, 404, "KeyNotFoundException"},
		{"encrypt with a key that the store's labels leave out", "", encryptBody(nil, nil), func(k *call) { k.who, k.path = &w.Other, apiPath+encryptURI("key-1") }, 404, "KeyNotFoundException"},
	}
}

func prefixRefusals(testing.TB, *world) []refusal {
	var cases []refusal
	for _, path := range []string{
		"/Demo" + apiPath, "/DEMO" + apiPath, "/dem" + apiPath, "/demo2" + apiPath, "/demo/x" + apiPath, "/x/demo" + apiPath,
		"/demo/kms/xks/V1", "/demo/KMS/xks/v1", "/demo/kms/xks/v2", "/demo/demo" + apiPath, "/tenants" + apiPath, "/tenants/a-1" + apiPath,
	} {
		cases = append(cases, refusal{path, "", healthBody(), func(k *call) { k.path = path + healthURI }, 404, "InvalidUriPathException"})
	}
	return cases
}

func checkAllOperations(t *testing.T, c *client) {
	for _, key := range []string{"key-1", longKeyID} {
		plaintext := []byte("all operations")
		s := c.encrypt(t, key, encryptBody(plaintext, nil))
		if got := c.decrypt(t, key, s, nil); string(got) != string(plaintext) {
			t.Fatalf("%s decrypted to %q", key, got)
		}
		c.post(t, metadataURI(key), keyMetadataBody()).wantOK(t, new(object))
	}
	c.fleet(t)
}

func checkOddKeyID(t *testing.T, c *client) {
	c.decrypt(t, "Odd.key_id-", c.encrypt(t, "Odd.key_id-", encryptBody(nil, nil)), nil)
}

func keyIDRefusals(testing.TB, *world) []refusal {
	var cases []refusal
	for _, id := range []string{"no-such-key", "key-1x", "KEY-1", longKeyID + "x", strings.Repeat("k", 1000), "key~1", "key:1", "key+1", "key@1", "key,1", "key;1", "..."} {
		cases = append(cases,
			refusal{"metadata of " + id, metadataURI(id), keyMetadataBody(), nil, 404, "KeyNotFoundException"},
			refusal{"encrypt with " + id, encryptURI(id), encryptBody([]byte("x"), nil), nil, 404, "KeyNotFoundException"})
	}
	return cases
}

func checkMethods(t *testing.T, c *client) {
	for _, uri := range []string{metadataURI("key-1"), encryptURI("key-1"), decryptURI("no-such-key"), healthURI} {
		for _, method := range []string{"GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD", "BREW"} {
			k := c.call(uri, nil)
			k.method, k.unsigned = method, true
			r := c.mustDo(t, k)
			if method == "HEAD" {
				if r.status != 405 || len(r.body) != 0 || r.header.Get("Content-Length") == "" {
					t.Errorf("HEAD %s: %d %q", uri, r.status, r.body)
				}
			} else if err := r.checkError(405, "UnsupportedOperationException"); err != nil {
				t.Errorf("%s %s: %v", method, uri, err)
			}
			if got := r.header.Get("Allow"); got != "POST" {
				t.Errorf("%s %s: Allow: %q", method, uri, got)
			}
		}
	}
}

func pathRefusals(testing.TB, *world) []refusal {
	var cases []refusal
	for _, path := range []string{
		"/", "/demo", "/demo/", "/demo/kms/xks/v1", "/demo/kms/xks/v1/", "/demo/kms/xks/v1/health/", "/demo/kms/xks/v1//health",
		"/demo/kms/xks/v1/./health", "/demo/kms/xks/v1/x/../health", "/demo/kms/xks/v1/health/..", "/demo/kms/xks/v1/%68ealth", "/demo%2Fkms/xks/v1/health",
		"/demo/kms/xks/v1/keys/key%2D1/metadata", "/demo/kms/xks/v1/keys/key-1%00/metadata", "/demo/kms/xks/v1/keys//metadata", "/demo/kms/xks/v1/keys/./metadata",
		"/demo/kms/xks/v1/keys/../metadata", "/demo/kms/xks/v1/keys/key-1", "/demo/kms/xks/v1/keys/key-1/", "/demo/kms/xks/v1/keys/key-1/metadata/", "/demo/kms/xks/v1/keys/key-1/Encrypt",
		"/demo/kms/xks/v1/keys/key-1/sign", "/demo/kms/xks/v1/keys/a/b/encrypt", "/demo/kms/xks/v1/Health", `/demo/kms/xks/v1\health`, "/favicon.ico", "/healthz/readiness",
	} {
		for _, method := range []string{"POST", "GET"} {
			cases = append(cases, refusal{method + " " + path, "", healthBody(), func(k *call) { k.method, k.path = method, path }, 404, "InvalidUriPathException"})
		}
	}
	return cases
}

func queryRefusals(testing.TB, *world) []refusal {
	var cases []refusal
	for _, query := range []string{"a", "a=b", "X-Amz-Algorithm=AWS4-HMAC-SHA256", "%00", "?"} {
		cases = append(cases,
			refusal{"signed " + query, healthURI, healthBody(), func(k *call) { k.query = query }, 401, "AuthenticationFailedException"},
			refusal{"added " + query, healthURI, healthBody(), func(k *call) { k.afterSign = func(r *http.Request) { r.URL.RawQuery = query } }, 401, "AuthenticationFailedException"})
	}
	return cases
}

func contentType(values ...string) func(*call) {
	return func(k *call) {
		k.header = http.Header{"Content-Type": nil}
		if len(values) > 0 {
			k.header["Content-Type"] = values
		}
	}
}

func checkMediaTypes(t *testing.T, c *client) {
	for _, value := range []string{"application/json", "Application/JSON", "application/json; charset=utf-8", "application/json;charset=UTF-8", "APPLICATION/JSON ; x=y"} {
		k := c.call(healthURI, encode(healthBody()))
		contentType(value)(k)
		c.mustDo(t, k).wantOK(t, new(object))
	}
}

func mediaTypeRefusals(testing.TB, *world) []refusal {
	var cases []refusal
	for _, values := range [][]string{nil, {""}, {"text/plain"}, {"application/jsonp"}, {"application/json+x"}, {"application/x-www-form-urlencoded"}, {"application/json", "application/json"}, {"ａpplication/json"}} {
		cases = append(cases, refusal{fmt.Sprint(values), healthURI, healthBody(), contentType(values...), 400, "ValidationException"})
	}
	return cases
}

func checkReplyForm(t *testing.T, c *client) {
	value := c.proxy.world.Values[keyID{"key-1", 2}]
	good := seal(t, value, 2, 12, []byte("x"), nil)
	bad := *good
	bad.AuthenticationTag = make([]byte, 16)
	unsigned := c.call(healthURI, encode(healthBody()))
	unsigned.unsigned = true
	nowhere := c.call("/nowhere", nil)
	get := c.call(healthURI, nil)
	get.method = "GET"
	for _, k := range []*call{
		c.call(encryptURI("key-1"), encode(withCDIV(encryptBody([]byte("x"), nil)))), c.call(decryptURI("key-1"), encode(decryptBody(good, nil))),
		c.call(metadataURI("key-1"), encode(keyMetadataBody())), c.call(healthURI, encode(healthBody())),
		c.call(decryptURI("key-1"), encode(decryptBody(&bad, nil))), c.call(metadataURI("nothing"), encode(keyMetadataBody())),
		c.call(encryptURI("decrypt-only"), encode(encryptBody([]byte("x"), nil))), c.call(encryptURI("disabled-key"), encode(encryptBody([]byte("x"), nil))),
		c.call(healthURI, []byte("{")), c.call(encryptURI("key-1"), make([]byte, 1<<20)), unsigned, nowhere, get,
	} {
		r := c.mustDo(t, k)
		if !isJSONObject(r.body) || r.header.Get("Content-Type") != "application/json" || r.header.Get("Content-Length") != fmt.Sprint(len(r.body)) {
			t.Errorf("%s %s: %d, headers %v, body %q", k.method, k.path, r.status, r.header, r.body)
		}
	}
}

func checkProtocols(t *testing.T) {
	p := sharedProxy(t)
	for _, one := range []struct {
		offered []string
		chosen  string
	}{{[]string{"h2", "http/1.1"}, "h2"}, {[]string{"http/1.1"}, "http/1.1"}, {nil, ""}} {
		config := http1.tlsConfig(p)
		config.NextProtos = one.offered
		c, err := tls.Dial("tcp", p.Listen, config)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.ConnectionState().NegotiatedProtocol; got != one.chosen {
			t.Errorf("%v offered: %q", one.offered, got)
		}
		c.Close()
	}
	for _, w := range ways {
		c := p.client(t, w)
		r := c.post(t, healthURI, healthBody())
		want := "HTTP/1.1"
		if w.http2 {
			want = "HTTP/2.0"
		}
		if r.status != 200 || r.proto != want {
			t.Errorf("%v: %d over %s", w, r.status, r.proto)
		}
	}
	c := p.client(t, http1)
	text := c.bytes(t, c.call(healthURI, encode(healthBody())))
	if r := p.exchange(t, replaceOnce(t, text, "HTTP/1.1\r\n", "HTTP/1.0\r\n")); r == nil || r.status != 200 {
		t.Errorf("HTTP/1.0: %v", r)
	}
}

func checkCipherSuites(t *testing.T) {
	p := sharedProxy(t)
	for _, one := range []struct {
		config *tls.Config
		suite  uint16
	}{
		{&tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}}, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384},
		{&tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}}, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256},
	} {
		one.config.RootCAs, one.config.ServerName = p.world.CA, "localhost"
		c, err := tls.Dial("tcp", p.Listen, one.config)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.ConnectionState().CipherSuite; got != one.suite {
			t.Errorf("%s", tls.CipherSuiteName(got))
		}
		c.Close()
	}
	// Go's client always offers all three suites of 1.3 and cannot choose among them: curl can.
	out := curl(t, "--tlsv1.3", "--tls13-ciphers", "TLS_AES_256_GCM_SHA384", "--cacert", p.world.file("ca.crt"), "https://"+strings.Replace(p.Listen, "127.0.0.1", "localhost", 1)+"/healthz/live")
	if out != `{"status":"live"}` {
		t.Errorf("TLS_AES_256_GCM_SHA384: %q", out)
	}
}

func checkTLSRefusals(t *testing.T) {
	p := sharedProxy(t)
	for name, config := range map[string]*tls.Config{
		"TLS 1.1":       {MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"CBC":           {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256}},
		"without ECDHE": {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384}},
	} {
		config.RootCAs, config.ServerName = p.world.CA, "localhost"
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: rawLimit}, "tcp", p.Listen, config)
		if err == nil {
			c.Close()
			t.Errorf("%s: a connection with %s", name, tls.CipherSuiteName(c.ConnectionState().CipherSuite))
			continue
		}
		var alert tls.AlertError
		var op *net.OpError
		if !errors.As(err, &alert) && !errors.As(err, &op) {
			t.Errorf("%s: refused otherwise: %v", name, err)
		}
	}
}

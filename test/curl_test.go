package test

// curl, for what Go's client cannot do.

import (
	"os/exec"
	"strings"
	"testing"
)

// curl runs it, silent but for errors, and gives what it printed.
func curl(t testing.TB, arguments ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "curl", append([]string{"--silent", "--show-error", "--max-time", "15"}, arguments...)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("curl (is it installed?): %v", err)
	}
	return string(out)
}

// curl's own SigV4 is a second opinion, on both versions of HTTP (A1).
func TestCurlSignature(t *testing.T) {
	t.Parallel()
	p := sharedProxy(t)
	w := p.world
	for _, version := range []string{"--http1.1", "--http2"} {
		for _, tlsVersion := range []string{"1.2", "1.3"} {
			out := curl(t, version, "--tlsv"+tlsVersion, "--tls-max", tlsVersion, "--cacert", w.file("ca.crt"), "--request", "POST",
				"--aws-sigv4", "aws:amz:"+signedRegion+":"+signedService, "--user", w.Main.AccessKeyID+":"+w.Main.SecretAccessKey,
				"--header", "Content-Type: application/json", "--data-binary", string(encode(encryptBody([]byte("curl"), nil))),
				"--write-out", "\n%{http_code} %{http_version}", "https://"+p.Listen+mainPrefix+apiPath+encryptURI("key-1"))
			body, status, _ := strings.Cut(out, "\n")
			if status != map[string]string{"--http1.1": "200 1.1", "--http2": "200 2"}[version] {
				t.Fatalf("%s over TLS %s: %s %s", version, tlsVersion, status, body)
			}
			var s sealed
			err := decodeInto([]byte(body), &s)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.open(t, w.Values[keyID{"key-1", 2}], nil); string(got) != "curl" {
				t.Errorf("opened to %q", got)
			}
		}
	}
}

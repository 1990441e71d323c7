// This file uses curl's --aws-sigv4 as an oracle, over real HTTPS: it is what operators and AWS's
// own test client call the proxy with.

package sigv4

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatalf("this test needs curl 7.75 or later: %v", err)
	}
	server := verifyingServer(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "https://"), ":")
	bodyFile := filepath.Join(t.TempDir(), "body")
	err = os.WriteFile(bodyFile, []byte("\x00\xff binary \r\n body"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	const health = "/tenant/kms/xks/v1/health"
	json := []string{
		"-X", "POST", "-H", "Content-Type:application/json", "--data",
		`{"requestMetadata":{"kmsRequestId":"1","kmsOperation":"KmsHealthCheck"}}`,
	}
	tests := []struct {
		name, user, path, want string
		arguments              []string
	}{
		{"as in the specification", oldID + ":" + oldSecret, health, oldID + " us-east-1", json},
		{"secret with / + =", newID + ":" + newSecret, health, newID + " us-east-1", json},
		{"no body", oldID + ":" + oldSecret, health, oldID + " us-east-1", []string{"-X", "POST"}},
		{"GET", oldID + ":" + oldSecret, health, oldID + " us-east-1", nil},
		{
			"binary body from a file", oldID + ":" + oldSecret, health, oldID + " us-east-1",
			[]string{"--data-binary", "@" + bodyFile},
		},
		{
			"64 KiB of body", oldID + ":" + oldSecret, health, oldID + " us-east-1",
			[]string{"--data", strings.Repeat("a", 64<<10)},
		},
		{
			"more headers", oldID + ":" + oldSecret, health, oldID + " us-east-1",
			append([]string{"-H", "X-One: a", "-H", "Accept: application/json"}, json...),
		},
		{
			"a name for a host", oldID + ":" + oldSecret, health, oldID + " us-east-1",
			append([]string{"--resolve", "xks.test:" + port + ":127.0.0.1"}, json...),
		},
		{
			"every character of a key id", oldID + ":" + oldSecret,
			"/kms/xks/v1/keys/Az09-._x/encrypt", oldID + " us-east-1", json,
		},
		{"percent in the path", oldID + ":" + oldSecret, "/a%20b%2Fc", oldID + " us-east-1", json},
		{
			"dots and slashes in the path", oldID + ":" + oldSecret, "/a/../b//c/./",
			oldID + " us-east-1", append([]string{"--path-as-is"}, json...),
		},
		{
			"punctuation in the path", oldID + ":" + oldSecret, "/a:b@c!d$e&f'(g)*,;=",
			oldID + " us-east-1", json,
		},
		{"query", oldID + ":" + oldSecret, health + "?a=b", "sigv4: query_not_empty", json},
		{"wrong secret", oldID + ":" + newSecret, health, "sigv4: signature_mismatch", json},
		{
			"unknown access key", "STRANGERACCESSKEYID2345:" + oldSecret, health,
			"sigv4: unknown_access_key", json,
		},
	}
	for _, protocol := range []struct{ option, name string }{{"--http1.1", "HTTP/1.1"}, {"--http2", "HTTP/2.0"}} {
		for _, test := range tests {
			t.Run(protocol.name+" "+test.name, func(t *testing.T) {
				url := server.URL + test.path
				if test.name == "a name for a host" {
					url = "https://xks.test:" + port + test.path
				}
				arguments := append(
					[]string{
						"--silent", "--show-error", "--insecure", "--noproxy", "*", "--max-time",
						"20", protocol.option, "--aws-sigv4", "aws:amz:us-east-1:kms-xks-proxy",
						"--user", test.user,
					},
					test.arguments...)
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				output, err := exec.CommandContext(ctx, curl, append(arguments, url)...).
					CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %s", err, output)
				}
				want := test.want
				if !strings.HasPrefix(want, "sigv4:") {
					want = protocol.name + " " + want
				}
				if !strings.HasPrefix(string(output), want) {
					t.Fatalf("answer is %q, not %q", output, want)
				}
			})
		}
	}
}

// TestCurlScope: the region is the client's to choose (A1), but the scope's service is not.
func TestCurlScope(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatalf("this test needs curl 7.75 or later: %v", err)
	}
	server := verifyingServer(t)
	for scope, want := range map[string]string{
		"aws:amz:ap-southeast-2:kms-xks-proxy": oldID + " ap-southeast-2",
		"aws:amz:us-east-1:s3":                 "wrong_scope",
		"goog:goog:us-east-1:kms-xks-proxy":    "unsupported_algorithm",
	} {
		t.Run(scope, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			output, err := exec.CommandContext(ctx, curl, "--silent", "--show-error", "--insecure", "--noproxy", "*", "--max-time", "20",
				"--aws-sigv4", scope, "--user", oldID+":"+oldSecret, "-X", "POST", server.URL+"/kms/xks/v1/health").
				CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, output)
			}
			if !strings.Contains(string(output), want) {
				t.Fatalf("answer is %q, not %q", output, want)
			}
		})
	}
}

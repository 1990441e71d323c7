package server

// What the log says about a file of metrics.web_config that breaks while it is in use.

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/internal/testkit"
)

// With TLS such a file fails every handshake, and net/http reports those like a stranger's.
func TestBrokenWebConfigIsLogged(t *testing.T) {
	t.Chdir(t.TempDir())
	certificate, key := testkit.Certificate(t, "metrics", time.Now().Add(time.Hour))
	testkit.WriteFile(t, "web.crt", certificate, 0o644)
	testkit.WriteFile(t, "web.key", key, 0o600)
	const good = "tls_server_config: {cert_file: web.crt, key_file: web.key}\n"
	for _, test := range []struct{ name, text, want string }{
		{"good", good, ""},
		{"cut short", good[:30], "did not find expected"},
		{"a missing key", strings.Replace(good, "web.key", "none.key", 1), "none.key: no such file"},
		{"a hash in a wrong place", good + "basic_auth_users: $2y$10$secret\n", "line 2: cannot unmarshal"},
	} {
		t.Run(test.name, func(t *testing.T) {
			testkit.WriteFile(t, "web.yaml", test.text, 0o600)
			core, logs := observer.New(zap.InfoLevel)
			var quiet bytes.Buffer
			w := &webHandshakes{
				file: "web.yaml", problems: newWebProblems(zap.New(core)), quiet: &quiet,
			}
			for range 3 {
				_, err := w.Write([]byte("http: TLS handshake error\n"))
				if err != nil {
					t.Fatal(err)
				}
			}
			if lines := strings.Count(quiet.String(), "\n"); lines != 3 {
				t.Errorf("%d lines were passed on", lines)
			}
			if test.want == "" {
				if logs.Len() > 0 {
					t.Errorf("logged %v", logs.All())
				}
				return
			}
			if logs.Len() != 1 {
				t.Fatalf("%d lines", logs.Len())
			}
			detail := string(logs.All()[0].ContextMap()["detail"].(string))
			if !strings.Contains(detail, test.want) || strings.Contains(detail, "$2y$") {
				t.Errorf("the detail is %q", detail)
			}
		})
	}
}

package demo

// Parts of the demo that need no token.

import (
	"crypto/x509"
	"errors"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"xks-proxy/internal/certs"
	"xks-proxy/internal/config"
	"xks-proxy/internal/testkit"
	"xks-proxy/internal/xksclient"
)

// TestSoftHSMPlaces: the demo looks where test/softhsm.sh looks, in the same order.
func TestSoftHSMPlaces(t *testing.T) {
	script := testkit.ReadFile(t, "../../test/softhsm.sh")
	places := regexp.MustCompile(`(?m)^/.*/libsofthsm2\.so$`).FindAllString(script, -1)
	if len(places) == 0 || !slices.Equal(places, softHSMPlaces) {
		t.Errorf("the script looks at %q, the demo at %q", places, softHSMPlaces)
	}
}

func TestFindSoftHSM(t *testing.T) {
	module := filepath.Join(t.TempDir(), "libsofthsm2.so")
	testkit.WriteFile(t, module, "", 0o600)
	t.Setenv(softHSMVariable, module)
	got, err := findSoftHSM("")
	if err != nil || got != module {
		t.Errorf("%s=%s: %q, %v", softHSMVariable, module, got, err)
	}
	t.Chdir(filepath.Dir(module))
	got, err = findSoftHSM("libsofthsm2.so")
	if err != nil || got != module {
		t.Errorf("a relative path: %q, %v", got, err)
	}
	t.Setenv(softHSMVariable, "")
	defer func(places []string) { softHSMPlaces = places }(softHSMPlaces)
	softHSMPlaces = []string{"/nowhere/libsofthsm2.so"}
	_, err = findSoftHSM("")
	if err == nil || !strings.Contains(err.Error(), "install the package softhsm2") {
		t.Errorf("without SoftHSM: %v", err)
	}
}

// C1: a name in the CN that is among the DNS names; the demo's own addresses; renewed in time.
func TestDemoCertificate(t *testing.T) {
	d := &Directory{Path: t.TempDir()}
	now := time.Now()
	text, err := d.EnsureCertificate("127.0.0.1", now)
	if err != nil || !strings.Contains(text, "localhost, 127.0.0.1, ::1, until ") {
		t.Fatalf("%q, %v", text, err)
	}
	certificate, err := certs.ReadCertificate(
		config.CertificateFiles{Certificate: d.certificate(), Key: d.key()},
	)
	if err != nil {
		t.Fatal(err)
	}
	leaf := certificate.Leaf
	if leaf.Subject.CommonName != "localhost" || leaf.PublicKeyAlgorithm != x509.ECDSA ||
		leaf.IsCA {
		t.Errorf("CN %q, %s, CA %t", leaf.Subject.CommonName, leaf.PublicKeyAlgorithm, leaf.IsCA)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(testkit.ReadFile(t, d.ca())))
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name})
		if err != nil {
			t.Errorf("for %s: %v", name, err)
		}
	}
	for what, c := range map[string]struct {
		host string
		now  time.Time
		kept bool
	}{
		"the next day":    {"127.0.0.1", now.Add(24 * time.Hour), true},
		"before it ends":  {"127.0.0.1", now.Add(demoCertificateLife - 24*time.Hour), false},
		"another address": {"192.0.2.7", now, false},
		"a name":          {"xks.example.com", now, false},
	} {
		before := testkit.ReadFile(t, d.certificate())
		_, err := d.EnsureCertificate(c.host, c.now)
		if err != nil {
			t.Fatal(err)
		}
		if kept := testkit.ReadFile(t, d.certificate()) == before; kept != c.kept {
			t.Errorf("%s: kept is %t", what, kept)
		}
		_, err = d.EnsureCertificate("127.0.0.1", now) // for the next case, in any order
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestDemoEndpoint(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:8443": "https://127.0.0.1:8443", "0.0.0.0:1": "https://127.0.0.1:1", "[::]:1": "https://[::1]:1",
		":443": "https://127.0.0.1:443", "[::1]:9": "https://[::1]:9", "localhost:9": "https://localhost:9", "192.0.2.7:9": "https://192.0.2.7:9",
	} {
		if got := endpointOf(listen); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
}

// TestYAMLQuote: YAML gives back what was quoted.
func TestYAMLQuote(t *testing.T) {
	for _, s := range []string{"/plain", "it's", `a "b"`, "a: b # c", "<&>", "tab\t", "é", "\\", "{x}"} {
		quoted, err := yamlQuote(s)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		err = yaml.Unmarshal([]byte(quoted), &got)
		if err != nil || got != s {
			t.Errorf("%q as %s became %q (%v)", s, quoted, got, err)
		}
	}
}

// The health port that nobody chose gives way; one that was chosen, now or before, does not.
func TestDemoHealthPort(t *testing.T) {
	l, err := net.Listen("tcp", DefaultHealthListen)
	if err == nil {
		defer l.Close() // else another program has it, which is as good
	}
	at, err := demoListen(Options{Listen: freeDemoHealth}, nil)
	if err != nil || at.listen == at.health || at.health == DefaultHealthListen {
		t.Errorf("free ports: %+v, %v", at, err)
	}
	first := Options{Listen: at.listen}
	at, err = demoListen(first, nil)
	if err != nil || at.health == DefaultHealthListen ||
		!strings.HasPrefix(at.health, "127.0.0.1:") {
		t.Errorf("with the default taken: %+v, %v", at, err)
	}
	first.PrepareOnly = true
	at, err = demoListen(first, nil)
	if err != nil || at.health != DefaultHealthListen {
		t.Errorf("where nothing is started: %+v, %v", at, err)
	}
	for name, o := range map[string]Options{"asked for": {Listen: first.Listen, Health: DefaultHealthListen}, "as before": {Listen: first.Listen}} {
		_, err := demoListen(o, &xksclient.ConnectionFile{Health: DefaultHealthListen})
		var taken takenError
		if !errors.As(err, &taken) ||
			!strings.Contains(err.Error(), "take a free port with --health-listen 127.0.0.1:0") {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = demoListen(Options{Listen: first.Listen, Health: "8080"}, nil)
	if err == nil ||
		!strings.Contains(err.Error(), `--health-listen "8080" is not of the form ADDRESS:PORT`) {
		t.Errorf("a port alone: %v", err)
	}
}

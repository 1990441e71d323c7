package server

// Which certificate a client gets, and which configurations of certificates are refused.

import (
	"crypto/tls"
	"encoding/pem"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"xks-proxy/internal/certs"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/testkit"
)

func TestCertificateIsChosenByName(t *testing.T) {
	rig := choices(t).start()
	ecdsaOnly := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
	rsaOnly := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}
	for _, one := range []struct {
		name   string
		suites []uint16
		want   string
	}{
		{"xks.example.com", nil, "server"},               // the default's own name comes before the wildcard
		{"something.example.com", nil, "more-wild"},      // a wildcard
		{"deep.something.example.com", nil, "server"},    // of one label
		{"example.com", nil, "server"},                   // exactly one
		{"exact.example.net", nil, "more-exact"},         //
		{"EXACT.Example.NET", nil, "more-exact"},         // in any letter case
		{"other.example.com", nil, "more-ecdsa"},         // of the certificate, too
		{"unknown.example.net", nil, "server"},           //
		{"", nil, "server"},                              // a client that asks for no name
		{"twin.example.com", nil, "more-rsa"},            // the first of those that the client can verify
		{"twin.example.com", rsaOnly, "more-rsa"},        //
		{"twin.example.com", ecdsaOnly, "more-ecdsa"},    //
		{"kms.finance.example.com", nil, "finance"},      // of a key store
		{"new.finance.example.com", nil, "finance-wild"}, // nobody's host
		{"a.health.example.com", nil, "server"},          // another key store's host: never the wildcard of finance
		{"b.health.example.com", nil, "server"},          // nor the very name
		{"c.health.example.com", nil, "finance-wild"},    // nobody's host
		{"own.example.com", nil, "health"},               // before the server's wildcard
		{"shared.example.com", nil, "more-wild"},         // a host of two key stores, for which neither has one
		{strings.Repeat("x", 63) + ".example.com", nil, "more-wild"},
	} {
		for _, version := range versions {
			if version == tls.VersionTLS13 && one.suites != nil {
				continue // there the cipher suite says nothing about the certificate
			}
			config := rig.clientTLS(version)
			config.ServerName, config.CipherSuites, config.InsecureSkipVerify = one.name, one.suites, true
			conn, err := tls.Dial("tcp", rig.address(plainPort), config)
			if err != nil {
				t.Errorf("%s %q: %v", tls.VersionName(version), one.name, err)
				continue
			}
			got := conn.ConnectionState().PeerCertificates
			conn.Close()
			block, _ := pem.Decode([]byte(testkit.ReadFile(t, filepath.Join(rig.dir, one.want+".crt"))))
			if string(got[0].Raw) != string(block.Bytes) {
				t.Errorf("%s %q: the certificate for %s, want %s", tls.VersionName(version), one.name, certs.NamesOf(got[0]), one.want)
			}
			if len(got) != 2 {
				t.Errorf("%s %q: %d certificates: the intermediate is missing", tls.VersionName(version), one.name, len(got))
			}
		}
	}
}

func TestBadCertificates(t *testing.T) {
	for _, c := range badCertificates {
		t.Run(c.name, func(t *testing.T) {
			r := choices(t)
			r.config.KeyStores[0].Hosts = r.config.KeyStores[0].Hosts[:1]
			r.config.KeyStores[1].Hosts = []string{"own.example.com"}
			c.spoil(t, r)
			_, warnings, err := certs.Prepare(r.config)
			switch {
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("error %v, want %q", err, c.err)
			case c.err == "" && err != nil:
				t.Errorf("error %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "PRIVATE") {
				t.Errorf("the error quotes a key: %v", err)
			}
			if c.err == "" && c.warns == "" && len(warnings) > 0 {
				t.Errorf("warnings %v", warnings)
			}
			said := slices.ContainsFunc(warnings, func(w schema.Warning) bool { return strings.Contains(w.String(), c.warns) })
			if c.warns != "" && !said {
				t.Errorf("warnings %v, want %q", warnings, c.warns)
			}
		})
	}
}

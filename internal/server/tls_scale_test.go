package server

// A thousand key stores, each with a host name and a certificate.

import (
	"crypto/tls"
	"fmt"
	"testing"
	"time"

	"xks-proxy/internal/config"
	"xks-proxy/internal/testkit"
)

func TestThousandCertificates(t *testing.T) {
	const stores = 1000
	r := newTLSRig(t)
	key := testkit.NewECDSA(t)
	for i := range stores {
		name := fmt.Sprintf("tenant-%d.xks.example.com", i)
		r.config.KeyStores = append(r.config.KeyStores, config.KeyStore{
			Name: fmt.Sprint("tenant-", i), Hosts: []string{name}, Certificates: []config.CertificateFiles{r.pair(fmt.Sprint("tenant-", i), r.serverCA.ForServer(t, key, name))},
		})
	}
	start := time.Now()
	m := r.prepare()
	t.Logf("prepared in %s", time.Since(start))
	r.start()
	for _, i := range []int{0, 499, 999} {
		config := r.clientTLS(tls.VersionTLS13)
		config.ServerName = fmt.Sprintf("tenant-%d.xks.example.com", i)
		_, err := r.get(plainPort, config)
		if err != nil {
			t.Error(err)
		}
	}
	hello := &tls.ClientHelloInfo{
		ServerName: "tenant-500.xks.example.com", SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		SupportedCurves: []tls.CurveID{tls.CurveP256},
	}
	const choices = 10000
	start = time.Now()
	for range choices {
		if m.Choose(hello, start).Leaf.DNSNames[0] != hello.ServerName {
			t.Fatal("another tenant's certificate")
		}
	}
	t.Logf("a choice takes %s", time.Since(start)/choices)
}

package server

// mTLS (requirement A7): who is let in and who is refused, over real connections, on TLS 1.2 and
// 1.3; that no request of one who is refused is served; that each refusal is counted under its reason.

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/certs"
	"xks-proxy/internal/config"
	"xks-proxy/internal/testkit"
)

// clientCase is a client at the port that asks for certificates.
type clientCase struct {
	name    string
	shows   func(t *testing.T, r *tlsRig) *testkit.Issued // nil: none
	usages  []string                                      // that the port accepts; nil: clientAuth
	refused certs.RefusalReason                           // "": let in
}

func client(name string, edit func(*x509.Certificate)) func(*testing.T, *tlsRig) *testkit.Issued {
	return func(t *testing.T, r *tlsRig) *testkit.Issued { return r.clientCA.ForClient(t, name, edit) }
}

func withUsage(usage ...x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtKeyUsage = usage }
}

var clientCases = []clientCase{
	{"the subject of AWS KMS", client(kmsSubject, nil), nil, ""},
	{"another subject that is configured", client("cks.kms.us-east-1.amazonaws.com", nil), nil, ""},
	{"by an intermediate CA", func(t *testing.T, r *tlsRig) *testkit.Issued {
		intermediate := testkit.Issue(t, r.clientCA, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "intermediate"}, KeyUsage: x509.KeyUsageCertSign, IsCA: true})
		leaf := intermediate.ForClient(t, kmsSubject, nil)
		return leaf
	}, nil, ""},
	{"no extended key usage at all", client(kmsSubject, withUsage()), nil, ""},
	{"for servers, where that is accepted", client(kmsSubject, withUsage(x509.ExtKeyUsageServerAuth)), []string{"clientAuth", "serverAuth"}, ""},
	{"for code, where any is accepted", client(kmsSubject, withUsage(x509.ExtKeyUsageCodeSigning)), []string{"any"}, ""},

	{"none", nil, nil, certs.RefusedAbsent},
	{"another region", client("cks.kms.eu-west-1.amazonaws.com", nil), nil, certs.RefusedSubject},
	{"another letter case", client("CKS.kms.eu-central-1.amazonaws.com", nil), nil, certs.RefusedSubject},
	{"more after the subject", client(kmsSubject+".example.com", nil), nil, certs.RefusedSubject},
	{"a space after the subject", client(kmsSubject+" ", nil), nil, certs.RefusedSubject},
	{"a NUL after the subject", client(kmsSubject+"\x00.example.com", nil), nil, certs.RefusedSubject},
	{"no subject", client("", nil), nil, certs.RefusedSubject},
	{"the subject as a DNS name only", client("other", func(c *x509.Certificate) { c.DNSNames = []string{kmsSubject} }), nil, certs.RefusedSubject},
	{"the subject as an organization", client("other", func(c *x509.Certificate) { c.Subject.Organization = []string{kmsSubject} }), nil, certs.RefusedSubject},
	{"two CNs", client("", func(c *x509.Certificate) {
		c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: certs.CommonNameOID, Value: "other"}, {Type: certs.CommonNameOID, Value: kmsSubject}}
	}), nil, certs.RefusedSubject},
	{"expired", client(kmsSubject, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), nil, certs.RefusedExpired},
	{"not yet valid", client(kmsSubject, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), nil, certs.RefusedTooEarly},
	{"another CA", func(t *testing.T, _ *tlsRig) *testkit.Issued {
		return testkit.NewCA(t, "elsewhere").ForClient(t, kmsSubject, nil)
	}, nil, certs.RefusedCA},
	{"another CA of the same name", func(t *testing.T, _ *tlsRig) *testkit.Issued {
		return testkit.NewCA(t, "client CA").ForClient(t, kmsSubject, nil)
	}, nil, certs.RefusedCA},
	{"signed by itself", func(t *testing.T, _ *tlsRig) *testkit.Issued {
		return testkit.Issue(t, nil, nil, &x509.Certificate{Subject: pkix.Name{CommonName: kmsSubject}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	}, nil, certs.RefusedCA},
	{"signed by a client, who is no CA", func(t *testing.T, r *tlsRig) *testkit.Issued {
		return r.clientCA.ForClient(t, kmsSubject, nil).ForClient(t, kmsSubject, nil)
	}, nil, certs.RefusedCA},
	{"for servers", client(kmsSubject, withUsage(x509.ExtKeyUsageServerAuth)), nil, certs.RefusedUsage},
	{"for clients, where servers are accepted", client(kmsSubject, nil), []string{"serverAuth"}, certs.RefusedUsage},
	{"the right certificate without its key", func(t *testing.T, r *tlsRig) *testkit.Issued {
		right := r.clientCA.ForClient(t, kmsSubject, nil)
		right.Key = testkit.NewECDSA(t)
		return right
	}, nil, certs.RefusedUnproven},
}

func TestClientCertificates(t *testing.T) {
	rig := newTLSRig(t).start()
	port := &rig.config.Server.Listeners[0].ClientCertificates
	for _, version := range versions {
		for _, c := range clientCases {
			t.Run(tls.VersionName(version)+"/"+c.name, func(t *testing.T) {
				port.Usages = []string{"clientAuth"}
				if c.usages != nil {
					port.Usages = c.usages
				}
				rig.Reload()
				config := rig.clientTLS(version)
				if c.shows != nil {
					presents(config, c.shows(t, rig))
				}
				served, counted := rig.served.Load(), map[certs.RefusalReason]int64{}
				for _, reason := range certs.RefusalReasons {
					counted[reason] = rig.refused(reason)
				}
				state, err := rig.get(mutualPort, config)
				if c.refused == "" {
					if err != nil || state.Version != version || rig.served.Load() != served+1 {
						t.Fatalf("%v, %s, %d requests served", err, tls.VersionName(state.Version), rig.served.Load()-served)
					}
					return
				}
				// An alert, or over 1.3, where the client sends its request before it can know, perhaps a connection broken off.
				var broken *net.OpError
				if !errors.As(err, &broken) && (err == nil || !strings.Contains(err.Error(), "EOF")) {
					t.Errorf("the client sees %v", err)
				}
				testkit.Eventually(t, "a refusal counted as "+string(c.refused), func() bool { return rig.refused(c.refused) > counted[c.refused] })
				counted[c.refused]++
				for _, reason := range certs.RefusalReasons {
					if got := rig.refused(reason); got != counted[reason] {
						t.Errorf("%s: %d, want %d", reason, got, counted[reason])
					}
				}
				if n := rig.served.Load() - served; n != 0 {
					t.Errorf("%d requests served", n)
				}
				// The port beside it asks for nothing (requirement H5).
				state, err = rig.get(plainPort, config)
				if err != nil || state.Version != version {
					t.Errorf("the other port: %v", err)
				}
			})
		}
	}
}

// Clients that choose by the CAs that the server names find theirs; without any they choose for themselves.
func TestClientsLearnTheCAs(t *testing.T) {
	rig := newTLSRig(t).start()
	var asked *tls.CertificateRequestInfo
	for _, many := range []bool{false, true} {
		if many {
			cas := []*testkit.Issued{rig.clientCA}
			for range 20 {
				cas = append(cas, testkit.NewCA(t, strings.Repeat("a long name ", 90)))
			}
			rig.bundle("clients.pem", cas...)
			rig.Reload()
		}
		for _, version := range versions {
			config := rig.clientTLS(version)
			config.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
				asked = info
				chain := rig.clientCA.ForClient(t, kmsSubject, nil).ForTLS()
				return &chain, nil
			}
			_, err := rig.get(mutualPort, config)
			if err != nil {
				t.Fatal(err)
			}
			named := len(asked.AcceptableCAs) == 1 && string(asked.AcceptableCAs[0]) == string(rig.clientCA.RawSubject)
			if named == many {
				t.Errorf("%s, many CAs %t: the server names %d CAs", tls.VersionName(version), many, len(asked.AcceptableCAs))
			}
		}
	}
}

// Turning mTLS on and off takes effect for the next connection; those that stand live on.
func TestMutualTLSIsTurnedOnAndOff(t *testing.T) {
	rig := newTLSRig(t).start()
	stands, done := rig.client(plainPort, rig.clientTLS(tls.VersionTLS13))
	defer done()
	_, err := getLive(stands)
	if err != nil {
		t.Fatal(err)
	}
	rig.config.Server.ClientCertificates = config.ClientCertificates{CA: filepath.Join(rig.dir, "clients.pem"), Subjects: []string{kmsSubject}, Usages: []string{"clientAuth"}}
	rig.config.Server.Listeners[0].ClientCertificates = config.ClientCertificates{}
	rig.Reload()
	for _, version := range versions {
		_, err = rig.get(plainPort, rig.clientTLS(version))
		if err == nil {
			t.Errorf("%s: the port that asks for certificates now lets in who has none", tls.VersionName(version))
		}
		_, err = rig.get(plainPort, presents(rig.clientTLS(version), rig.clientCA.ForClient(t, kmsSubject, nil)))
		if err != nil {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		_, err = rig.get(mutualPort, rig.clientTLS(version))
		if err != nil {
			t.Errorf("%s: the port that asks for none any more: %v", tls.VersionName(version), err)
		}
	}
	_, err = getLive(stands)
	if err != nil {
		t.Errorf("the connection that stood: %v", err)
	}
	// A port that the configuration has lost is open until the next start; its rule stands.
	rig.config.Server.Listeners[0].ClientCertificates = rig.config.Server.ClientCertificates
	rig.Reload()
	rig.config.Server.Listeners = nil
	rig.Reload()
	_, err = rig.get(mutualPort, rig.clientTLS(tls.VersionTLS13))
	if err == nil {
		t.Error("a port that is not in the configuration any more has lost its rule")
	}
	_, err = rig.holder.Config("never heard of").GetConfigForClient(nil)
	if !errors.Is(err, certs.ErrNoPort) {
		t.Errorf("a port without a rule: %v", err)
	}
}

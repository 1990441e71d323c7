package server

// Session resumption (requirement U15) with reloads between, on TLS 1.2 and 1.3: it goes on when a
// certificate is renewed, and lets nobody in who would not be let in without.

import (
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	"xks-proxy/internal/certs"
	"xks-proxy/internal/config"
	"xks-proxy/internal/testkit"
)

// resuming is a client that keeps its sessions.
func (r *tlsRig) resuming(version uint16, shows *testkit.Issued) *tls.Config {
	config := r.clientTLS(version)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(16)
	if shows != nil {
		presents(config, shows)
	}
	return config
}

// connects wants to be let in, with or without an earlier session.
func (r *tlsRig) connects(port string, config *tls.Config, resumes bool) {
	r.t.Helper()
	state, err := r.get(port, config)
	if err != nil {
		r.t.Fatalf("%s: %v", tls.VersionName(config.MinVersion), err)
	}
	if state.DidResume != resumes {
		r.t.Errorf("%s: resumed: %t", tls.VersionName(state.Version), state.DidResume)
	}
}

// isRefused wants not to be let in, and to have no request served.
func (r *tlsRig) isRefused(port string, config *tls.Config, reason certs.RefusalReason) {
	r.t.Helper()
	served, refused := r.served.Load(), r.refused(reason)
	_, err := r.get(port, config)
	if err == nil {
		r.t.Errorf("%s: let in", tls.VersionName(config.MinVersion))
	}
	testkit.Eventually(r.t, "a refusal counted as "+string(reason), func() bool { return r.refused(reason) > refused })
	if n := r.served.Load() - served; n != 0 {
		r.t.Errorf("%s: %d requests served", tls.VersionName(config.MinVersion), n)
	}
}

func overVersions(t *testing.T, check func(t *testing.T, r *tlsRig, version uint16)) {
	t.Helper()
	for _, version := range versions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			check(t, newTLSRig(t).start(), version)
		})
	}
}

func TestSessionsSurviveAReload(t *testing.T) {
	overVersions(t, func(t *testing.T, r *tlsRig, version uint16) {
		shows := r.clientCA.ForClient(t, kmsSubject, nil)
		plain, mutual := r.resuming(version, nil), r.resuming(version, shows)
		r.connects(plainPort, plain, false)
		r.connects(mutualPort, mutual, false)
		r.pair("server", r.serverCA.ForServer(t, nil, "xks.example.com")) // a key of another kind would end those of TLS 1.2, whose cipher suite names it
		r.bundle("clients.pem", testkit.NewCA(t, "a further CA"), r.clientCA)
		r.Reload()
		r.connects(plainPort, plain, true)
		r.connects(mutualPort, mutual, true)
	})
}

// The CA is taken out of the bundle: neither a session nor a new handshake gets in.
func TestSessionEndsWithItsCA(t *testing.T) {
	overVersions(t, func(t *testing.T, r *tlsRig, version uint16) {
		config := r.resuming(version, r.clientCA.ForClient(t, kmsSubject, nil))
		r.connects(mutualPort, config, false)
		r.connects(mutualPort, config, true)
		r.bundle("clients.pem", testkit.NewCA(t, "another CA"))
		r.Reload()
		r.isRefused(mutualPort, config, certs.RefusedCA)
		r.isRefused(mutualPort, config, certs.RefusedCA)
		r.bundle("clients.pem", r.clientCA)
		r.Reload()
		_, err := r.get(mutualPort, config)
		if err != nil {
			t.Errorf("the CA is back: %v", err)
		}
	})
}

func TestSessionEndsWithItsSubject(t *testing.T) {
	endsWithTheRule(t, certs.RefusedSubject, func(rule *config.ClientCertificates) {
		rule.Subjects = []string{"somebody else"}
	})
}

func TestSessionEndsWithItsUsage(t *testing.T) {
	endsWithTheRule(t, certs.RefusedUsage, func(rule *config.ClientCertificates) {
		rule.Usages = []string{"serverAuth"}
	})
}

// endsWithTheRule wants a session refused for reason after a reload that changed the port's rule.
func endsWithTheRule(
	t *testing.T, reason certs.RefusalReason, change func(*config.ClientCertificates),
) {
	t.Helper()
	overVersions(t, func(t *testing.T, r *tlsRig, version uint16) {
		client := r.resuming(version, r.clientCA.ForClient(t, kmsSubject, nil))
		r.connects(mutualPort, client, false)
		change(&r.config.Server.Listeners[0].ClientCertificates)
		r.Reload()
		r.isRefused(mutualPort, client, reason)
	})
}

func TestSessionEndsWithItsCertificate(t *testing.T) {
	overVersions(t, func(t *testing.T, r *tlsRig, version uint16) {
		config := r.resuming(version, r.clientCA.ForClient(t, kmsSubject, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Hour) }))
		r.connects(mutualPort, config, false)
		r.connects(mutualPort, config, true)
		r.ahead.Store(int64(2 * time.Hour)) // the server's clock
		r.isRefused(mutualPort, config, certs.RefusedExpired)
	})
}

// A session that began without a client certificate is refused where one is required by now, nor on
// another port, and the other way round.
func TestSessionsDoNotCross(t *testing.T) {
	overVersions(t, func(t *testing.T, r *tlsRig, version uint16) {
		shows := r.clientCA.ForClient(t, kmsSubject, nil)
		// Between ports.
		plain := r.resuming(version, nil)
		r.connects(plainPort, plain, false)
		r.isRefused(mutualPort, plain, certs.RefusedAbsent)
		both := r.resuming(version, shows)
		r.connects(plainPort, both, false)
		r.connects(mutualPort, both, false)
		r.connects(mutualPort, both, true)
		r.connects(plainPort, both, false)
		// On one port, where mTLS is turned on and off.
		plain, both = r.resuming(version, nil), r.resuming(version, shows)
		r.connects(plainPort, plain, false)
		r.connects(plainPort, plain, true)
		r.connects(plainPort, both, false)
		r.config.Server.ClientCertificates = config.ClientCertificates{CA: filepath.Join(r.dir, "clients.pem"), Subjects: []string{kmsSubject}, Usages: []string{"clientAuth"}}
		r.Reload()
		r.isRefused(plainPort, plain, certs.RefusedAbsent)
		r.connects(plainPort, both, false) // its session had no certificate
		r.connects(plainPort, both, true)
		r.config.Server.ClientCertificates = config.ClientCertificates{}
		r.Reload()
		r.connects(plainPort, both, false)
	})
}

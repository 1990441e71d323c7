package main

// The TLS side of the running proxy: it serves under what is in use now, and takes something
// else while connections come and go.

import (
	"crypto/tls"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// tlsHolder is made once; what it serves under is replaced by use.
type tlsHolder struct {
	log        *zap.Logger
	protocols  []string // of ALPN; fixed, because http.Server is
	handshakes *handshakes
	now        func() time.Time // another in tests
	changed    chan struct{}    // wakes watchValidity

	mu      sync.Mutex // of use
	current atomic.Pointer[tlsInForce]
}

// tlsInForce is immutable.
type tlsInForce struct {
	*tlsMaterial
	rules   map[string]*clientRule // those of the material, and of ports that it does not have any more
	configs map[string]*tls.Config // by address of the listener
}

// newTLSHolder has nothing to serve under before use. strangers is the log for lines that anyone can
// cause (strangerLog.logger).
func newTLSHolder(http2 bool, log *zap.Logger, strangers func(reason string) *zap.Logger) *tlsHolder {
	t := &tlsHolder{
		log: log, protocols: []string{"http/1.1"}, handshakes: newHandshakes(log, strangers),
		now: time.Now, changed: make(chan struct{}, 1),
	}
	if http2 {
		t.protocols = []string{"h2", "http/1.1"}
	}
	return t
}

// refuses says why a reload must not use m: it has a certificate that has expired or is not valid yet
// and is not the one in use, so that what still works would be replaced by what does not. At start there is nothing
// better: then such certificates are served, and the log has an error.
func (t *tlsHolder) refuses(m *tlsMaterial) error {
	r := newReport(m.source)
	for _, c := range m.certificates {
		says, how := validity(c.Leaf, t.now())
		if how == unusable && !t.serves(c) {
			r.errorf(c.path+".certificate", "%s %s", c.file, says)
		}
	}
	return r.err()
}

// serves is true if this very certificate is in use already.
func (t *tlsHolder) serves(c *serverCertificate) bool {
	now := t.current.Load()
	return now != nil && slices.ContainsFunc(now.certificates, func(old *serverCertificate) bool {
		return old.keyStore == c.keyStore && old.Leaf.Equal(c.Leaf)
	})
}

// renewals are the certificates of m that stand in a file whose certificate in use is another: what a comparison of two
// configurations does not show.
func (t *tlsHolder) renewals(m *tlsMaterial) []configChange {
	inForce := map[string]*serverCertificate{}
	for _, c := range t.current.Load().certificates {
		inForce[c.file] = c
	}
	var changes []configChange
	for _, c := range m.certificates {
		if old := inForce[c.file]; old != nil && !old.Leaf.Equal(c.Leaf) {
			changes = append(changes, configChange{Key: c.path + ".certificate", Kind: changed,
				Old: "until " + old.Leaf.NotAfter.UTC().Format(time.DateOnly), New: "until " + c.Leaf.NotAfter.UTC().Format(time.DateOnly)})
		}
	}
	return changes
}

// use has handshakes that begin from now on use m. Connections that stand live on. A port
// that m does not have keeps its rule about clients: ports are closed at the next start only.
func (t *tlsHolder) use(m *tlsMaterial) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := &tlsInForce{tlsMaterial: m, rules: map[string]*clientRule{}, configs: map[string]*tls.Config{}}
	if old := t.current.Load(); old != nil {
		for address, rule := range old.rules {
			next.rules[address] = rule
		}
	}
	for address, rule := range m.rules {
		next.rules[address] = rule
	}
	for address, rule := range next.rules {
		next.configs[address] = t.handshake(m, rule)
	}
	for _, c := range m.certificates {
		if !t.serves(c) {
			t.log.Info("certificate", zap.String("key_store", c.keyStore), zap.String("file", c.file),
				zap.String("names", namesOf(c.Leaf)), zap.Time("not_after", c.Leaf.NotAfter))
		}
	}
	t.current.Store(next)
	select {
	case t.changed <- struct{}{}:
	default: // it is awake already
	}
}

var errNoPort = errors.New("the configuration does not have this port")

// config is for the listener with this address, once. Session tickets are sealed with keys of this
// tls.Config, which crypto/tls changes every day, and not of those that stand behind it: they survive a reload, and none is good on another port.
func (t *tlsHolder) config(address string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: t.protocols,
		Time:       t.now,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c := t.current.Load().configs[address]
			if c == nil {
				return nil, errNoPort // or else the empty one would do, which asks nobody for a certificate
			}
			return c, nil
		},
	}
}

// handshake is what crypto/tls works with while m is in use: requirement U8 and, with a rule, A7.
// The AES-128 suites are there because net/http refuses to offer HTTP/2 without one.
//
// A session that began without a client certificate is not resumed where one is required; crypto/tls sees to that.
func (t *tlsHolder) handshake(m *tlsMaterial, rule *clientRule) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: t.protocols,
		Time:       t.now,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return m.choose(hello, t.now()), nil
		},
	}
	if rule != nil {
		c.ClientAuth = tls.RequireAnyClientCert // verify does the rest, also when a session is resumed
		c.ClientCAs = rule.named
		c.VerifyConnection = func(state tls.ConnectionState) error { return rule.verify(state, t.now()) }
	}
	return c
}

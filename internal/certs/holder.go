package certs

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

	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
)

// Holder is made once; what it serves under is replaced by use.
type Holder struct {
	log        *zap.Logger
	protocols  []string // of ALPN; fixed, because http.Server is
	Handshakes *Handshakes
	Now        func() time.Time // another in tests
	changed    chan struct{}    // wakes watchValidity

	mu      sync.Mutex // of use
	Current atomic.Pointer[inUse]
}

// inUse is immutable.
type inUse struct {
	*Material
	// those of the material, and of ports that it does not have any more
	Rules   map[string]*ClientRule
	configs map[string]*tls.Config // by address of the listener
}

// NewHolder has nothing to serve under before use. strangers is the log for lines that anyone can
// cause (strangerLog.logger).
func NewHolder(http2 bool, log *zap.Logger, strangers func(reason string) *zap.Logger) *Holder {
	t := &Holder{
		log: log, protocols: []string{"http/1.1"}, Handshakes: newHandshakes(log, strangers),
		Now: time.Now, changed: make(chan struct{}, 1),
	}
	if http2 {
		t.protocols = []string{"h2", "http/1.1"}
	}
	return t
}

// Refuses says why a reload must not use m: it has a certificate that has expired or is not valid
// yet and is not the one in use, so that what still works would be replaced by what does not. At
// start there is nothing better: then such certificates are served, and the log has an error.
func (t *Holder) Refuses(m *Material) error {
	r := schema.NewReport(m.source)
	for _, c := range m.Certificates {
		says, how := validity(c.Leaf, t.Now())
		if how == Unusable && !t.serves(c) {
			r.Errorf(c.path+".certificate", "%s %s", c.file, says)
		}
	}
	return r.Err()
}

// serves is true if this very certificate is in use already.
func (t *Holder) serves(c *ServerCertificate) bool {
	now := t.Current.Load()
	return now != nil && slices.ContainsFunc(now.Certificates, func(old *ServerCertificate) bool {
		return old.KeyStore == c.KeyStore && old.Leaf.Equal(c.Leaf)
	})
}

// Renewals are the certificates of m that stand in a file whose certificate in use is another: what
// a comparison of two configurations does not show.
func (t *Holder) Renewals(m *Material) []config.Change {
	inForce := map[string]*ServerCertificate{}
	for _, c := range t.Current.Load().Certificates {
		inForce[c.file] = c
	}
	var changes []config.Change
	for _, c := range m.Certificates {
		if old := inForce[c.file]; old != nil && !old.Leaf.Equal(c.Leaf) {
			changes = append(changes, config.Change{
				Key: c.path + ".certificate", Kind: config.Changed,
				Old: "until " + old.Leaf.NotAfter.UTC().Format(time.DateOnly),
				New: "until " + c.Leaf.NotAfter.UTC().Format(time.DateOnly),
			})
		}
	}
	return changes
}

// Use has handshakes that begin from now on use m. Connections that stand live on. A port
// that m does not have keeps its rule about clients: ports are closed at the next start only.
func (t *Holder) Use(m *Material) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := &inUse{Material: m, Rules: map[string]*ClientRule{}, configs: map[string]*tls.Config{}}
	if old := t.Current.Load(); old != nil {
		for address, rule := range old.Rules {
			next.Rules[address] = rule
		}
	}
	for address, rule := range m.Rules {
		next.Rules[address] = rule
	}
	for address, rule := range next.Rules {
		next.configs[address] = t.handshake(m, rule)
	}
	for _, c := range m.Certificates {
		if !t.serves(c) {
			t.log.Info(
				"certificate", zap.String("key_store", c.KeyStore), zap.String("file", c.file),
				zap.String("names", NamesOf(c.Leaf)), zap.Time("not_after", c.Leaf.NotAfter),
			)
		}
	}
	t.Current.Store(next)
	select {
	case t.changed <- struct{}{}:
	default: // it is awake already
	}
}

var ErrNoPort = errors.New("the configuration does not have this port")

// Config is for the listener with this address, once. Session tickets are sealed with keys of this
// tls.Config, which crypto/tls changes every day, and not of those that stand behind it: they
// survive a reload, and none is good on another port.
func (t *Holder) Config(address string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: t.protocols,
		Time:       t.Now,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c := t.Current.Load().configs[address]
			if c == nil {
				// or else the empty one would do, which asks nobody for a certificate
				return nil, ErrNoPort
			}
			return c, nil
		},
	}
}

// handshake is what crypto/tls works with while m is in use: requirement U8 and, with a rule, A7.
// The AES-128 suites are there because net/http refuses to offer HTTP/2 without one.
//
// A session that began without a client certificate is not resumed where one is required;
// crypto/tls sees to that.
func (t *Holder) handshake(m *Material, rule *ClientRule) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: t.protocols,
		Time:       t.Now,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return m.Choose(hello, t.Now()), nil
		},
	}
	if rule != nil {
		// verify does the rest, also when a session is resumed
		c.ClientAuth = tls.RequireAnyClientCert
		c.ClientCAs = rule.named
		c.VerifyConnection = func(state tls.ConnectionState) error {
			return rule.verify(state, t.Now())
		}
	}
	return c
}

package certs

// The TLS side of the running proxy: the certificates and client rules in use, which a reload
// replaces while connections come and go.

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

// Holder has the certificates in use. It is made once; Use replaces what it holds.
type Holder struct {
	log        *zap.Logger
	protocols  []string // of ALPN; fixed, because http.Server is
	Handshakes *Handshakes
	now        func() time.Time
	changed    chan struct{} // wakes WatchValidity

	mu      sync.Mutex            // held by Use
	Current atomic.Pointer[inUse] // nil before the first Use
}

// inUse is a Material in use, with what crypto/tls needs of it. It is immutable.
type inUse struct {
	*Material
	// those of the material, and of ports that it does not have any more
	Rules   map[string]*ClientRule
	configs map[string]*tls.Config // by address of the listener
}

// NewHolder returns a Holder without certificates: Use gives it some. strangers returns the log for
// a line that anyone can cause, or nil if that line is only counted (logging.Strangers.Logger). now
// is the clock: time.Now, or another in tests.
func NewHolder(
	http2 bool,
	log *zap.Logger,
	strangers func(reason string) *zap.Logger,
	now func() time.Time,
) *Holder {
	t := &Holder{
		log: log, protocols: []string{"http/1.1"}, Handshakes: newHandshakes(log, strangers),
		now: now, changed: make(chan struct{}, 1),
	}
	if http2 {
		t.protocols = []string{"h2", "http/1.1"}
	}
	return t
}

// Refuses returns an error if a reload must not use m, because a certificate of m is not valid now
// and is not in use already: it would replace a certificate that works. The start has nothing
// better, so it serves such a certificate and logs an error. The error is a *schema.Error.
func (t *Holder) Refuses(m *Material) error {
	r := schema.NewReport(m.source)
	for _, c := range m.Certificates {
		says, how := validity(c.Leaf, t.now())
		if how == Unusable && !t.serves(c) {
			r.Errorf(c.path+".certificate", "%s %s", c.file, says)
		}
	}
	return r.Err()
}

// serves reports whether this very certificate is in use already.
func (t *Holder) serves(c *ServerCertificate) bool {
	now := t.Current.Load()
	return now != nil && slices.ContainsFunc(now.Certificates, func(old *ServerCertificate) bool {
		return old.KeyStore == c.KeyStore && old.Leaf.Equal(c.Leaf)
	})
}

// Renewals lists the files of m that have another certificate than the one in use. A comparison of
// two configurations does not show them.
func (t *Holder) Renewals(m *Material) []config.Change {
	current := map[string]*ServerCertificate{}
	for _, c := range t.Current.Load().Certificates {
		current[c.file] = c
	}
	var changes []config.Change
	for _, c := range m.Certificates {
		if old := current[c.file]; old != nil && !old.Leaf.Equal(c.Leaf) {
			changes = append(changes, config.Change{
				Key: c.path + ".certificate", Kind: config.Changed,
				Old: "until " + old.Leaf.NotAfter.UTC().Format(time.DateOnly),
				New: "until " + c.Leaf.NotAfter.UTC().Format(time.DateOnly),
			})
		}
	}
	return changes
}

// Use makes new handshakes use m. Established connections continue. A port that m does not have
// keeps its rule about client certificates, because ports are closed at the next start only.
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

// ErrNoPort fails a handshake on a port without configuration.
var ErrNoPort = errors.New("the configuration does not have this port")

// Config returns the tls.Config of the listener with this address; call it once for each. Session
// tickets are sealed with keys of this tls.Config, which crypto/tls changes every day, not with
// keys of the one that it chooses for a client. So tickets survive a reload, and are not valid on
// another port.
func (t *Holder) Config(address string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: t.protocols,
		Time:       t.now,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c := t.Current.Load().configs[address]
			if c == nil {
				// An empty one would ask nobody for a certificate.
				return nil, ErrNoPort
			}
			return c, nil
		},
	}
}

// handshake returns the tls.Config while m is in use: requirement U8 and, with a rule, A7.
// The AES-128 suites are there because net/http refuses to offer HTTP/2 without one.
//
// A session that began without a client certificate is not resumed where one is required;
// crypto/tls sees to that.
func (t *Holder) handshake(m *Material, rule *ClientRule) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: t.protocols,
		Time:       t.now,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return m.Choose(hello, t.now()), nil
		},
	}
	if rule != nil {
		// verify does the rest, also when a session is resumed
		c.ClientAuth = tls.RequireAnyClientCert
		c.ClientCAs = rule.named
		c.VerifyConnection = func(state tls.ConnectionState) error {
			return rule.verify(state, t.now())
		}
	}
	return c
}

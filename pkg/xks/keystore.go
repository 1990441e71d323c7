package xks

// Key stores at run time: which keys each one reaches, and who may ask.

import (
	"context"
	"path"
	"slices"
	"strings"

	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/sigv4"
)

// keyStore is one key store. It is immutable except for usage and load, which continue those of the
// key store with the same name before a reload.
type keyStore struct {
	name     string
	uriPath  string
	hosts    []string // none: any
	verifier *sigv4.Verifier
	group    *group.Group
	blocked  bool

	policies *authz.Policies // nil: none
	mode     authz.Mode
	owner    string

	verifyOnSame bool // see KeyStoreConfig

	accessKeyIDs  []string // in the order of the configuration
	rate, keyRate rateLimit
	maxInFlight   int64 // 0: no limit of its own
	shared        bool  // there are other key stores
	usage         *usage
	load          *storeLoad

	labels   map[string]bool // patterns without wildcards: looked up, however many there are
	patterns []string
	before   string // of the label template
	after    string
	disabled map[string]bool // external key ids
}

func newKeyStore(c KeyStoreConfig) (*keyStore, error) {
	verifier, err := sigv4.New(
		sigv4.Config{Service: Service, Regions: c.Regions, Credentials: c.Credentials},
	)
	if err != nil {
		return nil, err
	}
	setDefault(&c.Label, KeyIDPlaceholder)
	s := &keyStore{
		name: c.Name, verifier: verifier, group: c.Group, blocked: c.Blocked,
		verifyOnSame: c.VerifyOnSame, policies: c.Policies, mode: c.PolicyMode, owner: c.Owner,
		uriPath: URIPath(c.PathPrefix), hosts: slices.Clone(c.Hosts),
		rate:        newRateLimit(c.Quota.Rate, c.Quota.Burst),
		keyRate:     newRateLimit(c.Quota.KeyRate, c.Quota.KeyBurst),
		maxInFlight: int64(c.Quota.MaxInFlight), usage: new(usage), labels: map[string]bool{},
		disabled: map[string]bool{},
	}
	s.before, s.after, _ = strings.Cut(c.Label, KeyIDPlaceholder)
	for _, pattern := range c.Labels {
		if strings.ContainsAny(pattern, `*?[\`) {
			s.patterns = append(s.patterns, pattern)
		} else {
			s.labels[pattern] = true
		}
	}
	for _, id := range c.Disabled {
		s.disabled[id] = true
	}
	for _, credential := range c.Credentials {
		s.accessKeyIDs = append(s.accessKeyIDs, credential.AccessKeyID)
	}
	return s, nil
}

// servedAt reports whether the key store is served under this Host or :authority. Letter case and
// port do not matter. A trailing dot makes a different name.
func (s *keyStore) servedAt(host string) bool {
	if len(s.hosts) == 0 {
		return true
	}
	name := withoutPort(host)
	for _, served := range s.hosts {
		// Equal lengths: letters outside ASCII that fold to ASCII are longer.
		if len(name) == len(served) && strings.EqualFold(name, served) {
			return true
		}
	}
	return false
}

// withoutPort removes a port of digits. It returns a host with anything else after the colon
// unchanged: no configured name matches that.
func withoutPort(host string) string {
	colon := strings.LastIndexByte(host, ':')
	if colon < 0 {
		return host
	}
	for _, c := range []byte(host[colon+1:]) {
		if c < '0' || c > '9' {
			return host
		}
	}
	return host[:colon]
}

// label returns the CKA_LABEL of an external key id, and false if this key store does not reach it,
// whatever the HSMs hold.
func (s *keyStore) label(keyID string) (string, bool) {
	if !IsKeyID(keyID) {
		return "", false
	}
	label := s.before + keyID + s.after
	if label == s.group.TestKey() {
		return "", false // the proxy's own (requirement H2)
	}
	if s.labels[label] {
		return label, true
	}
	for _, pattern := range s.patterns {
		if matched, _ := path.Match(pattern, label); matched {
			return label, true
		}
	}
	return "", false
}

// key returns the key of an external key id. The error is errNoSuchKey if the key store does not
// reach it, or one of group.Resolver.Key.
func (s *keyStore) key(ctx context.Context, keyID string) (*catalogue.Key, error) {
	label, ok := s.label(keyID)
	if !ok {
		return nil, errNoSuchKey
	}
	return s.load.resolver.Key(ctx, label)
}

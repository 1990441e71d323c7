// Package xks implements the AWS KMS External Key Store Proxy API, version 1: the router, the life
// of one request, the four operations, their wire types and errors, and the key stores.
//
// Requirement numbers (U1, A8, …) are those of docs/conformance.md.
package xks

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/sigv4"
)

// Service is the service name in the SigV4 credential scope (requirement A1).
const Service = sigv4.DefaultService

// Config is what a Handler serves and within which limits. A zero value means the default.
type Config struct {
	Budget time.Duration // for one request, from its first byte; default 200 ms (U13)
	// for the first request of a connection, from accept; default 180 ms (U13)
	FirstRequestBudget time.Duration

	MaxBody int // bytes of a request body; default 131072, at least 65536 (U9)
	MaxData int // bytes of plaintext or ciphertext; default 8192, at least 4300 (U9)
	// bytes of additionalAuthenticatedData; default and at most 65535, at least 8192 (U9, E3)
	MaxAAD int
	// authenticated requests at once, beyond which they are shed (R3); default 1024
	MaxInFlight int
	MaxBodies   int64 // bytes of all request bodies in memory at once (R3); default 256 MiB

	FleetSize int    // xksProxyFleetSize; default 1 (H1)
	Vendor    string // xksProxyVendor; default "xks-proxy"
	Model     string // xksProxyModel: product and version; default "xks-proxy"

	// MaxQueueTime is how long a request may have waited for the proxy when its work begins, and
	// how long it may wait for a session of an HSM. A request that exceeds it is shed (R3). With
	// several key stores, the second half of the wait for a session, and of MaxInFlight, is for key
	// stores within their fair share of the requests in flight. Default 100 ms.
	MaxQueueTime time.Duration

	KeyStores []KeyStoreConfig
	Log       *zap.Logger

	// UnauthenticatedLog returns the log for the line about a request that was not authenticated.
	// reason is why it was refused, in one of some 30 texts: a sigv4.Cause or the name of an error.
	// If it returns nil, the request has no line. Default: Log, for each reason.
	UnauthenticatedLog func(reason string) *zap.Logger
}

// KeyStoreConfig is one key store: what AWS KMS knows as one XksProxyUriPath.
type KeyStoreConfig struct {
	Name        string
	PathPrefix  string   // "" or "/a/b"; see U1
	Hosts       []string // that it is served under; none: any. Under others, 404 (U5)
	Group       *group.Group
	Regions     []string // SigV4 scope regions accepted; none: any (A1)
	Credentials []sigv4.Credential

	Labels   []string // path.Match patterns on CKA_LABEL: the keys that it reaches
	Label    string   // CKA_LABEL of an external key id; default "{key_id}"
	Disabled []string // external key ids with the status DISABLED (K2, X5)
	Blocked  bool     // every API answers InvalidStateException (X5)

	// VerifyOnSame has the HSM that made a new ciphertext with an integrity value verify it (E4),
	// instead of an equal HSM. That halves the dependence between HSMs, but does not notice two
	// HSMs that hold different keys.
	VerifyOnSame bool

	Policies   *authz.Policies // who may use the keys (Z1); nil: AWS KMS alone decides
	PolicyMode authz.Mode      // default authz.ModeEnforce
	Owner      string          // for policies: resource.owner

	Quota Quota
}

// Quota limits what one key store may use. A request beyond it is answered with
// ThrottlingException. A rate of 0 is no limit. GetHealthStatus does not count (H3).
type Quota struct {
	Rate        int // authenticated requests a second, on average
	Burst       int // at once; 0: a second's worth
	KeyRate     int // Rate and Burst of each single key
	KeyBurst    int
	MaxInFlight int // 0: only Config.MaxInFlight
}

const (
	defaultBudget             = 200 * time.Millisecond
	defaultFirstRequestBudget = 180 * time.Millisecond
	defaultMaxBody            = 128 << 10
	defaultMaxData            = 8192
	defaultMaxInFlight        = 1024
	defaultMaxBodies          = 256 << 20
	defaultMaxQueueTime       = 100 * time.Millisecond
)

// Limits of Config.
const (
	MinBody  = 64 << 10        // bytes; the least MaxBody
	MinData  = hsm.KMSDataSize // bytes; the least MaxData, of which hsm.MaxDataSize is the most
	MinAAD   = hsm.KMSAADSize  // bytes; the least MaxAAD
	MaxAAD   = 1<<16 - 1       // bytes; the most: the largest length that the two bytes of E3 hold
	MaxQuota = 1_000_000       // requests; the most of each rate and burst of Quota
)

func (c Config) withDefaults() Config {
	setDefault(&c.Budget, defaultBudget)
	setDefault(&c.FirstRequestBudget, defaultFirstRequestBudget)
	setDefault(&c.MaxBody, defaultMaxBody)
	setDefault(&c.MaxData, defaultMaxData)
	setDefault(&c.MaxAAD, MaxAAD)
	setDefault(&c.MaxInFlight, defaultMaxInFlight)
	setDefault(&c.MaxBodies, defaultMaxBodies)
	setDefault(&c.MaxQueueTime, defaultMaxQueueTime)
	setDefault(&c.FleetSize, 1)
	setDefault(&c.Vendor, "xks-proxy")
	setDefault(&c.Model, "xks-proxy")
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.UnauthenticatedLog == nil {
		log := c.Log
		c.UnauthenticatedLog = func(string) *zap.Logger { return log }
	}
	return c
}

func setDefault[T comparable](value *T, def T) {
	var zero T
	if *value == zero {
		*value = def
	}
}

// Validate returns an error that joins everything wrong with the configuration, with the defaults
// applied, or nil.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Budget < 0 || c.FirstRequestBudget < 0 {
		fail("a time budget is negative")
	}
	if c.MaxBody < MinBody {
		fail(
			"the largest body, %d bytes, is below the %d that the API needs", c.MaxBody, MinBody,
		)
	}
	if c.MaxData < MinData || c.MaxData > hsm.MaxDataSize {
		fail(
			"the largest plaintext, %d bytes, is not between %d and %d", c.MaxData, MinData,
			hsm.MaxDataSize,
		)
	}
	if c.MaxAAD < MinAAD || c.MaxAAD > MaxAAD {
		fail(
			"the largest additional authenticated data, %d bytes, is not between %d and %d",
			c.MaxAAD, MinAAD, MaxAAD,
		)
	}
	if c.MaxInFlight < 0 || c.MaxBodies < int64(c.MaxBody) {
		fail("a limit on concurrent requests is too small")
	}
	if c.MaxQueueTime < 0 {
		fail("the time that a request may wait is negative")
	}
	if c.FleetSize < 1 {
		fail("the fleet size %d is not greater than zero", c.FleetSize)
	}
	if len(c.KeyStores) == 0 {
		fail("there is no key store to serve")
	}
	names, prefixes := map[string]bool{}, map[string]string{}
	for _, store := range c.KeyStores {
		if names[store.Name] {
			fail("two key stores are named %q", store.Name)
		}
		names[store.Name] = true
		if other, taken := prefixes[store.PathPrefix]; taken {
			fail(
				"key stores %q and %q have the same path prefix %q", other, store.Name,
				store.PathPrefix,
			)
		}
		prefixes[store.PathPrefix] = store.Name
		errs = append(errs, store.validate())
	}
	return errors.Join(errs...)
}

func (c KeyStoreConfig) validate() error {
	var errs []error
	fail := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("key store %q: "+format, append([]any{c.Name}, args...)...))
	}
	if c.Name == "" {
		fail("it has no name")
	}
	if c.Group == nil {
		fail("it names no HSM group")
	}
	if err := CheckPathPrefix(c.PathPrefix); err != nil {
		fail("%w", err)
	}
	if len(c.Labels) == 0 {
		fail("it reaches no keys: labels is empty")
	}
	for _, pattern := range c.Labels {
		if !IsLabelPattern(pattern) {
			fail("label pattern %q is malformed: see the syntax of Go's path.Match", pattern)
		}
	}
	if c.Label != "" && !IsLabelTemplate(c.Label) {
		fail("label template %q does not hold %s once", c.Label, KeyIDPlaceholder)
	}
	for _, id := range c.Disabled {
		if !IsKeyID(id) {
			fail("disabled key %q is not an external key id", id)
		}
	}
	for _, host := range c.Hosts {
		err := CheckHost(host)
		if err != nil {
			fail("host %w", err)
		}
	}
	if q := c.Quota; q.Rate < 0 || q.Burst < 0 || q.KeyRate < 0 || q.KeyBurst < 0 ||
		q.MaxInFlight < 0 {
		fail("a quota is negative")
	}
	if q := c.Quota; max(q.Rate, q.Burst, q.KeyRate, q.KeyBurst) > MaxQuota {
		fail("a quota is above %d", MaxQuota)
	}
	if c.PolicyMode != "" {
		if _, err := authz.ParseMode(string(c.PolicyMode)); err != nil {
			fail("%w", err)
		}
	}
	err := sigv4.Config{Service: Service, Regions: c.Regions, Credentials: c.Credentials}.Validate()
	if err != nil {
		fail("%w", err)
	}
	return errors.Join(errs...)
}

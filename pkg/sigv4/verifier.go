// This file verifies a request: the order of the checks, and the signature itself.

package sigv4

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// amzDateLayout is the layout of x-amz-date.
const amzDateLayout = "20060102T150405Z"

// Identity is who signed a request.
type Identity struct {
	AccessKeyID string
	// of the credential scope, which need not be that of kmsKeyArn (A1)
	Region string
	Time   time.Time // of x-amz-date, UTC
}

// account is a credential at run time.
type account struct {
	index  int // in Verifier.accounts and cachedScope.keys
	id     string
	secret func() string // a function, because package fmt prints unexported fields too
	// Unix seconds; 0: never. Shared with the account of an older Verifier that it is the same as
	lastUsed *atomic.Int64
}

// Verifier verifies the requests to one key store. Only its cache of signing keys and the times of
// last use change. It is safe for concurrent use.
type Verifier struct {
	service string
	regions []string
	maxSkew time.Duration
	// the first is the dummy, which stands in for an unknown access key id (A4)
	accounts []*account
	byID     map[string]*account // without the dummy
	cache    keyCache
}

// New returns a Verifier. Its error is one of Config.Validate, wrapped.
func New(c Config) (*Verifier, error) {
	err := c.Validate()
	if err != nil {
		return nil, fmt.Errorf("sigv4: %w", err)
	}
	return newVerifier(c), nil
}

// newVerifier accepts what Validate would refuse: AWS's published test vectors have an access key
// of another form.
func newVerifier(c Config) *Verifier {
	v := &Verifier{
		service: c.Service, regions: slices.Clone(c.Regions), maxSkew: c.MaxSkew,
		byID: map[string]*account{},
	}
	if v.service == "" {
		v.service = DefaultService
	}
	if v.maxSkew == 0 {
		v.maxSkew = MaxSkew
	}
	dummySecret := rand.Text() + rand.Text()
	dummy := &account{secret: func() string { return dummySecret }, lastUsed: new(atomic.Int64)}
	v.accounts = append(v.accounts, dummy)
	for _, credential := range c.Credentials {
		a := &account{
			index: len(v.accounts), id: credential.AccessKeyID,
			secret:   func() string { return credential.SecretAccessKey },
			lastUsed: new(atomic.Int64),
		}
		v.accounts = append(v.accounts, a)
		v.byID[a.id] = a
	}
	return v
}

// Verify returns who signed the request, or a *Failure that says why it is refused. now is the time
// of this host's clock.
//
// The cheap checks, which depend on nothing secret, come first. From the access key id on, every
// refused request costs the same whether the id is known or not (A4). A request that was accepted
// before is accepted again: the clock skew is all the replay protection (A9).
func (v *Verifier) Verify(r *Request, now time.Time) (Identity, error) {
	a, failure := readAuthorization(r.Header)
	if failure != nil {
		return Identity{}, failure
	}
	identity, failure := v.verify(r, &a, now)
	if failure != nil {
		if IsAccessKeyID(a.accessKeyID) {
			failure.AccessKeyID = a.accessKeyID
		}
		return Identity{}, failure
	}
	return identity, nil
}

func (v *Verifier) verify(r *Request, a *authorization, now time.Time) (Identity, *Failure) {
	if !all(r.Method, isGraphic) || !all(r.Path, isGraphic) {
		return Identity{}, fail(
			CauseMalformedRequest, "the method or the path has a space or a control character",
		)
	}
	if r.Query != "" {
		return Identity{}, fail(CauseQueryNotEmpty, "the request has a query; the XKS API has none")
	}
	if a.service != v.service || a.terminator != terminator {
		return Identity{}, fail(
			CauseWrongScope,
			"the credential scope ends in %s/%s, not in %s/%s: the client signs for another "+
				"service",
			a.service, a.terminator, v.service, terminator,
		)
	}
	if len(v.regions) > 0 && !slices.Contains(v.regions, a.region) {
		return Identity{}, fail(
			CauseRegionNotAccepted,
			"the credential scope names region %s, which this key store does not accept", a.region,
		)
	}
	signedAt, failure := v.checkDate(r, a, now)
	if failure != nil {
		return Identity{}, failure
	}
	s := scratches.Get().(*scratch)
	signer, failure := v.checkSignature(r, a, s)
	s.free()
	if failure != nil {
		return Identity{}, failure
	}
	signer.use(now)
	return Identity{AccessKeyID: signer.id, Region: a.region, Time: signedAt}, nil
}

// isGraphic reports whether c may be in a request line. Paths may contain bytes outside ASCII, but
// no such path is one of the API's.
func isGraphic(c byte) bool { return c > ' ' && c != 0x7f }

// checkDate compares x-amz-date with the scope and with this host's clock (A3).
func (v *Verifier) checkDate(r *Request, a *authorization, now time.Time) (time.Time, *Failure) {
	values := r.Header["X-Amz-Date"]
	if len(values) == 0 {
		return time.Time{}, fail(CauseMissingSignedHeader, "the request has no x-amz-date header")
	}
	if len(values) > 1 {
		return time.Time{}, fail(
			CauseMalformedDate, "the request has %d x-amz-date headers", len(values),
		)
	}
	value := values[0]
	if len(value) != len(amzDateLayout) {
		return time.Time{}, fail(
			CauseMalformedDate, "x-amz-date is not of the form YYYYMMDDTHHMMSSZ",
		)
	}
	signedAt, err := time.Parse(amzDateLayout, value)
	if err != nil {
		return time.Time{}, fail(
			CauseMalformedDate, "x-amz-date is not a date of the form YYYYMMDDTHHMMSSZ",
		)
	}
	if value[:8] != a.date {
		return time.Time{}, fail(
			CauseDateMismatch, "the credential scope is of %s, but x-amz-date of %s", a.date,
			value[:8],
		)
	}
	age := now.Sub(signedAt)
	if age > v.maxSkew {
		return time.Time{}, fail(
			CauseClockSkew,
			"the request was signed %s ago, more than %s: check this host's clock, or it is a "+
				"replay",
			age, v.maxSkew,
		)
	}
	if age < -v.maxSkew {
		return time.Time{}, fail(
			CauseClockSkew,
			"the request was signed %s ahead of our clock, more than %s: check this host's clock",
			-age, v.maxSkew,
		)
	}
	return signedAt, nil
}

// scratch is the working memory of one verification.
type scratch struct {
	text        []byte // canonical request, then string to sign
	payloadHash []byte // hexadecimal
	mac         []byte
	computed    []byte // signature, hexadecimal
	claimed     []byte // signature, hexadecimal
}

var scratches = sync.Pool{New: func() any { return &scratch{text: make([]byte, 0, 1024)} }}

// free returns the scratch to the pool, unless a huge header has made it large.
func (s *scratch) free() {
	if cap(s.text) <= 64<<10 {
		scratches.Put(s)
	}
}

// checkSignature returns the account whose secret signed the request.
func (v *Verifier) checkSignature(r *Request, a *authorization, s *scratch) (*account, *Failure) {
	bodyHash := sha256.Sum256(r.Body)
	s.payloadHash = hex.AppendEncode(s.payloadHash[:0], bodyHash[:])
	claimedHashes := r.Header["X-Amz-Content-Sha256"]
	if len(claimedHashes) > 1 ||
		len(claimedHashes) == 1 && claimedHashes[0] != string(s.payloadHash) {
		return nil, fail(
			CausePayloadHashMismatch,
			"x-amz-content-sha256 is not the SHA-256 of the %d bytes of body received", len(r.Body),
		)
	}

	signer, known := v.byID[a.accessKeyID]
	if !known {
		signer = v.accounts[0]
	}
	var key *signingKey
	cached := v.cache.find(a.date, a.region)
	if cached != nil {
		key = cached[signer.index]
	} else {
		key = derive(signer.secret(), a.date, a.region, v.service)
	}

	matches, failure := s.signatureMatches(r, a, key, true)
	if failure != nil {
		return nil, failure
	}
	// Clients treat bytes of a path that AWS's rule encodes in different ways: the SDKs follow the
	// rule, curl 7.88 signs the path as it is. Both are accepted. They agree on paths of plain
	// characters, and only those can name an API or a key (U1, U3). So no request that is served
	// can pass with the signature of another path.
	if !matches && !all(r.Path, isPlain) {
		matches, failure = s.signatureMatches(r, a, key, false)
		if failure != nil {
			return nil, failure
		}
	}
	if !known || !matches {
		// Both are reported in one way, at the same cost.
		cause, reason := CauseSignatureMismatch, "the signature does not match: the client has "+
			"another secret, or the request was changed on its way"
		if !known {
			cause, reason = CauseUnknownAccessKey, "no credential of this key store has the "+
				"access key id that the request names"
		}
		return nil, fail(
			cause, "%s; host as received %q, signed headers %q", reason, excerpt(r.Host),
			excerpt(a.signedHeaders),
		)
	}
	if cached == nil {
		v.cache.add(v.accounts, a.date, a.region, v.service)
	}
	return signer, nil
}

// signatureMatches computes the signature of the request and compares it in constant time.
func (s *scratch) signatureMatches(
	r *Request, a *authorization, key *signingKey, encodePath bool,
) (bool, *Failure) {
	var failure *Failure
	s.text, failure = appendCanonicalRequest(
		s.text[:0], r, encodePath, a.signedHeaders, s.payloadHash,
	)
	if failure != nil {
		return false, failure
	}
	canonicalHash := sha256.Sum256(s.text)
	s.text = appendStringToSign(s.text[:0], a, r.Header["X-Amz-Date"][0], canonicalHash)
	s.mac = key.appendMAC(s.mac[:0], s.text)
	s.computed = hex.AppendEncode(s.computed[:0], s.mac)
	s.claimed = append(s.claimed[:0], a.signature...)
	return subtle.ConstantTimeCompare(s.computed, s.claimed) == 1, nil
}

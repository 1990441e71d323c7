// This file derives signing keys (AWS General Reference, task 3) and caches those in use.

package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"strings"
	"sync"
	"sync/atomic"
)

// signingKey computes HMAC-SHA256 with one derived key. It is safe for concurrent use.
type signingKey struct {
	// of hash.Hash: keyed states, so that a request pays neither for keying nor for memory
	macs sync.Pool
}

func newSigningKey(key []byte) *signingKey {
	return &signingKey{macs: sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
}

func (k *signingKey) appendMAC(dst, message []byte) []byte {
	mac := k.macs.Get().(hash.Hash)
	mac.Reset()
	mac.Write(message)
	dst = mac.Sum(dst)
	k.macs.Put(mac)
	return dst
}

// derive returns the signing key of one secret, day, region and service.
func derive(secret, date, region, service string) *signingKey {
	key := []byte("AWS4" + secret)
	for _, part := range [...]string{date, region, service, terminator} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return newSigningKey(key)
}

// maxCachedScopes limits the cache: two days around midnight for each region that is likely to call
// one key store.
const maxCachedScopes = 16

// cachedScope holds, for one day and region, the signing key of every account, the dummy included:
// whether a scope is cached says nothing about any one access key id (A4).
type cachedScope struct {
	date, region string
	keys         []*signingKey // by account.index
}

// keyCache holds the scopes of the latest matching signatures, the newest first. Only the holder of
// a secret can add one, so nobody else can flush the cache. When it is full, the oldest scope is
// removed. Reading takes no lock.
type keyCache struct {
	mu     sync.Mutex // held while writing
	scopes atomic.Pointer[[]cachedScope]
}

// find returns the signing keys of a scope, or nil.
func (c *keyCache) find(date, region string) []*signingKey {
	scopes := c.scopes.Load()
	if scopes == nil {
		return nil
	}
	for i := range *scopes {
		scope := &(*scopes)[i]
		if scope.date == date && scope.region == region {
			return scope.keys
		}
	}
	return nil
}

// add caches a scope with a key for each account.
func (c *keyCache) add(accounts []*account, date, region, service string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.find(date, region) != nil {
		return
	}
	// Cloned, because date and region are parts of the request's header and would keep all of it in
	// memory.
	scope := cachedScope{date: strings.Clone(date), region: strings.Clone(region)}
	for _, account := range accounts {
		scope.keys = append(scope.keys, derive(account.secret(), date, region, service))
	}
	scopes := []cachedScope{scope}
	old := c.scopes.Load()
	if old != nil {
		scopes = append(scopes, *old...)
	}
	scopes = scopes[:min(len(scopes), maxCachedScopes)]
	c.scopes.Store(&scopes)
}

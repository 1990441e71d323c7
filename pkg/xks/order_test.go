package xks

// Requirement A8: the order of checks. A request that fails two of them shows the earlier; so that
// no later check can say anything to whom an earlier one stops.

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/hsm/group"
)

// fault spoils a request so that one check refuses it.
type fault struct {
	check string
	want  errorName
	spoil func(*sketch)
}

// sketch is a request before it is signed and sent.
type sketch struct {
	path   string
	body   any
	method string
	edit   func(*http.Request)
}

func TestOrderOfChecks(t *testing.T) {
	open := newRig(t, withPolicies(t, notMallory, authz.ModeEnforce))
	blocked := newRig(
		t, withPolicies(t, notMallory, authz.ModeEnforce),
		func(c *Config, _ *group.Config) { c.KeyStores[0].Blocked = true },
	)

	// Over its quota, and each key over its own, for an hour.
	full := newRig(
		t, withPolicies(t, notMallory, authz.ModeEnforce), withQuota(Quota{Rate: 1}),
		func(c *Config, _ *group.Config) { c.KeyStores[0].Blocked = true },
	)
	full.handler.state.Load().keyStores[0].usage.bucket.full.Store(sinceEpoch() + int64(time.Hour))
	keysFull := newRig(
		t, withPolicies(t, notMallory, authz.ModeEnforce), withQuota(Quota{KeyRate: 1}),
	)
	keysFull.handler.state.Load().keyStores[0].usage.keys.full = map[string]int64{}
	for _, label := range []string{goodKey, "disabled", "impotent"} {
		keysFull.handler.state.Load().keyStores[0].usage.keys.full[label] = sinceEpoch() + int64(
			time.Hour,
		)
	}

	path := fault{"path", invalidURIPath, func(s *sketch) { s.path += "x" }}
	method := fault{"method", unsupported, func(s *sketch) { s.method = http.MethodPut }}
	size := fault{
		"size", unsupported,
		func(s *sketch) { s.body = strings.Repeat(" ", defaultMaxBody) + string(encode(t, s.body)) },
	}
	authentication := fault{
		"authentication", authenticationFailed,
		func(s *sketch) { s.edit = func(q *http.Request) { q.Header.Del("X-Amz-Date") } },
	}
	jsonFault := fault{
		"JSON", validation, func(s *sketch) { s.body = string(encode(t, s.body)) + "x" },
	}
	field := fault{
		"fields", validation,
		func(s *sketch) { s.body = s.body.(fields).without("encryptionAlgorithm") },
	}
	algorithm := fault{
		"algorithm", unsupported,
		func(s *sketch) { s.body = s.body.(fields).with("encryptionAlgorithm", "ROT13") },
	}
	blockedStore := fault{
		"blocked key store", invalidState, func(*sketch) {},
	} // served by the blocked rig
	quota := fault{"quota", throttling, func(*sketch) {}}        // served by the full rig
	keyQuota := fault{"key quota", throttling, func(*sketch) {}} // served by keysFull
	noKey := fault{
		"key", keyNotFound,
		func(s *sketch) { s.path = strings.Replace(s.path, goodKey, "no-such-key", 1) },
	}
	policy := fault{
		"policy", accessDenied,
		func(s *sketch) { s.body = s.body.(fields).withMetadata("awsPrincipalArn", mallory) },
	}
	disabled := fault{
		"key state", invalidState,
		func(s *sketch) { s.path = strings.Replace(s.path, goodKey, "disabled", 1) },
	}
	usage := fault{
		"key usage", invalidKeyUsage,
		func(s *sketch) { s.path = strings.Replace(s.path, goodKey, "impotent", 1) },
	}
	ciphertext := fault{
		"cryptography", invalidCiphertext,
		func(s *sketch) { s.body = s.body.(fields).with("authenticationTag", b64([]byte("short"))) },
	}

	good := encryptGood(open).decryptFields()
	for _, order := range [][]fault{
		{path, method, size, authentication, jsonFault, blockedStore, noKey},
		{size, authentication, field, blockedStore, noKey},
		{authentication, algorithm, blockedStore, noKey},
		{authentication, jsonFault}, {field, noKey}, {field, disabled}, {field, usage},
		{algorithm, noKey}, {algorithm, disabled}, {algorithm, usage},
		{field, ciphertext}, {algorithm, ciphertext}, {blockedStore, ciphertext}, {blockedStore, disabled}, {blockedStore, usage},
		{authentication, field, blockedStore, noKey, policy}, {algorithm, policy}, {jsonFault, policy}, {policy, disabled}, {policy, usage}, {policy, ciphertext},
		{path, method, size, authentication, quota, jsonFault}, {quota, field, blockedStore}, {quota, algorithm, noKey}, {quota, policy}, {quota, disabled}, {quota, usage}, {quota, ciphertext},
		{authentication, field, noKey, keyQuota}, {algorithm, keyQuota}, {policy, keyQuota, disabled}, {keyQuota, usage}, {keyQuota, ciphertext},
		{noKey, ciphertext}, {disabled, ciphertext}, {usage, ciphertext},
	} {
		for i, earlier := range order {
			for _, later := range order[i+1:] {
				s := &sketch{
					path: keyURI(goodKey, "decrypt"), body: good, method: http.MethodPost,
					edit: func(*http.Request) {},
				}
				for _, f := range []fault{later, earlier} { // faults of the body's text come last
					if f.check != "JSON" && f.check != "size" {
						f.spoil(s)
					}
				}
				for _, f := range []fault{jsonFault, size} {
					if f.check == earlier.check || f.check == later.check {
						f.spoil(s)
					}
				}
				r := open
				for _, special := range []struct {
					check string
					rig   *rig
				}{{blockedStore.check, blocked}, {keyQuota.check, keysFull}, {quota.check, full}} {
					if earlier.check == special.check || later.check == special.check {
						r = special.rig
					}
				}
				p := r.send(
					s.path, s.body, func(q *http.Request) { q.Method = s.method; s.edit(q) },
				)
				if got := p.errorName(t); got != earlier.want ||
					earlier.check == "method" && p.status != http.StatusMethodNotAllowed {
					t.Errorf("%s before %s: %d %s", earlier.check, later.check, p.status, p.body)
				}
			}
		}
	}
}

// X5: every API of a blocked key store.
func TestBlockedKeyStore(t *testing.T) {
	r := newRig(t, func(c *Config, _ *group.Config) { c.KeyStores[0].Blocked = true })
	open := newRig(t)
	for name, p := range map[string]reply{
		"health": r.health(), "metadata": r.metadata(goodKey), "metadata of no key": r.metadata("no-such-key"),
		"encrypt": r.encrypt(goodKey, encryptFields(nil)), "decrypt": r.decrypt(goodKey, encryptGood(open).decryptFields()),
	} {
		if p.errorName(t) != invalidState {
			t.Errorf("%s: %s", name, p.body)
		}
	}
}

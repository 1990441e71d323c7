package main

// Which keys there are: the query and the answer.

import (
	"net/url"
	"time"
	"xks-proxy/pkg/hsm/catalogue"
)

const (
	// adminKeysPath has the query group, key_store, label (a pattern) and state, each optional.
	// The answer has all keys that fit: some 700 bytes for each version on two HSMs.
	adminKeysPath       = "/v1/keys"
	adminRefreshPath    = "/v1/hsms/{name}/refresh" // query: timeout
	adminRefreshAllPath = "/v1/refresh"             // likewise, of every HSM
)

// keyAnswer is the answer of adminKeysPath.
type keyAnswer struct {
	Keys []keyEntry `json:"keys"` // sorted by group, label and version
	All  int        `json:"all"`  // versions there are, those that the query left out included
}

// keyEntry is a key version, and who can use it.
type keyEntry struct {
	catalogue.KeyReport
	KeyStores []reachingStore `json:"keyStores"`
}

// reachingStore is a key store that reaches a key, and the external key id by which it does.
type reachingStore struct {
	Name  string `json:"name"`
	KeyID string `json:"keyId"`
}

// keyQuery says which keys are wanted. Empty fields leave none out.
type keyQuery struct {
	Group, KeyStore, Label, State string
}

func (q keyQuery) values() url.Values {
	values := url.Values{}
	for name, value := range map[string]string{"group": q.Group, "key_store": q.KeyStore, "label": q.Label, "state": q.State} {
		if value != "" {
			values.Set(name, value)
		}
	}
	return values
}

// keysPatience is how long the proxy may take to put very many keys together.
const keysPatience = 30 * time.Second

package api

// Which keys there are: the query and the answer.

import (
	"net/url"
	"time"

	"xks-proxy/pkg/hsm/catalogue"
)

const (
	// KeysPath has the query group, key_store, label (a pattern) and state, each optional.
	// The answer has all keys that fit: some 700 bytes for each version on two HSMs.
	KeysPath       = "/v1/keys"
	RefreshPath    = "/v1/hsms/{name}/refresh" // query: timeout
	RefreshAllPath = "/v1/refresh"             // likewise, of every HSM
)

// KeyAnswer is the answer of KeysPath.
type KeyAnswer struct {
	Keys []KeyEntry `json:"keys"` // sorted by group, label and version
	All  int        `json:"all"`  // versions there are, those that the query left out included
}

// KeyEntry is a key version, and who can use it.
type KeyEntry struct {
	catalogue.KeyReport
	KeyStores []ReachingStore `json:"keyStores"`
}

// ReachingStore is a key store that reaches a key, and the external key id by which it does.
type ReachingStore struct {
	Name  string `json:"name"`
	KeyID string `json:"keyId"`
}

// KeyQuery says which keys are wanted. Empty fields leave none out.
type KeyQuery struct {
	Group, KeyStore, Label, State string
}

func (q KeyQuery) values() url.Values {
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

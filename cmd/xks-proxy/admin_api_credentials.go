package main

// When each credential was last used, as the admin API answers it.

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
	"xks-proxy/internal/text"
)

// credentialUses is the answer of adminCredentialsPath.
type credentialUses struct {
	Since       time.Time       `json:"since"` // nothing is known of before
	Credentials []credentialUse `json:"credentials"`
}

type credentialUse struct {
	KeyStore    string    `json:"keyStore"`
	AccessKeyID string    `json:"accessKeyId"`
	LastUsed    time.Time `json:"lastUsed,omitzero"` // zero: not since then
}

// only keeps the credentials of one key store, and returns the JSON of these.
func credentialsOf(u *credentialUses, store string) ([]byte, error) {
	var names []string
	var kept []credentialUse
	for _, c := range u.Credentials {
		if c.KeyStore == store {
			kept = append(kept, c)
		}
		if !slices.Contains(names, c.KeyStore) {
			names = append(names, c.KeyStore)
		}
	}
	if kept == nil && len(names) > 0 {
		return nil, fmt.Errorf("the proxy serves no key store %q; %s", store, text.DidYouMean(store, names))
	}
	u.Credentials = kept
	body, err := json.Marshal(u)
	return append(body, '\n'), err
}

package main

// Which credentials there are and when each was last used, for rotations (A5). No secret is anywhere near.

import (
	"time"
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

// credentialList is in the order of the configuration; empty while the proxy starts.
func (a *admin) credentialList() credentialUses {
	answer := credentialUses{Since: a.uses.Since, Credentials: []credentialUse{}}
	for _, k := range a.keyStores() {
		for _, c := range k.Credentials {
			answer.Credentials = append(answer.Credentials, credentialUse{k.Name, c.AccessKeyID, c.LastUsed})
		}
	}
	return answer
}

package main

// When each credential was last used, as the admin API answers it.

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

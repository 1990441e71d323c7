package api

// When each credential was last used, as the admin API answers it.

import (
	"time"
)

// CredentialUses is the answer of adminCredentialsPath.
type CredentialUses struct {
	Since       time.Time       `json:"since"` // nothing is known of before
	Credentials []CredentialUse `json:"credentials"`
}

type CredentialUse struct {
	KeyStore    string    `json:"keyStore"`
	AccessKeyID string    `json:"accessKeyId"`
	LastUsed    time.Time `json:"lastUsed,omitzero"` // zero: not since then
}

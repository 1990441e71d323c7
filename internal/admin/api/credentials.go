package api

// When each credential was last used, as the admin API answers it.

import (
	"time"
)

// CredentialUses is the answer of CredentialsPath.
type CredentialUses struct {
	Since       time.Time       `json:"since"` // nothing is known of before
	Credentials []CredentialUse `json:"credentials"`
}

// CredentialUse is the last use of one access key. It holds no secret.
type CredentialUse struct {
	KeyStore    string    `json:"keyStore"`
	AccessKeyID string    `json:"accessKeyId"`
	LastUsed    time.Time `json:"lastUsed,omitzero"` // zero: not since then
}

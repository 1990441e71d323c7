package admin

// Which credentials there are and when each was last used, for rotations (A5). No secret is
// involved.

import (
	"xks-proxy/internal/admin/api"
)

// Credentials is in the order of the configuration; empty while the proxy starts.
func (a *Service) Credentials() api.CredentialUses {
	answer := api.CredentialUses{Since: a.Uses.Since, Credentials: []api.CredentialUse{}}
	for _, k := range a.KeyStores() {
		for _, c := range k.Credentials {
			answer.Credentials = append(answer.Credentials, api.CredentialUse{
				KeyStore: k.Name, AccessKeyID: c.AccessKeyID, LastUsed: c.LastUsed,
			})
		}
	}
	return answer
}

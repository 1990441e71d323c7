package main

// Which credentials there are and when each was last used, for rotations (A5). No secret is anywhere near.

// credentialList is in the order of the configuration; empty while the proxy starts.
func (a *admin) credentialList() credentialUses {
	answer := credentialUses{Since: a.uses.Since, Credentials: []credentialUse{}}
	for _, k := range a.keyStores() {
		for _, c := range k.Credentials {
			answer.Credentials = append(answer.Credentials, credentialUse{
				KeyStore: k.Name, AccessKeyID: c.AccessKeyID, LastUsed: c.LastUsed,
			})
		}
	}
	return answer
}

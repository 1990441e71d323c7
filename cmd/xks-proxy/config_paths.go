package main

// The paths that AWS KMS calls.

import "xks-proxy/pkg/xks"

// uriPaths is the XksProxyUriPath of each key store, by name.
func (c *config) uriPaths() map[string]string {
	paths := map[string]string{}
	for _, store := range c.KeyStores {
		paths[store.Name] = xks.URIPath(store.PathPrefix)
	}
	return paths
}

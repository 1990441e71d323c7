package config

// The paths that AWS KMS calls.

import (
	"xks-proxy/pkg/xks"
)

// URIPaths returns the XksProxyUriPath of each key store, by name.
func (c *Config) URIPaths() map[string]string {
	paths := map[string]string{}
	for _, store := range c.KeyStores {
		paths[store.Name] = xks.URIPath(store.PathPrefix)
	}
	return paths
}

package main

// Where a configuration names certificates and ports.

import "fmt"

// certificatePlace is a certificate where the configuration names it.
type certificatePlace struct {
	certificateConfig
	path     string // such as key_stores[1].certificates[0]
	keyStore string // "" for those of server.tls
}

// certificatePlaces lists all: the default first, then further ones of the server, then those
// of the key stores.
func (c *config) certificatePlaces() []certificatePlace {
	standard := certificateConfig{Certificate: c.Server.TLS.Certificate, Key: c.Server.TLS.Key}
	places := []certificatePlace{{certificateConfig: standard, path: "server.tls"}}
	for i, more := range c.Server.TLS.More {
		places = append(
			places,
			certificatePlace{certificateConfig: more, path: fmt.Sprintf("server.tls.more[%d]", i)},
		)
	}
	for i, k := range c.KeyStores {
		for j, own := range k.Certificates {
			places = append(
				places,
				certificatePlace{
					certificateConfig: own,
					path:              fmt.Sprintf("key_stores[%d].certificates[%d]", i, j),
					keyStore:          k.Name,
				},
			)
		}
	}
	return places
}

// listenerPlace is an HTTPS port where the configuration names it.
type listenerPlace struct {
	listenerConfig
	path    string // "server" or server.listeners[1]
	address string // key of the address, for messages
}

// listenerPlaces lists server.listen first.
func (c *config) listenerPlaces() []listenerPlace {
	first := listenerConfig{
		Listen: c.Server.Listen, ClientCertificates: c.Server.ClientCertificates,
		ProxyProtocol: c.Server.ProxyProtocol,
	}
	places := []listenerPlace{{listenerConfig: first, path: "server", address: "server.listen"}}
	for i, l := range c.Server.Listeners {
		path := fmt.Sprintf("server.listeners[%d]", i)
		places = append(
			places,
			listenerPlace{listenerConfig: l, path: path, address: path + ".listen"},
		)
	}
	return places
}

package config

// Where a configuration names certificates and ports.

import (
	"fmt"
	"strings"
	"xks-proxy/internal/config/schema"
)

// certificatePlace is a certificate where the configuration names it.
type certificatePlace struct {
	CertificateFiles
	Path     string // such as key_stores[1].certificates[0]
	KeyStore string // "" for those of server.tls
}

// CertificatePlaces lists all: the default first, then further ones of the server, then those
// of the key stores.
func (c *Config) CertificatePlaces() []certificatePlace {
	standard := CertificateFiles{Certificate: c.Server.TLS.Certificate, Key: c.Server.TLS.Key}
	places := []certificatePlace{{CertificateFiles: standard, Path: "server.tls"}}
	for i, more := range c.Server.TLS.More {
		places = append(
			places,
			certificatePlace{CertificateFiles: more, Path: fmt.Sprintf("server.tls.more[%d]", i)},
		)
	}
	for i, k := range c.KeyStores {
		for j, own := range k.Certificates {
			places = append(
				places,
				certificatePlace{
					CertificateFiles: own,
					Path:             fmt.Sprintf("key_stores[%d].certificates[%d]", i, j),
					KeyStore:         k.Name,
				},
			)
		}
	}
	return places
}

// listenerPlace is an HTTPS port where the configuration names it.
type listenerPlace struct {
	Listener
	Path    string // "server" or server.listeners[1]
	Address string // key of the address, for messages
}

// ListenerPlaces lists server.listen first.
func (c *Config) ListenerPlaces() []listenerPlace {
	first := Listener{
		Listen: c.Server.Listen, ClientCertificates: c.Server.ClientCertificates,
		ProxyProtocol: c.Server.ProxyProtocol,
	}
	places := []listenerPlace{{Listener: first, Path: "server", Address: "server.listen"}}
	for i, l := range c.Server.Listeners {
		path := fmt.Sprintf("server.listeners[%d]", i)
		places = append(
			places,
			listenerPlace{Listener: l, Path: path, Address: path + ".listen"},
		)
	}
	return places
}

// PlaceOf says where in the configuration a key stands.
func PlaceOf(c *Config, path string) string {
	if c.Source == nil {
		return path
	}
	file, key := c.Source.Locate(path) // of a tenant: in its own file
	return strings.TrimSuffix(
		schema.Problem{File: file, Origin: c.Source.Origin(path), Path: key}.String(), ": ",
	)
}

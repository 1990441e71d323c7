package server

// Which files are watched.

import (
	"slices"
	"testing"

	"xks-proxy/internal/config"
	"xks-proxy/internal/secret"
)

// All files that a configuration names are watched.
func TestFilesOf(t *testing.T) {
	t.Setenv(secret.CredentialsVariable, "/run/credentials")
	c := &config.Config{
		KeyStoreDirectory: "/key_stores.d",
		Server: config.Server{
			TLS: config.TLS{
				Certificate: "/crt",
				Key:         "/key",
				More:        []config.CertificateFiles{{Certificate: "/crt2", Key: "/key2"}},
			},
			ClientCertificates: config.ClientCertificates{CA: "/ca"},
			Listeners: []config.Listener{
				{ClientCertificates: config.ClientCertificates{CA: "/ca2"}},
			},
		},
		HSMs: []config.HSM{
			{PIN: secret.Ref{File: "/pin"}},
			{PIN: secret.Ref{Command: []string{"/bin/pin"}}},
			{PIN: secret.Ref{Env: "PIN"}},
		},
		KeyStores: []config.KeyStore{{
			Certificates: []config.CertificateFiles{
				{Certificate: "/crt3", Key: "/key3"},
			}, Policy: config.Policies{Files: []string{"/policies"}},
			Credentials: []config.Credential{
				{SecretAccessKey: secret.Ref{File: "/secret"}},
				{SecretAccessKey: secret.Ref{Credential: "name"}},
			},
		}},
	}
	got := slices.Sorted(slices.Values(filesOf("/file", c, c)))
	want := []string{
		"/ca",
		"/ca2",
		"/crt",
		"/crt2",
		"/crt3",
		"/file",
		"/key",
		"/key2",
		"/key3",
		"/key_stores.d",
		"/pin",
		"/policies",
		"/run/credentials/name",
		"/secret",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

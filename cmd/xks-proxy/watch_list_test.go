package main

// Which files are watched.

import (
	"slices"
	"testing"

	"xks-proxy/internal/secret"
)

// All files that a configuration names are watched.
func TestFilesOf(t *testing.T) {
	t.Setenv(secret.CredentialsVariable, "/run/credentials")
	c := &config{
		KeyStoreDirectory: "/key_stores.d",
		Server: serverConfig{
			TLS: tlsConfig{
				Certificate: "/crt",
				Key:         "/key",
				More:        []certificateConfig{{Certificate: "/crt2", Key: "/key2"}},
			},
			ClientCertificates: clientCertificatesConfig{CA: "/ca"},
			Listeners: []listenerConfig{
				{ClientCertificates: clientCertificatesConfig{CA: "/ca2"}},
			},
		},
		HSMs: []hsmConfig{
			{PIN: secret.Ref{File: "/pin"}},
			{PIN: secret.Ref{Command: []string{"/bin/pin"}}},
			{PIN: secret.Ref{Env: "PIN"}},
		},
		KeyStores: []keyStoreConfig{{
			Certificates: []certificateConfig{
				{Certificate: "/crt3", Key: "/key3"},
			}, Policy: policyConfig{Files: []string{"/policies"}},
			Credentials: []credentialConfig{
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

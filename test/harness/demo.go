// Package harness is what the end-to-end tests and the programs in test/ that measure and attack
// share: the program as a process, the demo that `xks-proxy demo` makes, a client that signs, its
// connections, what /proc says, whether the machine kept up, and tables of results.
package harness

// The directory that the demo makes, and its connection.json.

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"xks-proxy/pkg/sigv4"
)

// Demo is a directory with two tokens that hold the same keys, a certificate and a configuration,
// as its connection.json describes it.
type Demo struct {
	Endpoint   string `json:"XksProxyUriEndpoint"`
	Path       string `json:"XksProxyUriPath"`
	Credential struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string `json:"RawSecretAccessKey"`
	} `json:"XksProxyAuthenticationCredential"`
	Region        string   `json:"region"`
	CACertificate string   `json:"caCertificate"` // its file
	Keys          []string `json:"keys"`
	HSMs          []HSM    `json:"hsms"`

	Directory string         `json:"-"`
	CA        []byte         `json:"-"` // PEM
	Roots     *x509.CertPool `json:"-"` // of CA
}

// HSM is one of its tokens.
type HSM struct{ Name, Module, Token, SoftHSM2Conf, PINFile string }

// Prepare has the program make a demo that can be served: on a free port of 127.0.0.1, with this
// many keys.
func Prepare(ctx context.Context, program, directory string, keys int) (*Demo, error) {
	command := exec.CommandContext(
		ctx,
		program,
		"demo",
		"--dir",
		directory,
		"--keys",
		strconv.Itoa(keys),
		"--listen",
		"127.0.0.1:0",
		"--prepare-only",
	)
	output, err := command.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("make a demo: %w\n%s", err, output)
	}
	text, err := os.ReadFile(filepath.Join(directory, "connection.json"))
	if err != nil {
		return nil, err
	}
	d := &Demo{Directory: directory, Roots: x509.NewCertPool()}
	err = json.Unmarshal(text, d)
	if err != nil {
		return nil, fmt.Errorf("connection.json: %w", err)
	}
	d.CA, err = os.ReadFile(d.CACertificate)
	if err != nil {
		return nil, err
	}
	if !d.Roots.AppendCertsFromPEM(d.CA) {
		return nil, fmt.Errorf("%s holds no certificate", d.CACertificate)
	}
	return d, nil
}

// Address is the host:port that it is going to be served at.
func (d *Demo) Address() string { return strings.TrimPrefix(d.Endpoint, "https://") }

// Client is a client of the demo's key store, at host:port.
func (d *Demo) Client(address string) *Client {
	return NewClient(address, d.Path, d.Region, d.SignsWith())
}

// SignsWith is the credential of the demo's key store.
func (d *Demo) SignsWith() sigv4.Credential {
	return sigv4.Credential{
		AccessKeyID: d.Credential.AccessKeyID, SecretAccessKey: d.Credential.SecretAccessKey,
	}
}

// File is the path of a file in its directory: xks-proxy.yaml, server.crt, server.key.
func (d *Demo) File(name string) string { return filepath.Join(d.Directory, name) }

// FastDirectory is in memory where it can be, for os.MkdirTemp: SoftHSM keeps its tokens in files.
// "" is the system's.
func FastDirectory() string {
	info, err := os.Stat("/dev/shm")
	if err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

package main

// Where requests go and who signs them: connection.json as the demo writes it (or
// the file that AWS's console imports), and the flags that stand in for it.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"xks-proxy/internal/guarded"
	"xks-proxy/internal/secret"
	"xks-proxy/pkg/sigv4"
	"xks-proxy/pkg/xks"
)

const (
	connectionFileName = "connection.json"
	defaultRegion      = "us-east-1"
)

// connectionFile is a key store for its clients. The first three fields are named
// as AWS names them (requirement A10); the others are for tests and tools. It holds a secret: its mode is 0600.
type connectionFile struct {
	Endpoint      string            `json:"XksProxyUriEndpoint"`
	URIPath       string            `json:"XksProxyUriPath"`
	Credential    connectionSecret  `json:"XksProxyAuthenticationCredential"`
	Region        string            `json:"region"`
	CACertificate string            `json:"caCertificate"`
	Keys          []string          `json:"keys"`                  // external key ids that encrypt and decrypt
	SpecialKeys   map[string]string `json:"specialKeys,omitempty"` // encryptOnly, decryptOnly, impotent: external key ids
	HSMs          []connectionHSM   `json:"hsms,omitempty"`
	Listen        string            `json:"listen,omitempty"` // server.listen of the configuration
	Health        string            `json:"health,omitempty"` // health.listen of the configuration
}

type connectionSecret struct {
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string `json:"RawSecretAccessKey"`
}

// String keeps the secret out of whatever prints the file's content.
func (c connectionSecret) String() string { return c.AccessKeyID + " " + secret.Redacted }

// GoString is String for %#v.
func (c connectionSecret) GoString() string { return c.String() }

// connectionHSM is one token of the demo.
type connectionHSM struct {
	Name         string `json:"name"`
	Module       string `json:"module"`
	Token        string `json:"token"`
	SoftHSM2Conf string `json:"softhsm2Conf"`
	PINFile      string `json:"pinFile"`
}

// readConnectionFile reads a file that holds a secret: it must be private.
func readConnectionFile(path string) (*connectionFile, error) {
	f, err := guarded.OpenPrivate(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigSize))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", path, err)
	}
	var c connectionFile
	err = json.Unmarshal(data, &c)
	if err != nil {
		return nil, fmt.Errorf("%s is not the JSON of a connection: %w", path, err)
	}
	if c.CACertificate != "" {
		c.CACertificate = guarded.ResolvePath(filepath.Dir(path), c.CACertificate)
	}
	return &c, nil
}

// connection is what a client needs of the file.
func (c *connectionFile) connection() connection {
	return connection{
		Endpoint: c.Endpoint, URIPath: c.URIPath, Region: c.Region,
		AccessKeyID: c.Credential.AccessKeyID, SecretAccessKey: secret.New(c.Credential.SecretAccessKey),
		CACertificates: compact(c.CACertificate),
	}
}

// compact leaves out empty texts.
func compact(texts ...string) []string {
	return slices.DeleteFunc(texts, func(text string) bool { return text == "" })
}

// connectionFlags are the flags that say where requests go.
type connectionFlags struct {
	file, endpoint, path, region, accessKeyID, secretFile, ca string
	choice                                                    keyStoreChoice
}

func (f *connectionFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.file, "connection", "", "JSON `FILE` with endpoint and access key, as the demo writes it")
	flags.StringVar(&f.choice.file, "config", "", "configuration `FILE` of the proxy")
	flags.StringVar(&f.choice.store, "key-store", "", "`NAME` of a key store in the configuration (needed if there are several)")
	flags.StringVar(&f.endpoint, "endpoint", "", "`URL` of the proxy: https://name[:port]")
	flags.StringVar(&f.path, "path", "", "`path` of the key store, with or without /kms/xks/v1 at its end")
	flags.StringVar(&f.region, "region", "", "AWS `region` to sign for (default: the key store's, or "+defaultRegion+")")
	flags.StringVar(&f.accessKeyID, "access-key-id", "", "access key `id` to sign with")
	flags.StringVar(&f.secretFile, "secret-file", "", "`file` with the secret access key")
	flags.StringVar(&f.ca, "ca", "", "PEM `file` with the server's CA (default: those this machine trusts)")
}

// connection puts file and flags together. It also returns the keys that a connection file
// names, of which the first is the default.
func (f *connectionFlags) connection(ctx context.Context, warnings io.Writer) (connection, []string, error) {
	c, keys, err := f.base(ctx, warnings)
	if err != nil {
		return connection{}, nil, err
	}
	override(&c.Endpoint, f.endpoint)
	override(&c.URIPath, f.path)
	override(&c.Region, f.region)
	override(&c.AccessKeyID, f.accessKeyID)
	if f.ca != "" {
		c.CACertificates, c.TrustMachine = []string{f.ca}, false
	}
	if c.Region == "" {
		c.Region = defaultRegion
	}
	if f.secretFile != "" {
		c.SecretAccessKey, err = secret.Ref{File: f.secretFile}.Read(ctx, "")
		if err != nil {
			return connection{}, nil, usageError(fmt.Errorf("--secret-file: %w", err))
		}
	}
	c.Endpoint, err = checkEndpoint(c.Endpoint)
	if err != nil {
		return connection{}, nil, usageError(err)
	}
	c.URIPath = completePath(c.URIPath)
	if c.AccessKeyID == "" || c.SecretAccessKey.Reveal() == "" {
		return connection{}, nil, usageError(errors.New("nothing to sign with: give --access-key-id and --secret-file, or --connection"))
	}
	err = sigv4.Credential{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey.Reveal()}.Validate()
	if err != nil {
		return connection{}, nil, usageError(fmt.Errorf("the credential to sign with (--access-key-id, --secret-file): %w", err))
	}
	return c, keys, nil
}

// base is what the flags are added to: a connection file, a key store of the configuration, or
// nothing. What nobody named is only used if no flag says something else: a mixture of both would be
// a puzzle.
func (f *connectionFlags) base(ctx context.Context, warnings io.Writer) (connection, []string, error) {
	f.choice.accessKeyID = f.accessKeyID
	switch chosen := f.choice.file != "" || f.choice.store != ""; {
	case chosen && f.file != "":
		return connection{}, nil, usageError(errors.New("--connection and --config both say where the proxy is: give one"))
	case chosen:
		c, err := f.configured(ctx, warnings)
		return c, nil, err
	case f.file != "":
		return readBase(f.file)
	case f.endpoint != "" || f.path != "" || f.accessKeyID != "" || f.secretFile != "" || f.ca != "":
		return connection{}, nil, nil
	}
	path := filepath.Join(defaultDemoDirectory, connectionFileName)
	_, err := os.Stat(path)
	if !errors.Is(err, os.ErrNotExist) {
		return readBase(path)
	}
	_, err = f.choice.find()
	if errors.Is(err, os.ErrNotExist) {
		return connection{}, nil, usageError(fmt.Errorf("no proxy to ask: there is no %s here, and no %s; "+
			"give --config FILE and --key-store NAME, or --connection FILE, or --endpoint, --path, --access-key-id and --secret-file",
			path, defaultConfigFile))
	}
	c, err := f.configured(ctx, warnings)
	return c, nil, err
}

func readBase(path string) (connection, []string, error) {
	c, err := readConnectionFile(path)
	if err != nil {
		return connection{}, nil, usageError(fmt.Errorf("--connection: %w", err))
	}
	return c.connection(), c.Keys, nil
}

func override(value *string, flag string) {
	if flag != "" {
		*value = flag
	}
}

// checkEndpoint takes https://name[:port], and name[:port] alone.
func checkEndpoint(endpoint string) (string, error) {
	if endpoint == "" {
		return "", errors.New("no proxy to ask: give --endpoint https://NAME:PORT")
	}
	if !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return "", fmt.Errorf("the endpoint %q is not of the form https://NAME:PORT", endpoint)
	}
	return "https://" + u.Host, nil
}

// completePath makes an XksProxyUriPath of a path prefix.
func completePath(path string) string {
	path = strings.TrimSuffix(path, "/")
	if path != "" && !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if strings.HasSuffix(path, xks.URIPath("")) {
		return path
	}
	return xks.URIPath(path)
}

package xksclient

// Where requests go and who signs them: connection.json as the demo writes it (or
// the file that AWS's console imports), and the flags that stand in for it.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/guarded"
	"xks-proxy/internal/secret"
	"xks-proxy/pkg/xks"
)

const (
	FileName      = "connection.json"
	DefaultRegion = "us-east-1"
)

// ConnectionFile is a key store for its clients. The first three fields are named as AWS names them
// (requirement A10); the others are for tests and tools. It holds a secret: its mode is 0600.
type ConnectionFile struct {
	Endpoint      string            `json:"XksProxyUriEndpoint"`
	URIPath       string            `json:"XksProxyUriPath"`
	Credential    ConnectionSecret  `json:"XksProxyAuthenticationCredential"`
	Region        string            `json:"region"`
	CACertificate string            `json:"caCertificate"`
	Keys          []string          `json:"keys"`                  // external key ids that encrypt and decrypt
	SpecialKeys   map[string]string `json:"specialKeys,omitempty"` // the external key ids of keys that can only encrypt, only decrypt, or neither
	HSMs          []ConnectionHSM   `json:"hsms,omitempty"`
	Listen        string            `json:"listen,omitempty"` // server.listen of the configuration
	Health        string            `json:"health,omitempty"` // health.listen of the configuration
}

// ConnectionSecret is the access key that signs. It prints without its secret.
type ConnectionSecret struct {
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string `json:"RawSecretAccessKey"`
}

// String keeps the secret out of whatever prints the file's content.
func (c ConnectionSecret) String() string { return c.AccessKeyID + " " + secret.Redacted }

// GoString is String for %#v.
func (c ConnectionSecret) GoString() string { return c.String() }

// ConnectionHSM is one token of the demo.
type ConnectionHSM struct {
	Name         string `json:"name"`
	Module       string `json:"module"`
	Token        string `json:"token"`
	SoftHSM2Conf string `json:"softhsm2Conf"`
	PINFile      string `json:"pinFile"`
}

// ReadConnectionFile reads a file that holds a secret: it must be private.
func ReadConnectionFile(path string) (*ConnectionFile, error) {
	f, err := guarded.OpenPrivate(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, schema.MaxConfigSize))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", path, err)
	}
	var c ConnectionFile
	err = json.Unmarshal(data, &c)
	if err != nil {
		return nil, fmt.Errorf("%s is not the JSON of a connection: %w", path, err)
	}
	if c.CACertificate != "" {
		c.CACertificate = guarded.ResolvePath(filepath.Dir(path), c.CACertificate)
	}
	return &c, nil
}

// Connection is what a client needs of the file.
func (c *ConnectionFile) Connection() Connection {
	return Connection{
		Endpoint: c.Endpoint, URIPath: c.URIPath, Region: c.Region,
		AccessKeyID: c.Credential.AccessKeyID, SecretAccessKey: secret.New(c.Credential.SecretAccessKey),
		CACertificates: compact(c.CACertificate),
	}
}

// compact leaves out empty texts.
func compact(texts ...string) []string {
	return slices.DeleteFunc(texts, func(text string) bool { return text == "" })
}

// CheckEndpoint takes https://name[:port], and name[:port] alone.
func CheckEndpoint(endpoint string) (string, error) {
	if endpoint == "" {
		return "", errors.New("no proxy to ask: give --endpoint https://NAME:PORT")
	}
	if !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" || strings.Trim(u.Path, "/") != "" ||
		u.RawQuery != "" ||
		u.User != nil {
		return "", fmt.Errorf("the endpoint %q is not of the form https://NAME:PORT", endpoint)
	}
	return "https://" + u.Host, nil
}

// CompletePath makes an XksProxyUriPath of a path prefix.
func CompletePath(path string) string {
	path = strings.TrimSuffix(path, "/")
	if path != "" && !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if strings.HasSuffix(path, xks.URIPath("")) {
		return path
	}
	return xks.URIPath(path)
}

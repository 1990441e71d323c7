// Package webconfig checks a file with TLS and passwords for a listener, in the form that the
// exporters of Prometheus share. github.com/prometheus/exporter-toolkit reads it at each handshake
// and request. This package checks it beforehand, so that a mistake has its place in the file.
package webconfig

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/bcrypt"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/guarded"
)

// webFile is such a file while it is checked.
type webFile struct {
	path   string
	key    string // of the configuration, which names the file
	root   *yaml.Node
	values web.Config
	report *schema.Report
	good   bool
}

// Check reports problems with the file at path, which a key of the configuration names, and warns
// if the file leaves the metrics unprotected. It does nothing if path is "" or the key has a
// problem.
func Check(r *schema.Report, key, path string) {
	if path == "" || r.Failed[key] {
		return
	}
	text, err := readPrivate(path)
	if err != nil {
		r.Errorf(key, "%v", err)
		return
	}
	f := &webFile{path: path, key: key, root: new(yaml.Node), report: r, good: true}
	err = yaml.Unmarshal(text, f.root)
	if err == nil {
		err = f.root.Decode(&f.values)
	}
	if err == nil { // or else the error of the library is better
		f.checkUsers()
		f.checkTLS()
	}
	if f.good {
		f.addErrors(web.Validate(path))
	}
}

// readPrivate reads a file that only owner and group can read.
func readPrivate(path string) ([]byte, error) {
	f, err := guarded.OpenPrivate(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, schema.MaxConfigSize))
}

// Files returns the paths of the certificate, its key and the client CAs that the file names; nil
// if it cannot be read.
func Files(path string) []string {
	text, err := readPrivate(path)
	if err != nil {
		return nil // reported by Check
	}
	var values web.Config
	err = yaml.Unmarshal(text, &values)
	if err != nil {
		return nil // likewise
	}
	t := values.TLSConfig
	t.SetDirectory(filepath.Dir(path))
	return []string{t.TLSCertPath, t.TLSKeyPath, t.ClientCAs}
}

// Places are the file and the private key that it names; the latter is left out of a file that
// cannot be read.
func Places(path string) []string {
	var named struct {
		TLS struct {
			Key string `yaml:"key_file"`
		} `yaml:"tls_server_config"`
	}
	text, err := os.ReadFile(path)
	if err != nil || yaml.Unmarshal(text, &named) != nil || named.TLS.Key == "" {
		return []string{path}
	}
	return []string{path, guarded.ResolvePath(filepath.Dir(path), named.TLS.Key)}
}

// errorf reports a mistake with the value of a key.
func (f *webFile) errorf(keys []string, format string, args ...any) {
	f.good = false
	at := schema.Origin{}
	if n := nodeAt(f.root, keys); n != nil {
		at = schema.Origin{Line: n.Line, Column: n.Column}
	}
	message := fmt.Sprintf(format, args...)
	p := schema.Problem{File: f.path, Origin: at, Path: strings.Join(keys, "."), Message: message}
	f.report.Problems = append(f.report.Problems, p)
}

// nodeAt is the value of a key, or the nearest above it that is there.
func nodeAt(n *yaml.Node, keys []string) *yaml.Node {
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	for i := 0; len(keys) > 0 && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == keys[0] {
			return nodeAt(n.Content[i+1], keys[1:])
		}
	}
	return n
}

// checkUsers looks for passwords in the place of their hashes.
func (f *webFile) checkUsers() {
	for name, hash := range f.values.Users {
		_, err := bcrypt.Cost([]byte(hash))
		if err != nil {
			f.errorf([]string{"basic_auth_users", name}, "the value is not a bcrypt hash "+
				"of the password; make one with: htpasswd -nBC 10 \"\" | tr -d ':\\n'")
		}
	}
}

// checkTLS requires TLS, with files that can be used and a private key.
func (f *webFile) checkTLS() {
	const section = "tls_server_config"
	t := f.values.TLSConfig
	if !t.IsEnabled() {
		f.errorf(nil, "%s is missing: passwords and metrics would cross the network readable; "+
			"give it cert_file and key_file", section)
		return
	}
	t.SetDirectory(filepath.Dir(f.path))
	if t.TLSCertPath != "" {
		err := guarded.CheckReadable(t.TLSCertPath)
		if err != nil {
			f.errorf([]string{section, "cert_file"}, "%v", err)
		}
	}
	if t.TLSKeyPath != "" {
		key, err := guarded.OpenPrivate(t.TLSKeyPath)
		if err != nil {
			f.errorf([]string{section, "key_file"}, "%v", err)
		} else {
			_ = key.Close() // nothing was written
		}
	}
	verified := t.ClientAuth == tls.RequireAndVerifyClientCert.String()
	if verified && t.ClientCAs == "" && t.ClientCAsText == "" {
		f.errorf([]string{section, "client_auth_type"}, "needs client_ca_file: without it a "+
			"certificate of any public CA would do")
	}
	if t.ClientCAs != "" {
		bundle, err := guarded.ReadLimited(t.ClientCAs, schema.MaxConfigSize)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(bundle) {
			err = fmt.Errorf("%s holds no certificate", t.ClientCAs)
		}
		if err != nil {
			f.errorf([]string{section, "client_ca_file"}, "%v", err)
		}
	}
	f.warn(verified)
}

// warn warns of settings that leave the metrics open. verified: clients need a certificate.
func (f *webFile) warn(verified bool) {
	switch {
	case !verified && len(f.values.Users) == 0:
		f.report.Warnf(f.key, "%s asks for neither a password (basic_auth_users) nor "+
			"a client certificate (client_auth_type: RequireAndVerifyClientCert): "+
			"anybody can read the metrics", f.path)
	case !verified && f.values.RateLimiterConfig.Interval == 0:
		f.report.Warnf(f.key, "%s has no rate_limit: each wrong password costs tens of "+
			"milliseconds of processor time; add rate_limit: {burst: 10, interval: 1s}", f.path)
	}
}

var (
	webLine    = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)
	webUnknown = regexp.MustCompile(`^field (.*) not found in type \S+$`)
	webType    = regexp.MustCompile(`(?s)^cannot unmarshal (\S+) .*into \S+$`)
	quoted     = regexp.MustCompile("`[^`]*`") // may be part of a secret
)

// HideValues replaces what the library quotes of the file, which may be part of a secret.
func HideValues(message string) string { return quoted.ReplaceAllString(message, "(not shown)") }

// addErrors takes over what the library says, each line with its place.
func (f *webFile) addErrors(err error) {
	if err == nil {
		return
	}
	text := strings.TrimPrefix(err.Error(), "yaml: unmarshal errors:\n")
	for line := range strings.Lines(text) {
		p := schema.Problem{File: f.path, Message: strings.TrimSpace(line)}
		if m := webLine.FindStringSubmatch(p.Message); m != nil {
			p.Origin.Line, _ = strconv.Atoi(m[1]) // fails only for a number too large to be a line
			p.Message = m[2]
		}
		if m := webUnknown.FindStringSubmatch(p.Message); m != nil {
			p.Message = "unknown key " + schema.QuoteName(m[1])
		}
		if m := webType.FindStringSubmatch(p.Message); m != nil {
			p.Message = "a value of this type (" + m[1] + ") cannot stand here"
		}
		p.Message = HideValues(p.Message)
		f.report.Problems = append(f.report.Problems, p)
	}
}

package xks

// The rules of single settings of a key store. They stand here once: Config.Validate applies them,
// and so does what reads a configuration file.

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strings"
)

const (
	apiPath    = "/kms/xks/v1"
	minURIPath = 10
	maxURIPath = 128

	// MaxPathPrefix is the longest path prefix in bytes (requirement U1).
	MaxPathPrefix = maxURIPath - len(apiPath)

	maxHost = 253 // bytes; RFC 1035 section 2.3.4, without the dot at the end
)

var (
	uriPath = regexp.MustCompile(`^(/[a-zA-Z0-9/_-]+)?/kms/xks/v1$`)

	// hostName is a DNS name in lower case (RFC 1123 section 2.1).
	hostName = regexp.MustCompile(
		`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)
	numberLast = regexp.MustCompile(`(^|\.)[0-9]+$`)
)

// ErrEmptySegment is the error of CheckPathPrefix about a path that AWS takes and the proxy does
// not.
var ErrEmptySegment = errors.New(
	"has an empty segment: AWS would take it, but requests to such paths are refused (U5)")

// CheckPathPrefix returns an error if AWS would not accept the prefix as part of an XksProxyUriPath
// (requirement U1), and ErrEmptySegment if AWS would, but requests below it would be refused (U5).
func CheckPathPrefix(prefix string) error {
	full := prefix + apiPath
	if len(full) < minURIPath || len(full) > maxURIPath || !uriPath.MatchString(full) {
		return fmt.Errorf(
			"path prefix %q makes the XksProxyUriPath %q, "+
				"which is not %d to %d characters of the form %s",
			prefix, full, minURIPath, maxURIPath, uriPath,
		)
	}
	if strings.Contains(full, "//") {
		return fmt.Errorf("path prefix %q %w", prefix, ErrEmptySegment)
	}
	return nil
}

// URIPath returns the XksProxyUriPath of a path prefix.
func URIPath(prefix string) string { return prefix + apiPath }

// CheckHost returns an error, which begins with the host, unless AWS KMS can call it: a DNS name in
// lower case, without port and wildcard.
func CheckHost(host string) error {
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	switch {
	case err == nil || numberLast.MatchString(host):
		return fmt.Errorf("%q is an address; AWS KMS calls a name", host)
	case strings.Contains(host, "*"):
		return fmt.Errorf("%q has a wildcard; write each name out", host)
	case strings.Contains(host, ":"):
		return fmt.Errorf("%q has a port; write the name alone", host)
	case strings.ToLower(host) != host:
		return fmt.Errorf("%q has capitals; write it as %s", host, strings.ToLower(host))
	case len(host) > maxHost || !hostName.MatchString(host):
		return fmt.Errorf("%q is not a host name, such as xks.example.com", host)
	}
	return nil
}

// IsLabelPattern reports whether a text is a pattern of path.Match, as KeyStoreConfig.Labels has
// them.
func IsLabelPattern(text string) bool {
	_, err := path.Match(text, "")
	return err == nil
}

// KeyIDPlaceholder stands for the external key id in KeyStoreConfig.Label.
const KeyIDPlaceholder = "{key_id}"

// IsLabelTemplate reports whether a text has the place of the external key id once, as
// KeyStoreConfig.Label must.
func IsLabelTemplate(text string) bool { return strings.Count(text, KeyIDPlaceholder) == 1 }

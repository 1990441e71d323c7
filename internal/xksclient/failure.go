package xksclient

// What can go wrong with a request, in words: no reply at all, and why; or a reply
// that is an error, what its name means and what to do.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// UnreachableError says that there was no reply.
type UnreachableError struct {
	what  string // one sentence: what failed and what to do
	cause error
}

func (e *UnreachableError) Error() string { return e.what }

func (e *UnreachableError) Unwrap() error { return e.cause }

// unreachable says in plain words why a request got no reply.
func unreachable(to Connection, timeout time.Duration, err error) error {
	return &UnreachableError{
		what:  unreachableReason(to.host(), strings.Join(to.CACertificates, ", "), timeout, err),
		cause: err,
	}
}

func unreachableReason(host, ca string, timeout time.Duration, err error) string {
	var noName *net.DNSError
	var otherName x509.HostnameError
	var unknownCA x509.UnknownAuthorityError
	var badCertificate x509.CertificateInvalidError
	var noTLS tls.RecordHeaderError
	var alert tls.AlertError
	var timedOut net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("connection refused: nothing listens at %s; is the proxy running?", host)
	case errors.As(err, &noName):
		return fmt.Sprintf("the name %q has no address: %s", noName.Name, noName.Err)
	case errors.As(err, &otherName):
		return fmt.Sprintf(
			"name mismatch: the certificate at %s is not for %q but for %s",
			host,
			otherName.Host,
			certificateNames(otherName.Certificate),
		)
	case errors.As(err, &unknownCA) && ca != "":
		return fmt.Sprintf(
			"unknown CA: the certificate at %s is neither in %s nor signed by a CA there",
			host,
			ca,
		)
	case errors.As(err, &unknownCA):
		return fmt.Sprintf(
			"unknown CA: this machine does not trust the one that signed the certificate at %s; name its PEM file with --ca",
			host,
		)
	case errors.As(err, &badCertificate) && badCertificate.Reason == x509.Expired:
		return fmt.Sprintf(
			"the certificate at %s is out of date: valid from %s to %s",
			host,
			badCertificate.Cert.NotBefore.UTC().
				Format(time.DateOnly),
			badCertificate.Cert.NotAfter.UTC().Format(time.DateOnly),
		)
	case errors.As(err, &noTLS), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Sprintf("what listens at %s does not speak TLS", host)
	case errors.As(err, &alert):
		return fmt.Sprintf("%s ended the TLS handshake: %s", host, alert.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timedOut) && timedOut.Timeout():
		return fmt.Sprintf("timeout: no reply from %s within %s", host, timeout)
	case errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET):
		return fmt.Sprintf("%s closed the connection without a reply", host)
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // without the method and the URL
	}
	return fmt.Sprintf("no reply from %s: %v", host, err)
}

func certificateNames(c *x509.Certificate) string {
	names := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "any name"
	}
	return fmt.Sprint(names)
}

// Error is a reply that is not a success.
type Error struct {
	Status  int
	Name    string // errorName; "" if the body is not of the API
	Message string
	cause   error // why the body could not be read; nil otherwise
}

func (e *Error) Error() string {
	if e.Name == "" {
		return fmt.Sprintf(
			"the reply (HTTP %d) is not of the XKS Proxy API: does something stand between, or is --path wrong?",
			e.Status,
		)
	}
	return fmt.Sprintf("the proxy answered %s (HTTP %d)", e.Name, e.Status)
}

func (e *Error) Unwrap() error { return e.cause }

// errorOf reads the body of an error reply (requirement X1).
func errorOf(r *Reply) *Error {
	var body struct {
		Name    string `json:"errorName"`
		Message string `json:"errorMessage"`
	}
	err := json.Unmarshal(r.Body, &body)
	if err != nil {
		return &Error{Status: r.Status, cause: err}
	}
	return &Error{Status: r.Status, Name: body.Name, Message: body.Message}
}

// Advice says what an error name means and what to do, one line each.
var Advice = map[string]string{
	"ValidationException":           "The proxy could not make sense of the request; the message says why.",
	"InvalidStateException":         "The key is disabled or not on every HSM, or the key store is blocked.",
	"InvalidCiphertextException":    "These bytes do not belong together: give the key and the AAD of the encrypt.",
	"InvalidKeyUsageException":      "CKA_ENCRYPT or CKA_DECRYPT of the key is false on an HSM, or it is not AES-256.",
	"AuthenticationFailedException": "Access key id, secret, region or clock is wrong; the proxy's log says which.",
	"AccessDeniedException":         "The proxy's policy denies this. Its log names the statement that did.",
	"KeyNotFoundException":          "No HSM has a key with that label, or key_stores.keys.labels leaves it out.",
	"InvalidUriPathException":       "No key store is served here: compare --path with path_prefix in the configuration.",
	"ThrottlingException":           "The proxy has more requests than it can serve in time. Try again, slower.",
	"InternalException":             "The proxy or its HSMs failed. Its log says what; find it by the request id.",
	"UnsupportedOperationException": "Unknown algorithm, or an input longer than the proxy or an HSM takes.",
	"DependencyTimeoutException":    "The HSMs did not answer in time. Run: xks-proxy request health",
}

// AdviceOn is one line, or nothing for an error that says it all itself.
func AdviceOn(err error) string {
	var refused *Error
	if !errors.As(err, &refused) || Advice[refused.Name] == "" {
		return ""
	}
	return Advice[refused.Name] + "\n"
}

// Label is the name of the error, for counting.
func (e *Error) Label() string {
	if e.Name != "" {
		return e.Name
	}
	return fmt.Sprintf("HTTP %d", e.Status)
}

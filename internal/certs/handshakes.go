package certs

// Failed handshakes: each is counted by reason. Those that an operator can fix are logged. Anyone
// can cause them, so their lines share the limit log.unauthenticated_per_second.

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"

	"go.uber.org/zap"
)

// HandshakeReason is why a handshake failed; a label value.
type HandshakeReason string

// The reasons for which handshakes fail.
const (
	// FailedCertificate: the client refuses our certificate because it has expired, comes from a CA
	// that the client does not trust, lacks its intermediates, or is for another name.
	FailedCertificate HandshakeReason = "certificate_refused_by_client"
	FailedVersion     HandshakeReason = "tls_version" // no common version of TLS
	FailedCipher      HandshakeReason = "no_common_cipher"
	FailedProtocol    HandshakeReason = "no_common_protocol" // of ALPN
	FailedPlainHTTP   HandshakeReason = "plain_http"
	FailedNotTLS      HandshakeReason = "not_tls"
	FailedClient      HandshakeReason = "client_certificate" // counted by its own reason as well
	FailedClosed      HandshakeReason = "closed"             // the client went away
	failedTimeout     HandshakeReason = "timeout"
	failedOther       HandshakeReason = "other"
)

// HandshakeReasons are all reasons.
var HandshakeReasons = []HandshakeReason{
	FailedCertificate, FailedVersion, FailedCipher, FailedProtocol, FailedPlainHTTP, FailedNotTLS,
	FailedClient, FailedClosed, failedTimeout, failedOther,
}

// HandshakeLine has the log message of each reason. Reasons without one are debug lines of
// net/http, because load balancers and port scanners connect and send nothing all day. Refused
// client certificates have a line of their own.
var HandshakeLine = map[HandshakeReason]string{
	FailedCertificate: "a client refused the certificate of this proxy",
	FailedVersion:     "a client speaks only versions of TLS that this proxy refuses",
	FailedCipher:      "a client has no cipher suite or key exchange in common with this proxy",
	FailedProtocol:    "a client has no protocol (ALPN) in common with this proxy",
	FailedPlainHTTP:   "a client sent HTTP to an HTTPS port",
	FailedNotTLS:      "a client sent something other than TLS to an HTTPS port",
	failedOther:       "a TLS handshake failed",
}

// alertReasons are the alerts of clients (RFC 8446 section 6), by number.
var alertReasons = map[tls.AlertError]HandshakeReason{
	42:  FailedCertificate, // bad_certificate
	43:  FailedCertificate, // unsupported_certificate
	44:  FailedCertificate, // certificate_revoked
	45:  FailedCertificate, // certificate_expired
	46:  FailedCertificate, // certificate_unknown
	48:  FailedCertificate, // unknown_ca
	49:  FailedCertificate, // access_denied
	70:  FailedVersion,     // protocol_version
	40:  FailedCipher,      // handshake_failure
	71:  FailedCipher,      // insufficient_security
	120: FailedProtocol,    // no_application_protocol
	0:   FailedClosed,      // close_notify
	90:  FailedClosed,      // user_canceled
}

// badRecordMAC is our alert. Over TLS 1.3, OpenSSL (and so curl) refuses a certificate with an
// alert that it has not encrypted, which crypto/tls takes for a record that was tampered with.
const badRecordMAC tls.AlertError = 20

// alertReason finds an alert by its text: the type of the error that crypto/tls returns is private,
// and says the same as this one.
func alertReason(alert error) HandshakeReason {
	for number, reason := range alertReasons {
		if number.Error() == alert.Error() {
			return reason
		}
	}
	return failedOther
}

// Handshakes counts failed handshakes since the start. The map is immutable.
type Handshakes struct {
	strangers func(reason string) *zap.Logger // returns nil if the line is only counted
	Refusals  *ClientRefusals
	Failed    map[HandshakeReason]*atomic.Int64
}

func newHandshakes(log *zap.Logger, strangers func(reason string) *zap.Logger) *Handshakes {
	h := &Handshakes{
		strangers: strangers, Refusals: newClientRefusals(log),
		Failed: map[HandshakeReason]*atomic.Int64{},
	}
	for _, reason := range HandshakeReasons {
		h.Failed[reason] = new(atomic.Int64)
	}
	return h
}

// ConnState counts a failed handshake, as http.Server.ConnState. When a connection ends, crypto/tls
// still has the error of its handshake, and the connection has its remote address.
func (h *Handshakes) ConnState(c net.Conn, state http.ConnState) {
	secure, ok := c.(*tls.Conn)
	if !ok || state != http.StateClosed {
		return
	}
	err := asRefusal(secure.HandshakeContext(context.Background())) // it does not begin another
	if err == nil {
		return
	}
	reason := handshakeReasonOf(err)
	h.Failed[reason].Add(1)
	var refusal *clientRefusal
	if errors.As(err, &refusal) {
		h.Refusals.add(refusal, c.RemoteAddr())
		return
	}
	h.log(reason, err, secure)
}

// Bounds of what an unauthenticated client can write to the log, in bytes.
const (
	maxHandshakeDetail = 200
	maxHandshakeName   = 100
)

func (h *Handshakes) log(reason HandshakeReason, err error, c *tls.Conn) {
	line, logged := HandshakeLine[reason]
	if !logged {
		return
	}
	log := h.strangers("tls_" + string(reason))
	if log == nil {
		return
	}
	detail, name := err.Error(), c.ConnectionState().ServerName
	log.Info(line, zap.String("reason", string(reason)), zap.Stringer("remote", c.RemoteAddr()),
		zap.String("server_name", name[:min(len(name), maxHandshakeName)]),
		zap.String("detail", detail[:min(len(detail), maxHandshakeDetail)]))
}

// handshakeReasonOf reads the error of crypto/tls. Most have no type: a test holds the texts
// against the library.
func handshakeReasonOf(err error) HandshakeReason {
	var record tls.RecordHeaderError
	var refusal *clientRefusal
	var alert *net.OpError
	switch {
	case errors.As(err, &refusal):
		return FailedClient
	case errors.As(err, &record) && looksLikeHTTP(record.RecordHeader):
		return FailedPlainHTTP
	case errors.As(err, &record):
		return FailedNotTLS
	case errors.As(err, &alert) && alert.Op == "local error" &&
		alert.Err.Error() == badRecordMAC.Error():
		return FailedCertificate
	case errors.As(err, &alert) && alert.Op == "remote error":
		return alertReason(alert.Err)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return failedTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return FailedClosed
	}
	return textReason(err.Error())
}

func textReason(text string) HandshakeReason {
	for begin, reason := range map[string]HandshakeReason{
		"tls: client offered only unsupported versions":          FailedVersion,
		"tls: client using inappropriate protocol fallback":      FailedVersion,
		"tls: no cipher suite supported by both":                 FailedCipher,
		"tls: no key exchanges supported by both":                FailedCipher,
		"tls: peer doesn't support any of the certificate's sig": FailedCipher,
		"tls: client requested unsupported application proto":    FailedProtocol,
	} {
		if strings.HasPrefix(text, begin) {
			return reason
		}
	}
	return failedOther
}

// looksLikeHTTP knows the beginnings of requests, and of an HTTP/2 connection, in the five bytes of
// a record's header.
func looksLikeHTTP(header [5]byte) bool {
	for _, method := range []string{
		"GET ", "HEAD ", "POST ", "PUT ", "DELET", "OPTIO", "PATCH", "CONNE", "TRACE", "PRI *",
	} {
		if strings.HasPrefix(string(header[:]), method) {
			return true
		}
	}
	return false
}

// This file has the causes of a refusal, and the error that carries one.

package sigv4

import "fmt"

// Cause is why a request was refused: short, fixed text that fits a metric label.
type Cause string

// The causes, roughly in the order in which Verify checks them.
const (
	// The request has no Authorization header.
	CauseMissingAuthorization Cause = "missing_authorization"
	// The request has several Authorization headers, or one that is not well-formed.
	CauseMalformedAuthorization Cause = "malformed_authorization"
	// The scheme is not AWS4-HMAC-SHA256.
	CauseUnsupportedAlgorithm Cause = "unsupported_algorithm"
	// A header that must be signed is not signed, or a signed header is absent.
	CauseMissingSignedHeader Cause = "missing_signed_header"
	// The request has control characters where HTTP allows none.
	CauseMalformedRequest Cause = "malformed_request"
	// The request has a query; the XKS API has none (U5).
	CauseQueryNotEmpty Cause = "query_not_empty"
	// The credential scope has another service or terminator.
	CauseWrongScope Cause = "wrong_scope"
	// The region of the credential scope is not in Config.Regions.
	CauseRegionNotAccepted Cause = "region_not_accepted"
	// X-Amz-Date is not one date of the form YYYYMMDDTHHMMSSZ.
	CauseMalformedDate Cause = "malformed_date"
	// The credential scope has another day than X-Amz-Date.
	CauseDateMismatch Cause = "date_mismatch"
	// The signature is too old, or from the future (A3).
	CauseClockSkew Cause = "clock_skew"
	// X-Amz-Content-Sha256 is not the hash of the body (A2).
	CausePayloadHashMismatch Cause = "payload_hash_mismatch"
	// The key store has no such credential.
	CauseUnknownAccessKey Cause = "unknown_access_key"
	// The client has another secret, or the request was changed on its way.
	CauseSignatureMismatch Cause = "signature_mismatch"
)

// Failure is the type of all errors of Verify. It contains no secret and no signature. It is for
// the operator's log and never for the caller of the API (X6).
type Failure struct {
	Cause Cause
	// Detail is one sentence for the operator. What it quotes from the request is escaped and
	// bounded.
	Detail string
	// AccessKeyID is the one that the request claims, without proof; "" unless it has the form of
	// A6. (That form is too short for a secret, so the secret of a client that swapped the two does
	// not get into a log.)
	AccessKeyID string
}

// Error implements error: the cause and the detail.
func (f *Failure) Error() string {
	return fmt.Sprintf("sigv4: %s: %s", f.Cause, f.Detail)
}

func fail(cause Cause, format string, args ...any) *Failure {
	return &Failure{Cause: cause, Detail: fmt.Sprintf(format, args...)}
}

// excerpt shortens what a Detail quotes from a request to 128 bytes.
func excerpt(value string) string {
	const most = 128
	if len(value) > most {
		return value[:most] + "…"
	}
	return value
}

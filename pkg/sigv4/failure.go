// This file says why a request was refused: the causes, and the error that carries one.

package sigv4

import "fmt"

// Cause is why a request was refused. It is short, fixed text: fit for a metric label.
type Cause string

// The causes, roughly in the order in which Verify looks for them.
const (
	CauseMissingAuthorization   Cause = "missing_authorization"   // no Authorization header
	CauseMalformedAuthorization Cause = "malformed_authorization" // several of them, or one that is not well-formed
	CauseUnsupportedAlgorithm   Cause = "unsupported_algorithm"   // not AWS4-HMAC-SHA256
	CauseMissingSignedHeader    Cause = "missing_signed_header"   // a header that must be signed is not, or a signed one is absent
	CauseMalformedRequest       Cause = "malformed_request"       // control characters where HTTP allows none
	CauseQueryNotEmpty          Cause = "query_not_empty"         // the XKS API has no query (U5)
	CauseWrongScope             Cause = "wrong_scope"             // another service or terminator
	CauseRegionNotAccepted      Cause = "region_not_accepted"     // not among Config.Regions
	CauseMalformedDate          Cause = "malformed_date"          // x-amz-date is not one date of the form YYYYMMDDTHHMMSSZ
	CauseDateMismatch           Cause = "date_mismatch"           // the scope names another day than x-amz-date
	CauseClockSkew              Cause = "clock_skew"              // too old, or from the future (A3)
	CausePayloadHashMismatch    Cause = "payload_hash_mismatch"   // x-amz-content-sha256 is not the body's hash (A2)
	CauseUnknownAccessKey       Cause = "unknown_access_key"      // no credential of this key store
	CauseSignatureMismatch      Cause = "signature_mismatch"      // wrong secret, or the request was changed on its way
)

// Failure is every error of Verify. It carries no secret and no signature. It is for the operator's
// log, never for the caller of the API (X6).
type Failure struct {
	Cause Cause
	// Detail is one sentence for the operator. What it quotes from the request is escaped and
	// bounded.
	Detail string
	// AccessKeyID is the one the request claims, unproven; "" unless it has the form of A6. (That
	// form is too short for a secret, so a client that swapped the two does not get its secret into
	// a log.)
	AccessKeyID string
}

// Error gives the cause and the detail.
func (f *Failure) Error() string {
	return fmt.Sprintf("sigv4: %s: %s", f.Cause, f.Detail)
}

func fail(cause Cause, format string, args ...any) *Failure {
	return &Failure{Cause: cause, Detail: fmt.Sprintf(format, args...)}
}

// excerpt bounds what a Detail quotes from a request.
func excerpt(value string) string {
	const most = 128
	if len(value) > most {
		return value[:most] + "…"
	}
	return value
}

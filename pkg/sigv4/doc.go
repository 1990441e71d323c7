// This file is the package's documentation.

// Package sigv4 verifies AWS Signature Version 4 (AWS4-HMAC-SHA256) on a request as it was
// received. It is the only thing between the network and the keys of a key store, so it is strict:
// whatever AWS clients do not send is refused.
//
// A [Verifier] holds the credentials of one key store. [Verifier.Verify] takes the request's bytes
// ([Request]) and the time, and answers who signed ([Identity]) or why it was refused ([Failure]).
// The cause is for the log and for a metric; the caller of the API gets the same 401 whatever it
// was (requirement A4).
//
// Sources: XKS Proxy API Specification 1.0.3, "Authentication" and Appendix A; AWS General
// Reference, "Signature Version 4 signing process". Requirements A1–A6, A9, U5 and X6.
//
// What a signature covers here:
// - the method, the raw path, an empty query (a request with a query is refused), the SHA-256 of
// the body as received; - the headers that the client chose to sign: at least host (or :authority)
// and x-amz-date. Values have spaces and tabs trimmed at both ends
//
//	and runs of spaces collapsed to one; several values of one name are joined by commas.
//
// A header that net/http takes away before a handler sees it (Transfer-Encoding, Trailer) cannot be
// verified; a request that signs one is refused.
package sigv4

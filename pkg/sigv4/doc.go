// This file is the package's documentation.

// Package sigv4 verifies AWS Signature Version 4 (AWS4-HMAC-SHA256) on a request as it was
// received. It alone stands between the network and the keys of a key store. So it is strict: it
// refuses whatever AWS clients do not send.
//
// A [Verifier] holds the credentials of one key store. [Verifier.Verify] takes the request's bytes
// ([Request]) and the time, and returns who signed ([Identity]) or why the request is refused
// ([Failure]). The cause is for the log and for a metric. The caller of the API gets the same 401
// for each cause (requirement A4).
//
// Sources: XKS Proxy API Specification 1.0.3, "Authentication" and Appendix A; AWS General
// Reference, "Signature Version 4 signing process". Requirements A1–A6, A9, U5 and X6.
//
// A signature covers:
//
//   - the method, the raw path, an empty query (a request with a query is refused), and the SHA-256
//     of the body as received;
//   - the headers that the client chose to sign, at least host (or :authority) and x-amz-date.
//     Values have spaces and tabs trimmed at both ends and runs of spaces collapsed to one. Several
//     values of one name are joined by commas.
//
// A header that net/http removes before a handler sees it (Transfer-Encoding, Trailer) cannot be
// verified. A request that signs one is refused.
package sigv4

// This file is the package's documentation.

// Package authz decides whether an authenticated request may use a key: the secondary authorization
// of the XKS Proxy API (requirements Z1 to Z4), by policies in the Cedar language.
//
// [Load] reads policy files and checks them against the schema (xks-proxy.cedarschema). [Policies]
// is immutable: a reload is another value. [Policies.Decide] answers one [Request]; it does no I/O
// and may be called from many goroutines.
//
// # It fails closed
//
// Cedar skips a policy that cannot be evaluated. For a forbid that would turn a deny into an allow
// (Z3), so here:
//
//   - a forbid whose evaluation fails denies; a permit whose evaluation fails does not match;
//
// - a policy that reads what the request carries in no readable form (an ARN that is not an ARN,
// text over 2048 bytes or with control characters, a required field that is absent) is not
// evaluated at all: a forbid applies, a permit does not match. So a principal that cannot be
// understood is never let in by a policy that names accounts or roles, and never gets
//
//	around a forbid that does;
//
// - an optional field that is absent is no such case: `context has vpce` is false, and the type
// checker insists that it is asked.
//
// GetHealthStatus is not subject to policies (H3). A key store without policies has no secondary
// authorization: its caller does not call this package.
package authz

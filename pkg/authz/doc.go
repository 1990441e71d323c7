// This file is the package's documentation.

// Package authz decides whether an authenticated request may use a key: the secondary authorization
// of the XKS Proxy API (requirements Z1 to Z4), with policies in the Cedar language.
//
// [Load] reads policy files and checks them against the schema (xks-proxy.cedarschema). [Policies]
// is immutable: a reload makes another value. [Policies.Decide] decides one [Request]. It does no
// I/O and is safe for concurrent use.
//
// # It fails closed
//
// Cedar skips a policy that cannot be evaluated. For a forbid, that would turn a denial into a
// permission (Z3). So here:
//
//   - A forbid whose evaluation fails denies. A permit whose evaluation fails does not match.
//   - A policy that reads something unreadable in the request is not evaluated: a forbid applies, a
//     permit does not match. Unreadable are an ARN that is malformed, text over 2048 bytes or with
//     control characters, and a required field that is absent. So a principal that cannot be
//     understood is never permitted by a policy that names accounts or roles, and never escapes a
//     forbid that does.
//   - An absent optional field is not unreadable: `context has vpce` is false, and the type checker
//     insists on that question.
//
// GetHealthStatus is not subject to policies (H3). A key store without policies has no secondary
// authorization: its caller does not use this package.
package authz

// Package policy is "xks-proxy policy": it checks policies, and asks them about requests, without a
// running proxy.
package policy

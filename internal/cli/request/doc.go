// Package request is "xks-proxy request": it sends signed requests to a proxy, as AWS KMS would.
package request

// Package xksclient is a signed client of the XKS Proxy API, and the file that says where a proxy
// is.
package xksclient

// Package certs reads the certificates and client CAs that a configuration names, chooses the
// certificate for a connection (SNI), checks client certificates, and watches when they expire.
package certs

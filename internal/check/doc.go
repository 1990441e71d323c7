// Package check finds what can be known of a configuration without serving it: files, libraries,
// secrets, and whether the user that the proxy runs as can use them.
package check

// Package cli is the command line: a small file for each command, which turns flags into one call
// and prints the result.
package cli

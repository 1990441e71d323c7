// Package loosening finds what protection a change of the configuration takes away.
package loosening

// Package loosening finds the changes of a configuration that may let in what was refused before.
package loosening

// Package config is the configuration as types: it loads the file and the key store directory,
// fills in templates and defaults, checks what belongs together, and compares two configurations.
package config

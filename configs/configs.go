// Package configs holds the shipped configuration files as part of the program, so that `config
// example` prints the files beside this one.
package configs

import _ "embed"

// Proxy is the commented configuration, with every key in it.
//
//go:embed xks-proxy.yaml
var Proxy []byte

// KeyStore is a commented file of the key store directory.
//
//go:embed key_stores.d/payroll.yaml.example
var KeyStore []byte

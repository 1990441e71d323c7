package testkit

import (
	"regexp"
	"xks-proxy/configs"
)

// The configuration that is shipped.

// CommentedSetting is a setting at its default (or an example) in the commented
// configuration: no space after the #.
var CommentedSetting = regexp.MustCompile(`(?m)^( *)#([a-z0-9_]+:)`)

// ReadCommented is the commented configuration as it is shipped.
func ReadCommented() string { return string(configs.Proxy) }

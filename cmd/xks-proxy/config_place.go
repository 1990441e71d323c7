package main

// Where in the configuration a key stands.

import "strings"

// placeOf says where in the configuration a key stands.
func placeOf(c *config, path string) string {
	if c.source == nil {
		return path
	}
	file, key := c.source.locate(path) // of a tenant: in its own file
	return strings.TrimSuffix(problem{File: file, Origin: c.source.origin(path), Path: key}.String(), ": ")
}

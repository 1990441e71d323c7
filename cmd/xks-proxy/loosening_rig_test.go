package main

// The configuration on disk is compared with how it was.

import (
	"maps"
	"testing"
)

// readCompared is the configuration as it is on disk now.
func readCompared() (compared, error) {
	c, _, err := loadConfig("test.yaml")
	if err != nil {
		return compared{}, err
	}
	material, _, err := prepareTLS(c)
	if err != nil {
		return compared{}, err
	}
	return compared{config: c, rules: material.rules}, nil
}

// readAfter is readCompared as a reload sees it: what takes a restart is as it runs, and a port that
// is gone from the file stays open under its rule.
func readAfter(running compared) (compared, error) {
	c, _, err := loadConfig("test.yaml")
	if err != nil {
		return compared{}, err
	}
	wanted := c.Server.Listeners
	keepRunning(c, running.config)
	material, _, err := prepareTLS(withListeners(c, wanted))
	if err != nil {
		return compared{}, err
	}
	rules := maps.Clone(running.rules)
	maps.Copy(rules, material.rules)
	return compared{config: c, rules: rules}, nil
}

func mustCompare(t *testing.T) compared {
	t.Helper()
	c, err := readCompared()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

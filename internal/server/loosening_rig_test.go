package server

// The configuration on disk is compared with how it was.

import (
	"maps"
	"testing"

	"xks-proxy/internal/certs"
	"xks-proxy/internal/config"
	"xks-proxy/internal/loosening"
)

// readCompared is the configuration as it is on disk now.
func readCompared() (loosening.Compared, error) {
	c, _, err := config.Load("test.yaml")
	if err != nil {
		return loosening.Compared{}, err
	}
	material, _, err := certs.Prepare(c)
	if err != nil {
		return loosening.Compared{}, err
	}
	return loosening.Compared{Config: c, Rules: material.Rules}, nil
}

// readAfter is readCompared as a reload sees it: what takes a restart is as it runs, and a port that
// is gone from the file stays open under its rule.
func readAfter(running loosening.Compared) (loosening.Compared, error) {
	c, _, err := config.Load("test.yaml")
	if err != nil {
		return loosening.Compared{}, err
	}
	wanted := c.Server.Listeners
	keepRunning(c, running.Config)
	material, _, err := certs.Prepare(withListeners(c, wanted))
	if err != nil {
		return loosening.Compared{}, err
	}
	rules := maps.Clone(running.Rules)
	maps.Copy(rules, material.Rules)
	return loosening.Compared{Config: c, Rules: rules}, nil
}

func mustCompare(t *testing.T) loosening.Compared {
	t.Helper()
	c, err := readCompared()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

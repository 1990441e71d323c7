package server

// The settings that a running program cannot change: ports, sockets, where the log goes. A
// reload applies all else and keeps these as they are.

import (
	"reflect"
	"slices"
	"time"

	"xks-proxy/internal/config"
)

// restartSetting is one of them.
type restartSetting struct {
	key  string
	keep func(next, running *config.Config) bool // puts the running value into next; false if it is the same
}

var restartSettings = []restartSetting{
	fixed("server.listen", func(c *config.Config) *string { return &c.Server.Listen }),
	{"server.listeners", keepListeners},
	fixed("server.http2", func(c *config.Config) *bool { return &c.Server.HTTP2 }),
	fixed(
		"server.idle_timeout",
		func(c *config.Config) *time.Duration { return &c.Server.IdleTimeout },
	),
	fixed(
		"server.tcp_keep_alive",
		func(c *config.Config) *time.Duration { return &c.Server.TCPKeepAlive },
	),
	fixed(
		"server.read_header_timeout",
		func(c *config.Config) *time.Duration { return &c.Server.ReadHeaderTimeout },
	),
	fixed(
		"server.read_timeout",
		func(c *config.Config) *time.Duration { return &c.Server.ReadTimeout },
	),
	fixed(
		"server.max_connections",
		func(c *config.Config) *int { return &c.Server.MaxConnections },
	),
	fixed("health.listen", func(c *config.Config) *string { return &c.Health.Listen }),
	fixed("health.metrics", func(c *config.Config) *bool { return &c.Health.Metrics }),
	fixed("metrics.listen", func(c *config.Config) *string { return &c.Metrics.Listen }),
	fixed("metrics.web_config", func(c *config.Config) *string { return &c.Metrics.WebConfig }),
	fixed("admin.socket", func(c *config.Config) *string { return &c.Admin.Socket }),
	fixed("admin.group", func(c *config.Config) *string { return &c.Admin.Group }),
	fixed("log.format", func(c *config.Config) *string { return &c.Log.Format }),
	fixed("log.output", func(c *config.Config) *string { return &c.Log.Output }),
	fixed("state_directory", func(c *config.Config) *string { return &c.StateDirectory }),
}

func fixed[T comparable](key string, field func(*config.Config) *T) restartSetting {
	return restartSetting{key, func(next, running *config.Config) bool {
		if *field(next) == *field(running) {
			return false
		}
		*field(next) = *field(running)
		return true
	}}
}

// keepListeners: the addresses are fixed; the rules about client certificates are not. A port that
// next does not have keeps its rule, too.
func keepListeners(next, running *config.Config) bool {
	if reflect.DeepEqual(addresses(next), addresses(running)) {
		return false
	}
	kept := slices.Clone(running.Server.Listeners)
	for i := range kept {
		for _, wanted := range next.Server.Listeners {
			if wanted.Listen == kept[i].Listen {
				kept[i] = wanted
			}
		}
	}
	next.Server.Listeners = kept
	return true
}

// withListeners is next, which has the running ports, with the ports that its file wants: of these
// the CA bundles are read. Those of a port that the file does not have any more may be gone; it
// keeps its rule (certs.Holder).
func withListeners(next *config.Config, wanted []config.Listener) *config.Config {
	c := *next
	c.Server.Listeners = slices.DeleteFunc(
		slices.Clone(wanted),
		func(l config.Listener) bool { return l.Listen == c.Server.Listen },
	)
	return &c
}

func addresses(c *config.Config) []string {
	var list []string
	for _, l := range c.Server.Listeners {
		list = append(list, l.Listen)
	}
	return list
}

// keepRunning gives next the running values of what takes a restart, and names the keys that
// differed.
func keepRunning(next, running *config.Config) []string {
	var waits []string
	for _, s := range restartSettings {
		if s.keep(next, running) {
			waits = append(waits, s.key)
		}
	}
	return waits
}

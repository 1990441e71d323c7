package config

// Defaults that depend on other settings. They are part of the settings before anything is decoded
// or checked, so that what `config show` prints is what is in use.

import (
	"time"

	"xks-proxy/internal/config/schema"
)

// deriveDefaults fits the defaults to what is given.
func (l *Loaded) deriveDefaults() {
	l.deriveHealthMetrics()
	l.deriveBudgets()
}

// deriveHealthMetrics: with a listener of their own, the metrics are served there only.
func (l *Loaded) deriveHealthMetrics() {
	metrics, _ := l.Settings["metrics"].(map[string]any)
	health, ok := l.Settings["health"].(map[string]any)
	_, given := l.Report.Origins["health.metrics"]
	if listen, _ := metrics["listen"].(string); ok && listen != "" && !given {
		health["metrics"] = false
	}
}

// deriveBudgets lowers the defaults that are meant for the default budget to a smaller one.
func (l *Loaded) deriveBudgets() {
	server, ok := l.Settings["server"].(map[string]any)
	if !ok {
		return
	}
	budget, known := durationIn(server, "budget")
	if !known {
		return // it is wrong, and that is reported
	}
	l.lowerDefault(server, "max_queue_time", budget-1, budget/2)
	l.lowerDefault(server, "first_request_budget", budget, budget)
}

// lowerDefault replaces a default of the section server that is above most.
func (l *Loaded) lowerDefault(server map[string]any, key string, most, lower time.Duration) {
	_, given := l.Report.Origins[schema.JoinPath("server", key)]
	value, known := durationIn(server, key)
	if !given && known && value > most {
		server[key] = lower.String()
	}
}

func durationIn(settings map[string]any, key string) (time.Duration, bool) {
	text, ok := settings[key].(string)
	if !ok {
		return 0, false
	}
	d, err := schema.ParseDuration(text)
	return d, err == nil
}

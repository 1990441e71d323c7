// Package metrics collects what monitoring reads, in the format of Prometheus.
package metrics

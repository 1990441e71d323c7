// Package server is "xks-proxy serve": it starts the HSMs, listens, reloads, and ends in order.
package server

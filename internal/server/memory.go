package server

// How much memory the serving process trades for CPU.

import (
	"math"
	"os"
	"runtime/debug"
)

const (
	// serveGCPercent lets the heap grow to five times what is in use, and to 16 MiB in any case.
	// Little is in use for long (1 MiB, and what open connections need), so that with Go's default
	// the heap is collected every 4 MiB, some 350 requests. This costs 12 MiB and saved 3 to 13 %
	// of the CPU of a request in five of six load mixes; twice as much saved no more.
	serveGCPercent = 400

	// serveMemoryLimit bounds that, in bytes: near it the heap is collected sooner, as often as
	// need be. It limits no memory that is really in use.
	serveMemoryLimit = 1 << 30
)

// tuneMemory is for the serving process. GOGC and GOMEMLIMIT of the environment take precedence.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(serveGCPercent)
	}
	if debug.SetMemoryLimit(-1) == math.MaxInt64 { // none is set
		debug.SetMemoryLimit(serveMemoryLimit)
	}
}

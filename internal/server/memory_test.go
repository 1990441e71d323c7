package server

import (
	"math"
	"runtime/debug"
	"testing"
)

// What the environment says of memory counts; else serve says.
func TestTuneMemory(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(math.MaxInt64)
	defer func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) }()

	t.Setenv("GOGC", "100")
	debug.SetMemoryLimit(300 << 20) // as the runtime does for GOMEMLIMIT
	tuneMemory()
	if p, l := debug.SetGCPercent(100), debug.SetMemoryLimit(-1); p != 100 || l != 300<<20 {
		t.Errorf("with an environment: %d %%, %d bytes", p, l)
	}
	t.Setenv("GOGC", "")
	debug.SetMemoryLimit(math.MaxInt64)
	tuneMemory()
	if p, l := debug.SetGCPercent(100), debug.SetMemoryLimit(-1); p != serveGCPercent || l != serveMemoryLimit {
		t.Errorf("without: %d %%, %d bytes", p, l)
	}
}

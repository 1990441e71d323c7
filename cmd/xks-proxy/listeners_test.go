package main

// The limit on connections, where the system allows fewer open files than that takes.

import (
	"math"
	"testing"
)

func TestConnectionsFitTheOpenFiles(t *testing.T) {
	for _, test := range []struct {
		connections int
		files       uint64
		want        int
	}{
		{10_000, math.MaxUint64, 10_000}, {10_000, 65_536, 10_000}, {10_000, 10_256, 10_000}, {10_000, 10_255, 9_999},
		{10_000, 1024, 768}, {500, 1024, 500}, {10_000, 100, 50}, {10_000, 0, 1},
	} {
		if got := affordable(test.connections, test.files); got != test.want {
			t.Errorf("%d connections with %d files: %d, want %d", test.connections, test.files, got, test.want)
		}
	}
}

package server

// The limits on connections, where the system allows fewer open files than they take.

import (
	"math"
	"testing"
)

func TestConnectionsFitTheOpenFiles(t *testing.T) {
	for _, test := range []struct {
		connections int
		files       uint64
		want        fileBudget
	}{
		{10_000, math.MaxUint64, fileBudget{10_000, 64, 32, 32}},
		{10_000, 65_536, fileBudget{10_000, 64, 32, 32}},
		{10_000, 10_384, fileBudget{10_000, 64, 32, 32}},
		{10_000, 10_383, fileBudget{9_999, 64, 32, 32}},
		{10_000, 1024, fileBudget{640, 64, 32, 32}}, {500, 1024, fileBudget{500, 64, 32, 32}},
		{10_000, 384, fileBudget{192, 32, 16, 16}}, {10_000, 100, fileBudget{50, 8, 4, 4}},
		{10_000, 0, fileBudget{1, 2, 2, 2}},
	} {
		got := shareFiles(test.connections, test.files)
		if got != test.want {
			t.Errorf("%d connections with %d files: %+v, want %+v", test.connections, test.files, got, test.want)
		}
		all := uint64(got.connections + got.health + got.admin + got.metrics)
		if test.files >= 100 && all > test.files {
			t.Errorf("%d connections of %d files", all, test.files)
		}
	}
}

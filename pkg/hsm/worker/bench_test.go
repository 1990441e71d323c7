package worker

// What the way to the process and back costs. The token there does nothing.

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xks-proxy/pkg/hsm"
)

// BenchmarkHop is one Encrypt of 48 bytes with 300 bytes of AAD. cpu-µs/op is the CPU
// of both processes, parent-µs/op and child-µs/op its parts.
func BenchmarkHop(b *testing.B) {
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			w := readyWorker(b, testConfig(b, testSettings{Sessions: 16, Null: true}))
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			aad, plaintext := make([]byte, 300), make([]byte, 48)
			for range 1000 {
				_, err := w.Encrypt(ctx, hsm.KeyRef{Label: "key"}, aad, plaintext)
				if err != nil {
					b.Fatal(err)
				}
			}
			pid := w.State().PID
			var wg sync.WaitGroup
			share := (b.N + callers - 1) / callers
			parent, child := selfCPU(b), processCPU(b, pid)
			b.ReportAllocs()
			b.ResetTimer()
			for range callers {
				wg.Go(func() {
					for range share {
						_, err := w.Encrypt(ctx, hsm.KeyRef{Label: "key"}, aad, plaintext)
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			parent, child = selfCPU(b)-parent, processCPU(b, pid)-child
			per := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / float64(share*callers) }
			b.ReportMetric(per(parent), "parent-µs/op")
			b.ReportMetric(per(child), "child-µs/op")
			b.ReportMetric(per(parent+child), "cpu-µs/op")
		})
	}
}

func selfCPU(b *testing.B) time.Duration {
	var u unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_SELF, &u)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// processCPU reads the CPU clock of another process (clock_getcpuclockid(3)):
// getrusage knows children only once they have ended.
func processCPU(b *testing.B, pid int) time.Duration {
	var ts unix.Timespec
	err := unix.ClockGettime(int32(^pid<<3|2), &ts)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

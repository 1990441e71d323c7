// This file measures Verify. The access key id must not show in the time that a refusal takes (A4).

package sigv4

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

func benchmarkVerify(b *testing.B, r *Request, accept bool) {
	b.Helper()
	v := newTestVerifier(b)
	b.ReportAllocs()
	for b.Loop() {
		_, err := v.Verify(r, testNow)
		if (err == nil) != accept {
			b.Fatal(err)
		}
	}
}

func requestOf(size int, names ...string) *Request {
	r := testRequest()
	r.Body = bytes.Repeat([]byte{'a'}, size)
	testReference.sign(r, oldID, "us-east-1", testNow, names...)
	return r
}

func BenchmarkVerify(b *testing.B) {
	b.Run(
		"1KiB",
		func(b *testing.B) { benchmarkVerify(b, requestOf(1<<10, "host", "x-amz-date"), true) },
	)
	b.Run(
		"16KiB",
		func(b *testing.B) { benchmarkVerify(b, requestOf(16<<10, "host", "x-amz-date"), true) },
	)
	b.Run("parallel", func(b *testing.B) {
		v := newTestVerifier(b)
		r := requestOf(1<<10, "host", "x-amz-date")
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_, err := v.Verify(r, testNow)
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

// BenchmarkRefuse refuses a known and an unknown access key id by turns, so that noise hits both
// alike, and reports the median of each.
func BenchmarkRefuse(b *testing.B) {
	known := rewrite(requestOf(1<<10, "host", "x-amz-date"), func(s string) string {
		return s[:strings.LastIndex(s, "=")+1] + strings.Repeat("0", 64)
	})
	unknown := rewrite(requestOf(1<<10, "host", "x-amz-date"), func(s string) string {
		return strings.Replace(
			s[:strings.LastIndex(s, "=")+1]+strings.Repeat("0", 64), oldID,
			strings.Replace(oldID, "OLD", "NIL", 1), 1,
		)
	})
	for _, cache := range []string{"warm", "cold"} {
		b.Run(cache, func(b *testing.B) {
			v := newTestVerifier(b)
			if cache == "warm" {
				_, err := v.Verify(signedRequest(), testNow)
				if err != nil {
					b.Fatal(err)
				}
			}
			var times [2][]time.Duration
			b.ReportAllocs()
			for b.Loop() {
				for i, r := range []*Request{known, unknown} {
					start := time.Now()
					_, err := v.Verify(r, testNow)
					times[i] = append(times[i], time.Since(start))
					if err == nil {
						b.Fatal("accepted")
					}
				}
			}
			for i, unit := range []string{"known-ns", "unknown-ns"} {
				slices.Sort(times[i])
				b.ReportMetric(float64(times[i][len(times[i])/2]), unit)
			}
		})
	}
	b.Run("unsigned", func(b *testing.B) { benchmarkVerify(b, testRequest(), false) })
}

package request

// The same request many times: how long it takes, and what fails.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"xks-proxy/internal/config"
	"xks-proxy/internal/text"
	"xks-proxy/internal/xksclient"
)

// latencies collects the replies of one request sent again and again.
type latencies struct {
	sent        int
	times       []time.Duration // of the requests that succeeded, without connection set-up
	connections int             // made
	late        int             // over kmsPatience
	errors      map[string]int  // by name
	firstError  error
}

func newLatencies() *latencies { return &latencies{errors: map[string]int{}} }

// repeat sends n more, one after the other, and ends early when ctx does.
func (l *latencies) repeat(
	ctx context.Context,
	n int,
	send func(context.Context) (*xksclient.Reply, error),
) {
	for range n {
		if ctx.Err() != nil {
			return
		}
		reply, err := send(ctx)
		if errors.Is(err, context.Canceled) {
			return // the user's wish, not the proxy's fault
		}
		l.add(reply, err)
	}
}

func (l *latencies) add(reply *xksclient.Reply, err error) {
	l.sent++
	if reply != nil && reply.Connect > 0 {
		l.connections++
	}
	if reply != nil && reply.Connect+reply.Request > config.KMSPatience {
		l.late++
	}
	if err == nil {
		l.times = append(l.times, reply.Request)
		return
	}
	if l.firstError == nil {
		l.firstError = err
	}
	l.errors[errorLabel(err)]++
}

func errorLabel(err error) string {
	var refused *xksclient.Error
	var noReply *xksclient.UnreachableError
	switch {
	case errors.As(err, &refused):
		return refused.Label()
	case errors.As(err, &noReply):
		return "no reply"
	}
	return "wrong answer"
}

// LatencySummary is what --repeat --json prints. Times are in milliseconds.
type LatencySummary struct {
	Requests    int            `json:"requests"`
	Succeeded   int            `json:"succeeded"`
	Errors      map[string]int `json:"errors,omitempty"`
	Connections int            `json:"connections"`
	Over250ms   int            `json:"over250ms"`
	Min         float64        `json:"minMs"`
	Median      float64        `json:"medianMs"`
	P99         float64        `json:"p99Ms"`
	Max         float64        `json:"maxMs"`
}

func (l *latencies) summary() LatencySummary {
	sorted := slices.Sorted(slices.Values(l.times))
	at := func(q float64) float64 { return float64(Quantile(sorted, q)) / float64(time.Millisecond) }
	return LatencySummary{
		Requests: l.sent, Succeeded: len(l.times), Errors: l.errors, Connections: l.connections, Over250ms: l.late,
		Min: at(0), Median: at(0.5), P99: at(0.99), Max: at(1),
	}
}

// Quantile is the smallest value that at least the share q of all do not exceed
// (nearest rank); 0 if there are none.
func Quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(q*float64(len(sorted)) + 0.999999)
	return sorted[min(max(rank, 1), len(sorted))-1]
}

func (l *latencies) print(w io.Writer) {
	s := l.summary()
	rows := []text.Row{
		{
			"succeeded",
			fmt.Sprintf("%d of %d, connections made: %d", s.Succeeded, s.Requests, s.Connections),
		},
	}
	if s.Succeeded > 0 {
		rows = append(
			rows,
			text.Row{
				"latency",
				fmt.Sprintf(
					"min %.1f ms, median %.1f ms, p99 %.1f ms, max %.1f ms",
					s.Min,
					s.Median,
					s.P99,
					s.Max,
				),
			},
		)
	}
	if s.Over250ms > 0 {
		rows = append(
			rows,
			text.Row{
				"too late",
				fmt.Sprintf("%d took over 250 ms, after which AWS KMS gives up", s.Over250ms),
			},
		)
	}
	var failed []string
	for _, name := range slices.Sorted(maps.Keys(s.Errors)) {
		failed = append(failed, fmt.Sprintf("%d %s", s.Errors[name], name))
	}
	if len(failed) > 0 {
		rows = append(rows, text.Row{"failed", strings.Join(failed, ", ")})
	}
	fmt.Fprintf(w, "all %d requests\n", s.Requests)
	text.PrintRows(w, rows)
}

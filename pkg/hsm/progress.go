package hsm

// Progress of a call that takes long, such as a listing of 10,000 keys over a network: many calls
// into the module of which each is short. Who watches for hangs measures from the last progress.

import (
	"context"
)

type progressKey struct{}

// WithProgress returns a context under which Keys and Find of a Token call report each time that
// the HSM has answered. report must return at once and may be called often.
func WithProgress(ctx context.Context, report func()) context.Context {
	return context.WithValue(ctx, progressKey{}, report)
}

// Progress reports that the HSM has answered; it does nothing where nobody asked for that.
func Progress(ctx context.Context) {
	report, ok := ctx.Value(progressKey{}).(func())
	if ok {
		report()
	}
}

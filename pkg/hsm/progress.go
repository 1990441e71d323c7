package hsm

// Progress of a long call, such as a listing of 10,000 keys over a network, which makes many short
// calls into the module. The hang timeout counts from the last progress.

import (
	"context"
)

type progressKey struct{}

// WithProgress returns a context with which Keys and Find of a Token call report after each answer
// of the HSM. report must return at once and may be called often.
func WithProgress(ctx context.Context, report func()) context.Context {
	return context.WithValue(ctx, progressKey{}, report)
}

// Progress calls the report function of the context, if there is one.
func Progress(ctx context.Context) {
	report, ok := ctx.Value(progressKey{}).(func())
	if ok {
		report()
	}
}

package server

// A start that is told to stop ends, whatever it waits for.

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestEndOfAStart(t *testing.T) {
	failure := errors.New("no certificate")
	type work = func(ctx context.Context, serving func(), hang chan struct{}) error
	hangs := func(_ context.Context, _ func(), hang chan struct{}) error {
		<-hang
		return nil
	}
	ends := func(ctx context.Context, _ func(), _ chan struct{}) error {
		<-ctx.Done()
		return nil
	}
	fails := func(context.Context, func(), chan struct{}) error { return failure }
	drains := func(ctx context.Context, serving func(), _ chan struct{}) error {
		serving()
		<-ctx.Done()
		time.Sleep(time.Hour)
		return failure
	}
	for name, test := range map[string]struct {
		work work
		want error
		took time.Duration
	}{
		"a step hangs":                   {hangs, errStartHangs, time.Minute + StartEndLimit},
		"it ends in good order":          {ends, nil, time.Minute},
		"it fails":                       {fails, failure, 0},
		"it serves, and drains for long": {drains, failure, time.Minute + time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			hang := make(chan struct{})
			defer close(hang)
			began := time.Now()
			err := Endable(
				ctx,
				StartEndLimit,
				func(serving func()) error { return test.work(ctx, serving, hang) },
			)
			if !errors.Is(err, test.want) || time.Since(began) != test.took {
				t.Errorf("%s: %v after %s", name, err, time.Since(began))
			}
		})
	}
}

package group_test

// One error value that a token returns to several calls is not changed by the group.

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/hsmtest"
)

// TestSharedError: a token may answer many calls with one error value, as a broken link does; the
// group must not write to it. The race detector looks on.
func TestSharedError(t *testing.T) {
	synctest.Test(t, sharedError)
}

func sharedError(t *testing.T) {
	tokens := newTokens(2)
	g := start(t, tokens)
	shared := &hsm.Error{Op: "encrypt", Kind: hsm.ErrUnavailable}
	for _, token := range tokens {
		token.SetHook(
			onRequests(func(context.Context, hsmtest.Op, hsm.KeyRef) error { return shared }),
		)
	}
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for range 100 {
				_, trace, err := request(t, g)
				if !errors.Is(err, hsm.ErrUnavailable) || len(trace.Faults) != 2 ||
					trace.Faults[0].Error()[:3] == trace.Faults[1].Error()[:3] {
					t.Errorf("got %v, %+v", err, trace)
					return
				}
			}
		})
	}
	running.Wait()
	if shared.HSM != "" {
		t.Errorf("the token's error was changed: %v", shared)
	}
}

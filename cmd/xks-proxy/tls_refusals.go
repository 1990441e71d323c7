package main

// Counting and telling refused client certificates. Anyone can cause them: the log has one line for
// each reason in ten seconds at most.

import (
	"net"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

const refusalLogInterval = 10 * time.Second

// clientRefusals counts since the start. The map is never changed.
type clientRefusals struct {
	log      *zap.Logger
	byReason map[refusalReason]*refusalCount
}

type refusalCount struct {
	all   atomic.Int64
	alarm rate.Sometimes
}

func newClientRefusals(log *zap.Logger) *clientRefusals {
	r := &clientRefusals{log: log, byReason: map[refusalReason]*refusalCount{}}
	for _, reason := range refusalReasons {
		r.byReason[reason] = &refusalCount{alarm: rate.Sometimes{First: 1, Interval: refusalLogInterval}}
	}
	return r
}

// asRefusal finds the two refusals that crypto/tls makes itself, which have no type of their own; a test holds them against the library.
func asRefusal(err error) error {
	switch {
	case err == nil:
		return nil
	case err.Error() == "tls: client didn't provide a certificate":
		return &clientRefusal{refusedAbsent, "the client sent none"}
	case strings.HasPrefix(err.Error(), "tls: invalid signature by the client certificate"):
		return &clientRefusal{refusedUnproven, "the client does not have its key"}
	}
	return err
}

func (r *clientRefusals) add(refusal *clientRefusal, from net.Addr) {
	count := r.byReason[refusal.reason]
	all := count.all.Add(1)
	count.alarm.Do(func() {
		r.log.Warn("client certificate refused", zap.String("reason", string(refusal.reason)), zap.Stringer("remote", from),
			zap.String("detail", refusal.detail), zap.Int64("refused_since_start", all))
	})
}

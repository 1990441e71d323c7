package certs

// Counts and logs refused client certificates. Anyone can cause them, so the log gets at most one
// line for each reason in ten seconds.

import (
	"net"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// RefusalLogInterval is the time between two log lines about refusals for the same reason.
const RefusalLogInterval = 10 * time.Second

// ClientRefusals counts refused client certificates since the start. The map is immutable.
type ClientRefusals struct {
	log      *zap.Logger
	ByReason map[RefusalReason]*refusalCount
}

type refusalCount struct {
	All   atomic.Int64
	alarm rate.Sometimes
}

func newClientRefusals(log *zap.Logger) *ClientRefusals {
	r := &ClientRefusals{log: log, ByReason: map[RefusalReason]*refusalCount{}}
	for _, reason := range RefusalReasons {
		r.ByReason[reason] = &refusalCount{
			alarm: rate.Sometimes{First: 1, Interval: RefusalLogInterval},
		}
	}
	return r
}

// asRefusal recognizes the two refusals of crypto/tls itself, which have no type of their own. A
// test compares the texts with the library.
func asRefusal(err error) error {
	switch {
	case err == nil:
		return nil
	case err.Error() == "tls: client didn't provide a certificate":
		return &clientRefusal{RefusedAbsent, "the client sent none"}
	case strings.HasPrefix(err.Error(), "tls: invalid signature by the client certificate"):
		return &clientRefusal{RefusedUnproven, "the client does not have its key"}
	}
	return err
}

func (r *ClientRefusals) add(refusal *clientRefusal, from net.Addr) {
	count := r.ByReason[refusal.reason]
	all := count.All.Add(1)
	count.alarm.Do(func() {
		r.log.Warn(
			"client certificate refused", zap.String("reason", string(refusal.reason)),
			zap.Stringer("remote", from), zap.String("detail", refusal.detail),
			zap.Int64("refused_since_start", all),
		)
	})
}

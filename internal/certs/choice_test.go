package certs

// How failed handshakes and refused clients are named and logged.

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// What anyone can cause does not flood the log.
func TestRefusalsAreLoggedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.DebugLevel)
		r := newClientRefusals(zap.New(core))
		for range 100 {
			r.add(
				&clientRefusal{RefusedSubject, "one"},
				&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4711},
			)
			r.add(
				&clientRefusal{RefusedExpired, "another"},
				&net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 4712},
			)
		}
		if logs.Len() != 2 {
			t.Fatalf("%d lines, want one for each reason", logs.Len())
		}
		first := logs.All()[0].ContextMap()
		if first["reason"] != "subject" || first["remote"] != "192.0.2.1:4711" ||
			first["detail"] != "one" {
			t.Errorf("%v", first)
		}
		time.Sleep(RefusalLogInterval + time.Second)
		r.add(&clientRefusal{RefusedSubject, "one"}, &net.TCPAddr{})
		if logs.Len() != 3 || logs.All()[2].ContextMap()["refused_since_start"] != int64(101) {
			t.Errorf("%v", logs.All())
		}
	})
}

// What cannot be caused over a connection in a moment.
func TestHandshakeReasons(t *testing.T) {
	for err, want := range map[error]HandshakeReason{
		&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}:            failedTimeout,
		&net.OpError{Op: "remote error", Err: tls.AlertError(48)}:        FailedCertificate,
		&net.OpError{Op: "local error", Err: tls.AlertError(20)}:         FailedCertificate,
		&net.OpError{Op: "local error", Err: tls.AlertError(50)}:         failedOther,
		&net.OpError{Op: "remote error", Err: tls.AlertError(51)}:        failedOther,
		fmt.Errorf("tls: no key exchanges supported by both client and"): FailedCipher,
		fmt.Errorf("tls: something new"):                                 failedOther,
	} {
		if got := handshakeReasonOf(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
	for reason := range HandshakeLine {
		if newHandshakes(nil, func(string) *zap.Logger { return nil }).Failed[reason] == nil {
			t.Errorf("%s is not counted", reason)
		}
	}
}

// The end of a certificate is near by its lifetime.
func TestUrgencyOfCertificates(t *testing.T) {
	hours := func(n int) time.Duration { return time.Duration(n) * time.Hour }
	for _, c := range []struct {
		lifetime, left time.Duration
		want           urgency
	}{
		{6 * OneDay, 2 * OneDay, NotUrgent}, // a third is left: ACME clients renew now
		{6 * OneDay, hours(37), NotUrgent}, {6 * OneDay, hours(35), EndsSoon}, {6 * OneDay,
			hours(14), EndsNow},
		{47 * OneDay, 12 * OneDay, NotUrgent}, {47 * OneDay, 11 * OneDay, EndsSoon}, {47 * OneDay,
			4 * OneDay, EndsNow},
		{90 * OneDay, 30 * OneDay, NotUrgent}, {90 * OneDay, 22 * OneDay, EndsSoon}, {90 * OneDay,
			8 * OneDay, EndsNow},
		{365 * OneDay, 31 * OneDay, NotUrgent}, {365 * OneDay, 29 * OneDay, EndsSoon},
		{365 * OneDay, 9 * OneDay, EndsNow},
		{3650 * OneDay, 31 * OneDay, NotUrgent}, {3650 * OneDay, 11 * OneDay, EndsSoon},
		{90 * OneDay, -time.Second, Unusable}, {90 * OneDay, 91 * OneDay, Unusable},
	} {
		now := time.Now()
		end := now.Add(c.left)
		if got := urgencyOf(end.Add(-c.lifetime), end, now); got != c.want {
			t.Errorf("%v of %v left: %d, want %d", c.left, c.lifetime, got, c.want)
		}
	}
}

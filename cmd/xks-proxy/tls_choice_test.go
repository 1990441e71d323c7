package main

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
			r.add(&clientRefusal{refusedSubject, "one"}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4711})
			r.add(&clientRefusal{refusedExpired, "another"}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 4712})
		}
		if logs.Len() != 2 {
			t.Fatalf("%d lines, want one for each reason", logs.Len())
		}
		first := logs.All()[0].ContextMap()
		if first["reason"] != "subject" || first["remote"] != "192.0.2.1:4711" || first["detail"] != "one" {
			t.Errorf("%v", first)
		}
		time.Sleep(refusalLogInterval + time.Second)
		r.add(&clientRefusal{refusedSubject, "one"}, &net.TCPAddr{})
		if logs.Len() != 3 || logs.All()[2].ContextMap()["refused_since_start"] != int64(101) {
			t.Errorf("%v", logs.All())
		}
	})
}

// What cannot be caused over a connection in a moment.
func TestHandshakeReasons(t *testing.T) {
	for err, want := range map[error]handshakeReason{
		&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}:            failedTimeout,
		&net.OpError{Op: "remote error", Err: tls.AlertError(48)}:        failedCertificate,
		&net.OpError{Op: "local error", Err: tls.AlertError(20)}:         failedCertificate,
		&net.OpError{Op: "local error", Err: tls.AlertError(50)}:         failedOther,
		&net.OpError{Op: "remote error", Err: tls.AlertError(51)}:        failedOther,
		fmt.Errorf("tls: no key exchanges supported by both client and"): failedCipher,
		fmt.Errorf("tls: something new"):                                 failedOther,
	} {
		if got := handshakeReasonOf(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
	for reason := range handshakeLine {
		if newHandshakes(nil, func(string) *zap.Logger { return nil }).failed[reason] == nil {
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
		{6 * oneDay, 2 * oneDay, notUrgent}, // a third is left: ACME clients renew now
		{6 * oneDay, hours(37), notUrgent}, {6 * oneDay, hours(35), endsSoon}, {6 * oneDay, hours(14), endsNow},
		{47 * oneDay, 12 * oneDay, notUrgent}, {47 * oneDay, 11 * oneDay, endsSoon}, {47 * oneDay, 4 * oneDay, endsNow},
		{90 * oneDay, 30 * oneDay, notUrgent}, {90 * oneDay, 22 * oneDay, endsSoon}, {90 * oneDay, 8 * oneDay, endsNow},
		{365 * oneDay, 31 * oneDay, notUrgent}, {365 * oneDay, 29 * oneDay, endsSoon}, {365 * oneDay, 9 * oneDay, endsNow},
		{3650 * oneDay, 31 * oneDay, notUrgent}, {3650 * oneDay, 11 * oneDay, endsSoon},
		{90 * oneDay, -time.Second, unusable}, {90 * oneDay, 91 * oneDay, unusable},
	} {
		now := time.Now()
		end := now.Add(c.left)
		if got := urgencyOf(end.Add(-c.lifetime), end, now); got != c.want {
			t.Errorf("%v of %v left: %d, want %d", c.left, c.lifetime, got, c.want)
		}
	}
}

package worker

import (
	"testing"
	"testing/synctest"
	"time"
)

// A process is pinged at intervals, and silence for the timeout is its end.
func TestPinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		p := newPinger(Config{PingInterval: 500 * time.Millisecond, PingTimeout: time.Second}, func() error { sent++; return nil })
		defer p.stop()
		begin := time.Now()
		for range 3 {
			<-p.timer.C
			if p.expired() {
				t.Fatal("expired before anything was late")
			}
			time.Sleep(900 * time.Millisecond)
			p.answered()
		}
		if took := time.Since(begin); took != 3*1400*time.Millisecond || sent != 3 {
			t.Fatalf("%d pings in %v", sent, took)
		}
		<-p.timer.C
		if p.expired() {
			t.Fatal("a ping that was not sent is late")
		}
		<-p.timer.C
		if !p.expired() {
			t.Fatal("a second of silence is not noticed")
		}
	})
}

// If this process itself stood still, it cannot blame the other: once.
func TestPingerStoodStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		p := newPinger(Config{PingInterval: 500 * time.Millisecond, PingTimeout: time.Second}, func() error { sent++; return nil })
		defer p.stop()
		<-p.timer.C
		if p.expired() {
			t.Fatal("a ping that was not sent is late")
		}
		for i, want := range []bool{false, true} {
			time.Sleep(5 * time.Second) // stopped, or starved
			<-p.timer.C
			if p.expired() != want {
				t.Fatalf("standstill %d: expired is %v", i+1, !want)
			}
		}
		if sent != 2 {
			t.Errorf("%d pings", sent)
		}
	})
}

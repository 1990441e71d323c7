package worker

// When to ping a process, and when its silence means that it is dead.

import "time"

// pinger sends one ping at a time.
type pinger struct {
	interval, timeout time.Duration
	send              func() error
	timer             *time.Timer
	due               time.Time // when timer fires
	waiting           bool      // for a pong
	excused           bool      // one late timer was forgiven
}

func newPinger(c Config, send func() error) *pinger {
	p := &pinger{interval: c.PingInterval, timeout: c.PingTimeout, send: send}
	p.timer = time.NewTimer(p.interval)
	p.due = time.Now().Add(p.interval)
	return p
}

func (p *pinger) stop() { p.timer.Stop() }

// answered takes note of a pong.
func (p *pinger) answered() {
	p.waiting, p.excused = false, false
	p.set(p.interval)
}

// expired is called when the timer fires. It sends the next ping, or reports
// that the last one was not answered in time. If the timer itself is late then this process stood
// still (stopped, or on a starved machine), and the pong may wait in the socket: that
// is forgiven once.
func (p *pinger) expired() bool {
	late := time.Since(p.due)
	if p.waiting && (p.excused || late < p.timeout/2) {
		return true
	}
	p.excused = p.waiting
	p.waiting = true
	_ = p.send() // a ping that cannot be sent is not answered either
	p.set(p.timeout)
	return false
}

func (p *pinger) set(d time.Duration) {
	p.due = time.Now().Add(d)
	p.timer.Reset(d)
}

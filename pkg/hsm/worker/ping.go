package worker

// When to ping a process, and when its silence means that it is dead.

import "time"

// urgentPause is the least time between two pings, however many calls wait.
const urgentPause = 50 * time.Millisecond

// pinger sends one ping at a time.
type pinger struct {
	interval, timeout time.Duration
	send              func() error
	timer             *time.Timer
	due               time.Time // when timer fires
	sent              time.Time // the last ping
	waiting           bool      // for a pong
	urged             bool      // the next ping was brought forward, or is being waited for
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
	p.waiting, p.urged, p.excused = false, false, false
	p.set(p.interval)
}

// suspicions is where to listen for reasons to urge: nowhere while a ping is under way.
func (p *pinger) suspicions(from <-chan struct{}) <-chan struct{} {
	if p.urged {
		return nil
	}
	return from
}

// urge brings the next ping forward, so that silence is noticed sooner.
func (p *pinger) urge() {
	p.urged = true
	if !p.waiting {
		p.set(min(time.Until(p.due), max(0, urgentPause-time.Since(p.sent))))
	}
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
	p.sent = time.Now()
	_ = p.send() // a ping that cannot be sent is not answered either
	p.set(p.timeout)
	return false
}

func (p *pinger) set(d time.Duration) {
	p.due = time.Now().Add(d)
	p.timer.Reset(d)
}

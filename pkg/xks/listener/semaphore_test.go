package listener

// The gate for strangers (gate.go) and what a connection does with it, in time that a test makes:
// who waits, who is cut off, and that authentication lifts all of it.

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// pipes is a listener whose connections are pipes.
type pipes struct {
	net.Listener
	next chan net.Conn
}

func (p *pipes) Accept() (net.Conn, error) { return <-p.next, nil }

// gated is a Listener with so many turns.
type gated struct {
	*Listener
	t    *testing.T
	next chan net.Conn
}

func newGated(t *testing.T, turns int) *gated {
	p := &pipes{next: make(chan net.Conn, 1)}
	l := New(p, 1000, zap.NewNop())
	l.slots.free = turns
	return &gated{Listener: l, t: t, next: p.next}
}

// connect gives both ends of a new connection: the server's, and that of a stranger.
func (g *gated) connect() (*Conn, net.Conn) {
	g.t.Helper()
	ours, theirs := net.Pipe()
	g.next <- ours
	accepted, err := g.Accept()
	if err != nil {
		g.t.Fatal(err)
	}
	return accepted.(*Conn), theirs
}

// knock has a stranger send so many bytes, which are read on the server's side in the background.
// What becomes of that comes through the channel.
func (g *gated) knock(c *Conn, theirs net.Conn, bytes int) <-chan error {
	done := make(chan error, 1)
	go func() { _, _ = theirs.Write(make([]byte, bytes)) }() // the reader's end tells
	go func() {
		_, err := io.ReadFull(c, make([]byte, bytes))
		done <- err
	}()
	return done
}

// outcome tells whether what knock gave has come, and what.
func outcome(done <-chan error) string {
	synctest.Wait()
	select {
	case err := <-done:
		if err != nil {
			return err.Error()
		}
		return "read"
	default:
		return "waits"
	}
}

// wantTurns waits for leases to end.
func (g *gated) wantTurns(free int) {
	g.t.Helper()
	time.Sleep(2 * maxSlotTime)
	g.slots.mu.Lock()
	defer g.slots.mu.Unlock()
	if g.slots.free != free || g.slots.waiting.Len() != 0 {
		g.t.Errorf(
			"%d turns are free and %d wait, want %d and none", g.slots.free, g.slots.waiting.Len(),
			free,
		)
	}
}

// One after the other, the newest first; a turn ends with its connection, or when more is asked
// for.
func TestGateNewestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, 1)
		working, client := g.connect()
		if got := outcome(g.knock(working, client, 10)); got != "read" {
			t.Fatal(got)
		}
		var conns []*Conn
		var waiting []<-chan error
		for range 3 {
			c, client := g.connect()
			conns = append(conns, c)
			waiting = append(waiting, g.knock(c, client, 10))
			if got := outcome(waiting[len(waiting)-1]); got != "waits" {
				t.Fatal(got)
			}
		}
		go func() { _, _ = working.Read(make([]byte, 1)) }() // there is nothing more
		for i, c := range slices.Backward(conns) {
			for older := range i {
				if got := outcome(waiting[older]); got != "waits" {
					t.Errorf("stranger %d, before the turn of %d is over: %s", older, i, got)
				}
			}
			if got := outcome(waiting[i]); got != "read" {
				t.Errorf("stranger %d: %s", i, got)
			}
			c.Close()
		}
		working.Close()
		g.wantTurns(1)
	})
}

// A stranger who is busy, or who keeps the proxy waiting for him, has his turn for 5 ms only.
func TestGateLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, 1)
		start := time.Now()
		var waiting []<-chan error
		for range 10 {
			c, client := g.connect()
			defer c.Close()
			waiting = append(waiting, g.knock(c, client, 10))
		}
		for _, done := range waiting {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(start); took != 9*maxSlotTime {
			t.Errorf("ten strangers who do nothing with their turn: %v", took)
		}
		g.wantTurns(1)
	})
}

// Who gets no turn is cut off, and nothing of his is computed.
func TestGatePatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, 0)
		c, client := g.connect()
		done := g.knock(c, client, 10)
		time.Sleep(maxSlotWait - time.Millisecond)
		if got := outcome(done); got != "waits" {
			t.Error(got)
		}
		time.Sleep(time.Millisecond)
		if err := <-done; !errors.Is(err, errNoSlot) {
			t.Error(err)
		}
		c.Close()
		if g.CutOff() != 1 || g.Open() != 0 {
			t.Errorf("%d cut off, %d open", g.CutOff(), g.Open())
		}
		g.wantTurns(0)
	})
}

// An authenticated connection passes all who wait, and gives its turn back at once; it is not
// counted either.
func TestGateLifted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, 1)
		c, client := g.connect()
		if got := outcome(g.knock(c, client, 10)); got != "read" {
			t.Fatal(got)
		}
		stranger, theirs := g.connect()
		waiting := g.knock(stranger, theirs, 10)
		if got := outcome(waiting); got != "waits" {
			t.Fatal(got)
		}
		c.MarkAuthenticated("", false)
		if got := outcome(waiting); got != "read" {
			t.Errorf("the turn of a connection that is known now: %s", got)
		}
		for range 100 {
			c.MarkAuthenticated("", false)
			if err := <-g.knock(c, client, 128<<10); err != nil {
				t.Fatalf("requests of a tenant: %v", err)
			}
		}
		if g.CutOff() != 0 {
			t.Errorf("%d cut off", g.CutOff())
		}
		stranger.Close()
		c.Close()
		g.wantTurns(1)
	})
}

// A tenant who sends without end and makes no request waits like a stranger, until he makes one.
func TestGateTenantFloods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, 1)
		c, client := g.connect()
		c.MarkAuthenticated("", false)
		for range 5 {
			if err := <-g.knock(c, client, 128<<10); err != nil {
				t.Fatalf("what a tenant may send: %v", err)
			}
		}
		g.slots.free = 0
		done := g.knock(c, client, 10)
		if got := outcome(done); got != "waits" {
			t.Errorf("what is beyond: %s", got)
		}
		g.slots.release()
		if err := <-done; err != nil {
			t.Error(err)
		}
		c.MarkAuthenticated("", false)
		g.wantTurns(1)
		g.slots.free = 0
		if err := <-g.knock(c, client, 128<<10); err != nil {
			t.Errorf("after a request: %v", err)
		}
		g.slots.free = 1
		if err := <-g.knock(c, client, 4<<20); !errors.Is(err, errTooMuch) {
			t.Errorf("a flood: %v", err)
		}
		c.Close()
		client.Close()
	})
}

// A connection that is authenticated while it waits for a turn keeps none; so does one that is
// closed.
func TestGateWhileWaiting(t *testing.T) {
	for _, what := range []string{"known", "closed"} {
		synctest.Test(t, func(t *testing.T) {
			g := newGated(t, 0)
			c, client := g.connect()
			done := g.knock(c, client, 10)
			synctest.Wait()
			if what == "known" {
				c.MarkAuthenticated("", false)
			} else {
				c.Close()
			}
			g.slots.release()
			err := <-done
			if what == "known" && err != nil || what == "closed" && !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: %v", what, err)
			}
			g.wantTurns(1)
			c.Close()
		})
	}
}

// A stranger may send a handshake and a few of the largest requests, then little by little.
func TestAllowance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, 1)
		g.SetMaxBody(1 << 20)
		c, client := g.connect()
		if err := <-g.knock(c, client, unauthenticatedBurst+1<<20); err != nil {
			t.Fatalf("what is allowed: %v", err)
		}
		for range 100 { // a probe of a load balancer a second, on one connection
			time.Sleep(time.Second)
			if err := <-g.knock(c, client, 500); err != nil {
				t.Fatalf("probes: %v", err)
			}
		}
		if err := <-g.knock(c, client, 512<<10); !errors.Is(err, errTooMuch) {
			t.Errorf("a flood: %v", err)
		}
		c.Close()
		client.Close()
		if g.CutOff() != 1 {
			t.Errorf("%d cut off", g.CutOff())
		}
		another, client := g.connect()
		if err := <-g.knock(another, client, 1<<20); err != nil {
			t.Errorf("another stranger: %v", err)
		}
	})
}

// Two ports have one limit and one gate.
func TestBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, 1)
		next := make(chan net.Conn, 1)
		other := &gated{Listener: g.WithSharedLimits(&pipes{next: next}), t: t, next: next}
		a, one := g.connect()
		if got := outcome(g.knock(a, one, 10)); got != "read" {
			t.Fatal(got)
		}
		b, two := other.connect()
		done := other.knock(b, two, 10)
		if got := outcome(done); got != "waits" {
			t.Errorf("the other port: %s", got)
		}
		if g.Open() != 2 || other.Open() != 2 {
			t.Errorf("open: %d and %d", g.Open(), other.Open())
		}
		a.Close()
		if got := outcome(done); got != "read" {
			t.Error(got)
		}
		b.Close()
	})
}

// Everything at once, for the race detector: no turn is lost, whatever becomes of those who had
// one.
func TestGateLosesNoTurn(t *testing.T) {
	g := newGated(t, 2)
	var all sync.WaitGroup
	for worker := range 16 {
		all.Go(func() {
			for i := range 50 {
				ours, theirs := net.Pipe()
				c := &Conn{
					Conn: ours, shared: g.connections, accepted: time.Now(),
					allowance: newAllowance(0),
				}
				g.add(c)
				var both sync.WaitGroup
				both.Go(
					func() { _, _ = io.Copy(theirs, strings.NewReader(strings.Repeat("x", 100))) },
				) // it may be closed
				both.Go(func() {
					for range 3 {
						_, err := c.Read(make([]byte, 40))
						if err != nil {
							return
						}
						if (worker+i)%3 == 0 {
							c.MarkAuthenticated("", false)
						}
					}
				})
				if i%2 == 0 {
					c.Close()
				}
				theirs.SetDeadline(time.Now().Add(time.Second))
				both.Wait()
				c.Close()
			}
		})
	}
	all.Wait()
	g.wantTurns(2)
	if g.Open() != 0 {
		t.Errorf("%d are open", g.Open())
	}
}

package listener

// The semaphore for connections without an authenticated request, and what a connection does with
// it, in the time of synctest: who waits, who is closed, and that authentication lifts the limit.

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

// testListener is a Listener with a number of slots.
type testListener struct {
	*Listener
	t    *testing.T
	next chan net.Conn
}

func newTestListener(t *testing.T, slots int) *testListener {
	p := &pipes{next: make(chan net.Conn, 1)}
	l := New(p, 1000, zap.NewNop())
	l.slots.free = slots
	return &testListener{Listener: l, t: t, next: p.next}
}

// connect returns both ends of a new connection: the server's and the client's.
func (g *testListener) connect() (*Conn, net.Conn) {
	g.t.Helper()
	ours, theirs := net.Pipe()
	g.next <- ours
	accepted, err := g.Accept()
	if err != nil {
		g.t.Fatal(err)
	}
	return accepted.(*Conn), theirs
}

// send has the client send bytes, which the server's end reads in the background. The channel gives
// the error of the last read.
func (g *testListener) send(c *Conn, theirs net.Conn, bytes int) <-chan error {
	done := make(chan error, 1)
	go func() { _, _ = theirs.Write(make([]byte, bytes)) }() // the reader's end tells
	go func() {
		_, err := io.ReadFull(c, make([]byte, bytes))
		done <- err
	}()
	return done
}

// outcome returns what came through the channel of send, or "waits".
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

// wantFree checks the free slots once all slot timers have fired.
func (g *testListener) wantFree(free int) {
	g.t.Helper()
	time.Sleep(2 * maxSlotTime)
	g.slots.mu.Lock()
	defer g.slots.mu.Unlock()
	if g.slots.free != free || g.slots.waiting.Len() != 0 {
		g.t.Errorf(
			"%d slots are free and %d wait, want %d and none", g.slots.free, g.slots.waiting.Len(),
			free,
		)
	}
}

// The newest waiter gets the next slot. A slot is free again when its connection is closed or reads
// on.
func TestSemaphoreNewestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestListener(t, 1)
		working, client := g.connect()
		if got := outcome(g.send(working, client, 10)); got != "read" {
			t.Fatal(got)
		}
		var conns []*Conn
		var waiting []<-chan error
		for range 3 {
			c, client := g.connect()
			conns = append(conns, c)
			waiting = append(waiting, g.send(c, client, 10))
			if got := outcome(waiting[len(waiting)-1]); got != "waits" {
				t.Fatal(got)
			}
		}
		go func() { _, _ = working.Read(make([]byte, 1)) }() // there is nothing more
		for i, c := range slices.Backward(conns) {
			for older := range i {
				if got := outcome(waiting[older]); got != "waits" {
					t.Errorf("connection %d, while %d has the slot: %s", older, i, got)
				}
			}
			if got := outcome(waiting[i]); got != "read" {
				t.Errorf("connection %d: %s", i, got)
			}
			c.Close()
		}
		working.Close()
		g.wantFree(1)
	})
}

// A connection that is busy, or that keeps the proxy waiting, keeps its slot for 5 ms only.
func TestSlotTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestListener(t, 1)
		start := time.Now()
		var waiting []<-chan error
		for range 10 {
			c, client := g.connect()
			defer c.Close()
			waiting = append(waiting, g.send(c, client, 10))
		}
		for _, done := range waiting {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(start); took != 9*maxSlotTime {
			t.Errorf("ten connections that do nothing with their slots: %v", took)
		}
		g.wantFree(1)
	})
}

// A connection that gets no slot in time is closed.
func TestSlotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestListener(t, 0)
		c, client := g.connect()
		done := g.send(c, client, 10)
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
		g.wantFree(0)
	})
}

// With maxWaiting connections waiting, the one that has waited longest makes room for the next.
func TestMaxWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := semaphore{}
		var oldest, others []bool
		for i := range maxWaiting + 1 {
			go func() {
				granted := s.acquire()
				if i == 0 {
					oldest = append(oldest, granted)
				} else {
					s.mu.Lock()
					others = append(others, granted)
					s.mu.Unlock()
				}
			}()
			synctest.Wait()
		}
		if !slices.Equal(oldest, []bool{false}) || len(others) != 0 {
			t.Fatalf("the oldest: %v, the others: %v", oldest, others)
		}
		for range maxWaiting {
			s.release()
		}
		synctest.Wait()
		if len(others) != maxWaiting || slices.Contains(others, false) {
			t.Errorf("%d others, not all with a slot", len(others))
		}
	})
}

// A connection needs no slot after an authenticated request, and gives its slot back at once.
func TestSlotsAfterAuthentication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestListener(t, 1)
		c, client := g.connect()
		if got := outcome(g.send(c, client, 10)); got != "read" {
			t.Fatal(got)
		}
		other, theirs := g.connect()
		waiting := g.send(other, theirs, 10)
		if got := outcome(waiting); got != "waits" {
			t.Fatal(got)
		}
		c.MarkAuthenticated("", false)
		if got := outcome(waiting); got != "read" {
			t.Errorf("after the other connection was authenticated: %s", got)
		}
		for range 100 {
			c.MarkAuthenticated("", false)
			if err := <-g.send(c, client, 128<<10); err != nil {
				t.Fatalf("requests of a tenant: %v", err)
			}
		}
		if g.CutOff() != 0 {
			t.Errorf("%d cut off", g.CutOff())
		}
		other.Close()
		c.Close()
		g.wantFree(1)
	})
}

// A tenant that sends without end and makes no request needs slots, until its next request.
func TestCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestListener(t, 1)
		c, client := g.connect()
		c.MarkAuthenticated("", false)
		for range 5 {
			if err := <-g.send(c, client, 128<<10); err != nil {
				t.Fatalf("what a tenant may send: %v", err)
			}
		}
		g.slots.free = 0
		done := g.send(c, client, 10)
		if got := outcome(done); got != "waits" {
			t.Errorf("what is beyond: %s", got)
		}
		g.slots.release()
		if err := <-done; err != nil {
			t.Error(err)
		}
		c.MarkAuthenticated("", false)
		g.wantFree(1)
		g.slots.free = 0
		if err := <-g.send(c, client, 128<<10); err != nil {
			t.Errorf("after a request: %v", err)
		}
		c.Close()
		client.Close()
	})
}

// A connection that is authenticated or closed while it waits for a slot does not keep the slot.
func TestSlotWhileWaiting(t *testing.T) {
	for _, what := range []string{"authenticated", "closed"} {
		synctest.Test(t, func(t *testing.T) {
			g := newTestListener(t, 0)
			c, client := g.connect()
			done := g.send(c, client, 10)
			synctest.Wait()
			if what == "authenticated" {
				c.MarkAuthenticated("", false)
			} else {
				c.Close()
			}
			g.slots.release()
			err := <-done
			if what == "authenticated" && err != nil ||
				what == "closed" && !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: %v", what, err)
			}
			g.wantFree(1)
			c.Close()
		})
	}
}

// Two ports share the limit and the slots.
func TestWithSharedLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestListener(t, 1)
		next := make(chan net.Conn, 1)
		other := &testListener{Listener: g.WithSharedLimits(&pipes{next: next}), t: t, next: next}
		a, one := g.connect()
		if got := outcome(g.send(a, one, 10)); got != "read" {
			t.Fatal(got)
		}
		b, two := other.connect()
		done := other.send(b, two, 10)
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

// Everything at once, for the race detector: no slot is lost, whatever happens to its holder.
func TestSlotsAreNotLost(t *testing.T) {
	g := newTestListener(t, 2)
	var all sync.WaitGroup
	for worker := range 16 {
		all.Go(func() {
			for i := range 50 {
				ours, theirs := net.Pipe()
				c := &Conn{Conn: ours, shared: g.connections, accepted: time.Now()}
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
	g.wantFree(2)
	if g.Open() != 0 {
		t.Errorf("%d are open", g.Open())
	}
}

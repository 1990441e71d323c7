package listener

// Which connection goes when there are too many (requirement U15).

import (
	"testing"
)

// What is idle goes first, wherever it stands.
func TestIdleConnectionsGoFirst(t *testing.T) {
	l := &connections{max: 4}
	var all []*Conn
	for i := range l.max {
		c := &Conn{shared: l}
		if evicted := l.add(c); evicted != nil {
			t.Fatalf("connection %d has no place", i)
		}
		l.markAuthenticated(c, "a", true)
		all = append(all, c)
	}
	all[2].idle.Store(true)
	for _, want := range []*Conn{all[2], all[0]} {
		c := &Conn{shared: l}
		if l.add(c) != want {
			t.Fatal("another connection was chosen")
		}
		l.remove(want)
		l.markAuthenticated(c, "b", true)
	}
	l = &connections{max: 2}
	for _, name := range []string{"a", "b"} {
		c := &Conn{shared: l}
		l.add(c)
		l.markAuthenticated(c, name, true)
	}
	c := &Conn{shared: l}
	if evicted := l.add(c); evicted == nil || evicted.keyStore == "" {
		t.Error("a third key store finds no place")
	}
	l.remove(c)
	for _, among := range l.authenticated {
		l.remove(among.Front().Value.(*Conn))
	}
	if len(l.authenticated) != 0 || l.open != 0 {
		t.Errorf("%d are left, of %v", l.open, l.authenticated)
	}
}

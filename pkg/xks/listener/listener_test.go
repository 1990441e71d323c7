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
		c := &Conn{crowd: l}
		if victim := l.admit(c); victim != nil {
			t.Fatalf("connection %d has no place", i)
		}
		l.prove(c, "a", true)
		all = append(all, c)
	}
	all[2].idle.Store(true)
	for _, want := range []*Conn{all[2], all[0]} {
		c := &Conn{crowd: l}
		if l.admit(c) != want {
			t.Fatal("another connection was chosen")
		}
		l.leave(want)
		l.prove(c, "b", true)
	}
	l = &connections{max: 2}
	for _, name := range []string{"a", "b"} {
		c := &Conn{crowd: l}
		l.admit(c)
		l.prove(c, name, true)
	}
	c := &Conn{crowd: l}
	if victim := l.admit(c); victim == nil || victim.keyStore == "" {
		t.Error("a third key store finds no place")
	}
	l.leave(c)
	for _, among := range l.known {
		l.leave(among.Front().Value.(*Conn))
	}
	if len(l.known) != 0 || l.open != 0 {
		t.Errorf("%d are left, of %v", l.open, l.known)
	}
}

package xks

// Which connection goes when there are too many (requirement U15).

import "testing"

// What is idle goes first, wherever it stands.
func TestIdleConnectionsGoFirst(t *testing.T) {
	l := &crowd{max: 4}
	var all []*conn
	for i := range l.max {
		c := &conn{crowd: l}
		if victim := l.admit(c); victim != nil {
			t.Fatalf("connection %d has no place", i)
		}
		l.prove(c, "a", true)
		all = append(all, c)
	}
	all[2].idle.Store(true)
	for _, want := range []*conn{all[2], all[0]} {
		c := &conn{crowd: l}
		if l.admit(c) != want {
			t.Fatal("another connection was chosen")
		}
		l.leave(want)
		l.prove(c, "b", true)
	}
	l = &crowd{max: 2}
	for _, name := range []string{"a", "b"} {
		c := &conn{crowd: l}
		l.admit(c)
		l.prove(c, name, true)
	}
	c := &conn{crowd: l}
	if victim := l.admit(c); victim == nil || victim.keyStore == "" {
		t.Error("a third key store finds no place")
	}
	l.leave(c)
	for _, among := range l.known {
		l.leave(among.Front().Value.(*conn))
	}
	if len(l.known) != 0 || l.open != 0 {
		t.Errorf("%d are left, of %v", l.open, l.known)
	}
}

package listener

// Which connection is closed when there are too many (requirement U15).

import (
	"container/list"
	"testing"
)

// The oldest connection of the key store that has most makes room for others.
func TestLargestKeyStoreMakesRoom(t *testing.T) {
	l := &connections{max: 4, authenticated: map[string]*list.List{}}
	var all []*Conn
	for i := range l.max {
		c := &Conn{shared: l}
		if evicted := l.add(c); evicted != nil {
			t.Fatalf("there is no room for connection %d", i)
		}
		l.markAuthenticated(c, "a", true)
		all = append(all, c)
	}
	for _, want := range all[:2] {
		c := &Conn{shared: l}
		if l.add(c) != want {
			t.Fatal("add chose another connection")
		}
		l.remove(want)
		l.markAuthenticated(c, "b", true)
	}
	l = &connections{max: 2, authenticated: map[string]*list.List{}}
	for _, name := range []string{"a", "b"} {
		c := &Conn{shared: l}
		l.add(c)
		l.markAuthenticated(c, name, true)
	}
	c := &Conn{shared: l}
	if evicted := l.add(c); evicted == nil || evicted.keyStore == "" {
		t.Error("there is no room for a third key store")
	}
	l.remove(c)
	for _, conns := range l.authenticated {
		l.remove(conns.Front().Value.(*Conn))
	}
	if len(l.authenticated) != 0 || l.open != 0 {
		t.Errorf("%d are left, of %v", l.open, l.authenticated)
	}
}

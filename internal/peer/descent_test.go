package peer

// Which processes descend from this one.

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

func TestDescent(t *testing.T) {
	const self, own = 100, 500
	hidden := errors.New("hidden")
	processes := map[int]Parentage{
		1: {
			0,
			0,
		}, self: {1, 50}, 101: {self, 60}, 102: {101, 70}, 103: {self, 90}, // 103 was orphaned and adopted
		500: {
			1,
			95,
		}, 200: {1, 10}, 201: {200, 20}, 300: {0, 30}, 400: {999, 40}, 401: {999, 40}, 402: {403, 40}, 403: {1, 45},
	}
	for name, c := range map[string]struct {
		pid, uid, proxy int
		want            error
	}{
		"itself":                             {self, own, own, nil},
		"a worker":                           {101, own, own, errDescends},
		"what a worker has started":          {102, own, own, errDescends},
		"an orphan":                          {103, own, own, errDescends},
		"a shell of the proxy's user":        {201, own, own, nil},
		"a worker of another user":           {101, 7, 0, errDescends},
		"left over from an earlier run":      {500, own, own, errLeftOver},
		"confined, of another user":          {500, 7, own, nil},
		"confined, of root":                  {500, 0, 0, nil},
		"from outside a container":           {300, own, own, nil},
		"in another PID namespace":           {0, own, own, nil},
		"hidden, of another user":            {400, 7, own, nil},
		"hidden, of the proxy's user":        {400, own, own, errUnknownDescent},
		"hidden, but without no_new_privs":   {401, own, own, nil},
		"hidden from root":                   {400, 7, 0, errUnknownDescent},
		"parent that is younger":             {402, own, own, errUnknownDescent},
		"gone":                               {777, own, own, errUnknownDescent},
		"gone, of a user who is not a proxy": {777, 7, own, nil},
	} {
		t.Run(name, func(t *testing.T) {
			a := Ancestry{self: self, uid: c.proxy,
				parent: func(pid int) (Parentage, error) {
					p, known := processes[pid]
					if !known {
						return Parentage{}, hidden
					}
					return p, nil
				},
				freeToRun: func(pid int) bool { return pid == 401 },
				confined:  func(pid int) bool { return pid == 500 },
			}
			if got := a.refuses(Peer{PID: c.pid, UID: c.uid}); !errors.Is(got, c.want) ||
				(got == nil) != (c.want == nil) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// TestDescentOfChangingAncestors: a process does not get rid of its descent by an ancestor that
// ends
// while the proxy looks, or by more ancestors than the proxy follows. None of these has
// no_new_privs: confine.mode is off.
func TestDescentOfChangingAncestors(t *testing.T) {
	const self, peerID = 10, 100
	for name, processes := range map[string]func(look, pid int) (Parentage, error){
		"an ancestor ends": func(look, pid int) (Parentage, error) {
			switch {
			case pid == 101:
				return Parentage{}, errors.New("it has just ended")
			case look == 1:
				return Parentage{101, 60}, nil
			}
			return Parentage{self, 60}, nil // adopted
		},
		"all ancestors always end": func(look, pid int) (Parentage, error) {
			if pid != peerID {
				return Parentage{}, errors.New("it has just ended")
			}
			return Parentage{1000 + look, 60}, nil
		},
		"more than are followed": func(_, pid int) (Parentage, error) { return Parentage{pid + 1, 60}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			looks := 0
			a := Ancestry{
				self:      self,
				uid:       500,
				freeToRun: func(int) bool { return true },
				confined:  func(int) bool { return false },
				parent: func(pid int) (Parentage, error) {
					looks++
					return processes(looks, pid)
				},
			}
			if a.refuses(Peer{PID: peerID, UID: 500}) == nil {
				t.Error("it may give orders")
			}
		})
	}
}

func TestSeccompFilters(t *testing.T) {
	for text, want := range map[string]int{
		"Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t12\nSpeculation:\tx\n": 12,
		"Name:\tx\nSeccomp:\t2\n":              0,
		"Name:\tSeccomp_filters:\t9\nUmask:\n": 0,
		"":                                     0,
	} {
		if got := seccompFilters([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// TestDescentOfRealProcesses: a child of this process descends from it; the parent of this process
// does not.
func TestDescentOfRealProcesses(t *testing.T) {
	child := exec.Command("sleep", "60")
	err := child.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	a := NewAncestry()
	if err := a.refuses(Peer{PID: child.Process.Pid, UID: os.Geteuid()}); !errors.Is(
		err,
		errDescends,
	) {
		t.Errorf("a child: %v", err)
	}
	if err := a.refuses(Peer{PID: os.Getppid(), UID: os.Geteuid()}); err != nil {
		t.Errorf("the parent: %v", err)
	}
}

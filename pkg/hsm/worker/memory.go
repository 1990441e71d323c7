package worker

// The memory of a process. A vendor's library that leaks must not take the machine's memory: its
// process is replaced in good time, and if memory runs out sooner, the kernel ends that process and
// not the proxy.
//
// The parent measures, from outside. RLIMIT_AS and RLIMIT_DATA do not do: Go reserves far more than
// it uses, and a library whose allocation fails crashes or answers nonsense in the middle of
// requests.

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"go.uber.org/zap"
)

// memoryLook is how often a process is measured.
const memoryLook = 250 * time.Millisecond

// errMemory is why a process ended that had more memory than Config.MemoryLimit.
var errMemory = errors.New("its process was replaced because of its memory")

// replacement is the turn of the process that is being replaced because of its memory: two HSMs with
// one library leak alike, and one of them has to serve meanwhile.
var replacement = make(chan struct{}, 1)

// memoryWatch measures one process.
type memoryWatch struct {
	pid    int
	limit  int64 // bytes; 0: none
	ticker *time.Ticker

	over     error            // the process has to go, and why
	patience <-chan time.Time // until when it may finish its calls
}

func newMemoryWatch(pid int, limit int64) *memoryWatch {
	return &memoryWatch{pid: pid, limit: limit, ticker: time.NewTicker(memoryLook)}
}

// tooMuch is an error of errMemory if the process has more memory than it may.
func (m *memoryWatch) tooMuch(used int64) error {
	if m.limit == 0 || used <= m.limit {
		return nil
	}
	return fmt.Errorf("%w: it had %d MiB, and the limit (memory_limit_mib) is %d; the HSM's library "+
		"may leak: report that to its vendor, or raise the limit", errMemory, used>>20, m.limit>>20)
}

// checkMemory measures a process that serves. One with too much memory gets no new calls and may
// finish those that it has. It waits for its turn until it has half as much again; a process that
// still works although its PIN was refused stays as long, for no other could log in.
func (w *Worker) checkMemory(m *memoryWatch, l *link) {
	used := memoryOf(m.pid)
	w.set(func(s *State) { s.Memory = used })
	over := m.tooMuch(used)
	if over == nil || m.over != nil {
		return
	}
	if used <= m.limit+m.limit/2 && !(w.mayRenew(l) && w.takeReplacement()) {
		return
	}
	m.over, m.patience = over, time.After(w.config.HangTimeout)
	w.set(func(s *State) { s.Overgrown++ })
	w.config.Log.Warn("the HSM's process has too much memory: it gets no new requests and is replaced",
		zap.Int64("memory_bytes", used), zap.Int64("limit_bytes", m.limit), zap.Int("pid", m.pid))
	w.link.Store(nil)
	_ = l.goodbye() // if it cannot be sent, the process is killed when its patience is over
}

// takeReplacement reports whether it is this worker's turn to replace its process.
func (w *Worker) takeReplacement() bool {
	select {
	case replacement <- struct{}{}:
		w.replacing = true
	default:
	}
	return w.replacing
}

// endReplacement gives the turn to others.
func (w *Worker) endReplacement() {
	if w.replacing {
		w.replacing = false
		<-replacement
	}
}

// memoryOf is the memory that a process has for itself, in bytes: resident pages that are not of
// files (proc(5), statm). 0 if that cannot be read.
func memoryOf(pid int) int64 {
	statm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0 // it ends just now
	}
	return parseStatm(statm) * int64(os.Getpagesize())
}

// parseStatm gives pages.
func parseStatm(statm []byte) int64 {
	fields := bytes.Fields(statm)
	if len(fields) < 3 {
		return 0
	}
	resident, errResident := strconv.ParseInt(string(fields[1]), 10, 64)
	shared, errShared := strconv.ParseInt(string(fields[2]), 10, 64)
	if errResident != nil || errShared != nil {
		return 0
	}
	return max(0, resident-shared)
}

const (
	oomScoreFile  = "/proc/self/oom_score_adj"
	oomScoreRaise = 500 // of a scale of -1000 to 1000
)

// dieFirst has the kernel end this process before the proxy when memory runs out, whatever the
// service manager gave both. It needs no privilege, but has to come before ForbidDumps: the files in
// /proc of a process that cannot be dumped are root's.
func dieFirst() error {
	text, err := os.ReadFile(oomScoreFile)
	if err != nil {
		return err
	}
	score, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil {
		return fmt.Errorf("%s: %w", oomScoreFile, err)
	}
	score = min(max(score, 0)+oomScoreRaise, 1000)
	return os.WriteFile(oomScoreFile, []byte(strconv.Itoa(score)), 0)
}

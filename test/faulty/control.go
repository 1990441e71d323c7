// Package faulty is a PKCS#11 module that misbehaves on purpose, and what steers it.
//
// The module (module/*.c, compiled by Build) stands in front of SoftHSM and forwards
// all 68 functions of PKCS#11 2.40. A control file, which the environment variable FAULTY_CONTROL
// names, tells it which calls to fail and how, and takes its counts. The file is mapped into the
// memory of both sides, so that a Control steers the module of another process while that runs; and
// because rules and counts live in the file, they outlive the process when the HSM's worker is
// killed and started anew.
//
//	control, err := faulty.New(filepath.Join(dir, "control"))
//	… start the worker with control.Env() in its environment …
//	err = control.Set(faulty.Rule{Function: "C_Encrypt", Action: faulty.Hang, Times: 3})
//	… load …
//	control.Clear()
//	if control.Injected() == 0 { … the fault never happened … }
//
// Rules (Set) are faults: what happens to which calls, by function, by the label or the place of
// the object, by the length of data and AAD, always or now and then. Slow devices, busy devices,
// objects that cannot be read and expired PINs are rules. Manners (Play) are what another HSM
// always does, from its token's serial to the codes it uses; ResetSessions, Remove and Reboot are
// single events.
//
// Linux only, as the workers are.
package faulty

// The control file, this side of it. module/faulty.h is the other side.

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"xks-proxy/pkg/hsm"
)

// ControlVariable is the environment variable that names the control file.
const ControlVariable = "FAULTY_CONTROL"

const magic = 0x3230_5954_4C55_4146 // "FAULTY02" on a little-endian machine

// file is the layout of the control file, struct control of faulty.h.
type file struct {
	magic    atomic.Uint64
	change   atomic.Uint32 // goes up with every change of the rules; hung calls sleep on it (futex)
	rulesOn  atomic.Uint32 // how many of rules, from the first, are to be looked at
	iv       atomic.Uint32 // IVManner
	reboots  atomic.Uint32
	removals atomic.Uint32 // odd: the device is removed now

	resets, resetCode atomic.Uint32
	helperCount       atomic.Uint32 // of all helpers so far
	_                 [24]byte

	calls    [len(functions)]atomic.Uint64
	injected [len(functions)]atomic.Uint64

	manners        [mannerPlaces]atomic.Uint64
	texts          [textPlaces]text
	throttledUntil atomic.Uint64 // µs of CLOCK_MONOTONIC
	helpers        [maxHelpers]atomic.Int64

	rules [MaxRules]ruleSlot
}

// maxHelpers is how many process ids the file has room for; then the oldest is forgotten.
const maxHelpers = 32

// text is a short text; its size goes last, so that the module never reads more than was written.
type text struct {
	size  atomic.Uint64
	bytes [MaxLabel]byte
}

func (t *text) write(s string) {
	t.size.Store(0)
	copy(t.bytes[:], s)
	t.size.Store(uint64(len(s)))
}

type ruleSlot struct {
	serial     atomic.Uint64 // another for every rule; 0: no rule, or one that is being written
	functions  [2]atomic.Uint64
	delay      atomic.Uint64 // µs
	jitter     atomic.Uint64 // µs
	after      atomic.Uint64
	times      atomic.Uint64
	action     atomic.Uint32
	code       atomic.Uint32
	perMillion atomic.Uint32
	_          [4]byte
	matched    atomic.Uint64
	injected   atomic.Uint64
	dataOver   atomic.Uint64
	aadOver    atomic.Uint64
	nth        atomic.Uint64
	label      text
	_          [72]byte
}

// Control steers the modules that were started with its file. Its methods may be called
// from many goroutines at once.
type Control struct {
	path   string
	memory []byte
	file   *file

	mu     sync.Mutex // of the writers of rules
	serial uint64
}

// New makes the control file, which must not exist yet, with no rules and SoftHSM's own
// manners.
func New(path string) (*Control, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("control file: %w", err)
	}
	f, err := os.OpenFile(absolute, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("control file: %w", err)
	}
	defer func() { _ = f.Close() }() // the mapping stays
	size := int(unsafe.Sizeof(file{}))
	err = f.Truncate(int64(size))
	if err != nil {
		return nil, fmt.Errorf("control file: %w", err)
	}
	memory, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the control file %s: %w", absolute, err)
	}
	c := &Control{path: absolute, memory: memory, file: (*file)(unsafe.Pointer(&memory[0]))}
	c.file.magic.Store(magic)
	return c, nil
}

// Close lets go of the file, which stays. No method may be called afterwards.
func (c *Control) Close() error {
	err := unix.Munmap(c.memory)
	if err != nil {
		return fmt.Errorf("unmap the control file: %w", err)
	}
	return nil
}

// Env is what the environment of the module's process needs: "FAULTY_CONTROL=path".
func (c *Control) Env() string { return ControlVariable + "=" + c.path }

// Set puts these rules in the place of all that held so far; their counts begin at
// 0. It is an error to give more than MaxRules, or one that makes no sense; then nothing changes.
func (c *Control) Set(rules ...Rule) error {
	if len(rules) > MaxRules {
		return fmt.Errorf("%d rules: at most %d can hold at once", len(rules), MaxRules)
	}
	for _, rule := range rules {
		err := rule.check()
		if err != nil {
			return fmt.Errorf("rule %q: %w", rule, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.file.rules {
		c.file.rules[i].serial.Store(0)
	}
	for i, rule := range rules {
		c.serial++
		c.file.rules[i].write(rule, c.serial)
	}
	c.file.rulesOn.Store(uint32(len(rules)))
	c.file.change.Add(1)
	wake(&c.file.change)
	return nil
}

// Clear takes all rules away. Calls that hang go on, but for those that hang for
// ever. Manners, removal and counts stay.
func (c *Control) Clear() { _ = c.Set() }

func (s *ruleSlot) write(r Rule, serial uint64) {
	set, _ := r.functions() // has been checked
	perMillion := r.PerMillion
	if perMillion == 0 {
		perMillion = million
	}
	s.functions[0].Store(set[0])
	s.functions[1].Store(set[1])
	s.delay.Store(uint64(r.Delay.Microseconds()))
	s.jitter.Store(uint64(r.Jitter.Microseconds()))
	s.after.Store(r.After)
	s.times.Store(r.Times)
	s.action.Store(uint32(r.Action))
	s.code.Store(uint32(r.Code))
	s.perMillion.Store(perMillion)
	s.dataOver.Store(uint64(r.DataOver))
	s.aadOver.Store(uint64(r.AADOver))
	s.nth.Store(uint64(r.Object))
	s.label.write(r.Label)
	s.matched.Store(0)
	s.injected.Store(0)
	s.serial.Store(serial)
}

// Calls is how many calls the modules got, since New, of a function or of Every,
// Sessions or Crypto. It panics on any other name.
func (c *Control) Calls(function string) uint64 { return sum(function, &c.file.calls) }

// Injected is how many faults happened since New, those of a removed device, of a session limit, of
// a login throttle and of reset sessions included. A call that two rules hit counts twice.
func (c *Control) Injected() uint64 { return sum(Every, &c.file.injected) }

// InjectedInto is Injected for one function, or Sessions or Crypto. It panics on any other name.
func (c *Control) InjectedInto(function string) uint64 { return sum(function, &c.file.injected) }

func sum(function string, counts *[len(functions)]atomic.Uint64) uint64 {
	set, err := named(function)
	if err != nil {
		panic(err)
	}
	var total uint64
	for i := range counts {
		if set.has(i) {
			total += counts[i].Load()
		}
	}
	return total
}

// Reboot makes the HSM forget the login and number its objects anew: in a pair of neighbours each
// has the other's handle from now on.
func (c *Control) Reboot() { c.file.reboots.Add(1) }

// Remove takes the device away: every call but C_Initialize and C_Finalize answers CKR_DEVICE_REMOVED.
func (c *Control) Remove() { c.setRemoved(true) }

// PutBack ends Remove. A process that was there before is blind until it calls C_Finalize and C_Initialize.
func (c *Control) PutBack() { c.setRemoved(false) }

func (c *Control) setRemoved(removed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if (c.file.removals.Load()%2 == 1) != removed {
		c.file.removals.Add(1)
	}
}

// ResetSessions makes all sessions of all processes useless at once, and logins too, as a restart
// of a network HSM's server does: every call in a session and C_OpenSession answer the code
// (0x30, 0x190, 0xB3) until the process calls C_Finalize and C_Initialize. Slots and token are
// still there.
func (c *Control) ResetSessions(code hsm.CKR) {
	c.file.resetCode.Store(uint32(code))
	c.file.resets.Add(1)
}

// wake wakes all that sleep on the word, in other processes too.
func wake(word *atomic.Uint32) {
	const futexWake = 1 // FUTEX_WAKE
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake, math.MaxInt32, 0, 0, 0)
}

package confine

// System calls that Landlock does not confine. One is refused here: prlimit(2) on another process.
// With it, a process of the same user could set the limits of the proxy, and the kernel ends a
// process that exceeds its limit on processor time.

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data (seccomp(2)). Arguments are 64 bits, the low half first.
const (
	dataNumber = 0
	dataArch   = 4
	dataPID    = 16       // first argument
	dataLimits = 16 + 2*8 // third argument
	highHalf   = 4
	x32Bit     = 0x40000000 // of numbers of amd64's x32 calls
)

// prlimits are the numbers of prlimit64 for each architecture and calling convention of a 64-bit
// kernel.
var prlimits = []struct{ arch, number uint32 }{
	{unix.AUDIT_ARCH_X86_64, 302}, {unix.AUDIT_ARCH_X86_64, 302 | x32Bit},
	{unix.AUDIT_ARCH_I386, 340}, {unix.AUDIT_ARCH_AARCH64, 261}, {unix.AUDIT_ARCH_ARM, 369},
	{unix.AUDIT_ARCH_RISCV64, 261},
}

// refuseLimitsOfOthers keeps this thread and its descendants from setting limits of processes other
// than the calling one (number 0) and this one. A kernel without seccomp cannot do that: then there
// is no error.
func refuseLimitsOfOthers() error {
	filter := limitsFilter(uint32(unix.Getpid()))
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER,
		uintptr(unsafe.Pointer(&program)), 0, 0)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("cannot filter system calls: %w", err)
	}
	return nil
}

func limitsFilter(self uint32) []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	skipUnless := func(value uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: skip}
	}
	answer := func(value uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
	}
	allow, refuse := uint32(unix.SECCOMP_RET_ALLOW), unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)
	judge := []unix.SockFilter{
		load(dataPID), skipUnless(0, 1), answer(allow), skipUnless(self, 1), answer(allow),
		load(dataLimits), skipUnless(0, 3), // limits are only read
		load(dataLimits + highHalf), skipUnless(0, 1), answer(allow),
		answer(refuse),
	}
	var filter []unix.SockFilter
	for _, call := range prlimits {
		filter = append(filter, load(dataArch), skipUnless(call.arch, uint8(len(judge)+2)),
			load(dataNumber), skipUnless(call.number, uint8(len(judge))))
		filter = append(filter, judge...)
	}
	return append(filter, answer(allow))
}

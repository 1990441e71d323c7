// Package access finds out whether a user could use a file, and if not, where the way to it is
// closed. It asks the kernel where it can (Tried, in a process that runs as that user), and
// otherwise computes the answer from owners and modes (User.Computed), which knows no ACLs.
package access

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Right is what a user wants to do with a file.
type Right string

// The rights.
const (
	Read    Right = "read"    // a file
	List    Right = "list"    // a directory and open what is in it
	Execute Right = "execute" // a program
	Append  Right = "append"  // to a file, which may have to be made
	Fill    Right = "fill"    // a directory: make and replace files in it, and the directory itself
)

// Need is a right to the file at an absolute path.
type Need struct {
	Path  string `json:"path"` // absolute
	Right Right  `json:"right"`
}

// Refusal is the error about a Need that a user does not have.
type Refusal struct {
	At     string // the file or directory that refuses
	Detail string // its owner, group and mode, or what the kernel says
	Action string // what cannot be done: "be read"
	Remedy string // what to do; the word USER stands for the user's name
}

// Error says what refuses and what cannot be done; the remedy is not part of it.
func (r *Refusal) Error() string {
	return fmt.Sprintf("%s (%s) cannot %s", r.At, r.Detail, r.Action)
}

// maxLinks bounds symbolic links on one way, as the kernel does.
const maxLinks = 40

// permission are the bits of one class in a mode.
const (
	mayRead    uint32 = 4
	mayWrite   uint32 = 2
	mayExecute uint32 = 1
)

// judge returns an error unless the file may be used in that way.
type judge func(path string, info fs.FileInfo, bits uint32) error

// Tried asks the kernel whether this process has the right n. The error is a *Refusal if it does
// not, fs.ErrNotExist if the file is missing although it has to exist, and another error if the
// answer is unknown.
func Tried(n Need) error {
	return walk(n, func(path string, info fs.FileInfo, bits uint32) error {
		err := unix.Faccessat(unix.AT_FDCWD, path, bits, unix.AT_EACCESS)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EACCES):
			return errors.New(describe(info))
		}
		return err
	})
}

// Computed derives from owners and modes whether the user u has the right n. The errors are those
// of Tried.
func (u User) Computed(n Need) error {
	return walk(n, func(_ string, info fs.FileInfo, bits uint32) error {
		if u.may(info, bits) {
			return nil
		}
		return errors.New(describe(info))
	})
}

// may is the kernel's rule (path_resolution(7)): only the first class that fits counts.
func (u User) may(info fs.FileInfo, bits uint32) bool {
	owner, known := info.Sys().(*syscall.Stat_t)
	if u.UID == 0 || !known {
		return true
	}
	mode := uint32(info.Mode().Perm())
	switch {
	case owner.Uid == u.UID:
		mode >>= 6
	case owner.Gid == u.GID || slices.Contains(u.Groups, owner.Gid):
		mode >>= 3
	}
	return mode&bits == bits
}

// walk goes the whole way to a file, symbolic links included, and asks at each step.
func walk(n Need, may judge) error {
	if !filepath.IsAbs(n.Path) {
		return fmt.Errorf("%s is not absolute", n.Path)
	}
	at, rest, links := "/", parts(n.Path), 0
	info, err := os.Lstat(at)
	for err == nil && len(rest) > 0 {
		refused := may(at, info, mayExecute)
		if refused != nil {
			return &Refusal{
				At:     at,
				Detail: refused.Error(),
				Action: "be entered",
				Remedy: "run: chmod o+x " + at + ", or give the user's group the right to enter it",
			}
		}
		next := filepath.Join(at, rest[0])
		var child fs.FileInfo
		child, err = os.Lstat(next)
		if err != nil {
			break
		}
		if child.Mode().Type() != fs.ModeSymlink {
			at, info, rest = next, child, rest[1:]
			continue
		}
		links++
		target, linkErr := os.Readlink(next)
		if linkErr != nil || links > maxLinks {
			return fmt.Errorf("the symbolic link %s leads nowhere", next)
		}
		rest = append(parts(target), rest[1:]...)
		if filepath.IsAbs(target) {
			at = "/"
			info, err = os.Lstat(at)
		}
	}
	switch {
	case err == nil:
		return final(n, at, info, may)
	case errors.Is(err, fs.ErrNotExist) && n.makes(len(rest)):
		return made(n, at, info, may)
	}
	return err
}

func parts(path string) []string {
	return strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
}

// makes reports whether the last missing parts of a path are made when they are needed.
func (n Need) makes(missing int) bool {
	return n.Right == Fill || n.Right == Append && missing == 1
}

func made(n Need, directory string, info fs.FileInfo, may judge) error {
	refused := may(directory, info, mayWrite|mayExecute)
	if refused == nil {
		return nil
	}
	return &Refusal{
		At:     directory,
		Detail: refused.Error(),
		Action: "be written to, and " + n.Path + " does not exist",
		Remedy: "make " + n.Path + " and give it to the user",
	}
}

func final(n Need, at string, info fs.FileInfo, may judge) error {
	share := func(mode string) string {
		return "run: chgrp GROUP " + at + " && chmod " + mode + " " + at +
			", with a group of the user"
	}
	bits, action, remedy := mayRead, "be read", share("g+r")
	switch n.Right {
	case Read:
	case List:
		bits, action, remedy = mayRead|mayExecute, "be listed", share("g+rx")
	case Execute:
		bits, action, remedy = mayExecute, "be run", share("g+x")
	case Append:
		bits, action, remedy = mayWrite, "be written to", "run: chown USER "+at
	case Fill:
		bits, action, remedy = mayWrite|mayExecute, "be written to", "run: chown USER "+at
	}
	refused := may(at, info, bits)
	if refused == nil {
		return nil
	}
	return &Refusal{At: at, Detail: refused.Error(), Action: action, Remedy: remedy}
}

package confine

// What a child may reach, as paths.

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Plan says which files a process can reach. Paths are absolute and stand for all that is below
// them. Where several contain a file, the longest decides, and of two equal ones Allow.
type Plan struct {
	// Strict allows SystemPaths and Allow only. Otherwise all is allowed but Protect.
	Strict bool `json:"strict"`

	Protect []string `json:"protect"`
	Allow   []string `json:"allow"`
}

// SystemPaths are what a dynamically linked program needs to start, to resolve host names and to
// verify certificates: what a strict Plan allows, for reading.
var SystemPaths = []string{
	"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/usr", "/proc", "/sys",
	"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime",
	"/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf",
	"/etc/services", "/etc/protocols", "/etc/passwd", "/etc/group",
	"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/crypto-policies", "/etc/alternatives",
	"/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager",
}

// devicePaths are the devices that every program expects. A strict Plan allows them, for writing
// as well.
var devicePaths = []string{
	"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/shm",
}

// Resolve is the plan with the targets of symbolic links instead of the links, as they are now: the
// kernel decides about targets. A path that does not exist keeps its name below the first directory
// that does.
//
// A confined process can make links where it may write, and the next process must not get what they
// lead to. So a path of Allow below another one is left out, which allows it anyway, and so is one
// that leads to something protected by a link that stands elsewhere.
func (p Plan) Resolve() Plan {
	r := Plan{Strict: p.Strict, Protect: resolve(p.Protect)}
	var keep []string
	for _, path := range p.Allow {
		path = filepath.Clean(path)
		if filepath.IsAbs(path) && !p.allowsAnyway(path) && !p.isLured(path, r.Protect) {
			keep = append(keep, path)
		}
	}
	r.Allow = resolve(keep)
	return r
}

// allowsAnyway reports whether a path is below another one of Allow, with nothing protected
// between.
func (p Plan) allowsAnyway(path string) bool {
	return slices.ContainsFunc(p.Allow, func(k string) bool {
		between := func(secret string) bool {
			return within(path, secret) && within(secret, k) && secret != k
		}
		return k != path && within(path, k) && !slices.ContainsFunc(p.Protect, between)
	})
}

// isLured reports whether a path leads to something protected by a link that a process may have
// made: one that is neither among the protected nor on the way to it.
func (p Plan) isLured(path string, protect []string) bool {
	isWithinAny := func(path string, all []string) bool {
		return slices.ContainsFunc(all, func(one string) bool { return within(path, one) })
	}
	if !isWithinAny(resolveOne(path), protect) {
		return false
	}
	return slices.ContainsFunc(links(path), func(link string) bool {
		ownWay := slices.ContainsFunc(p.Protect, func(one string) bool { return within(one, link) })
		return !ownWay &&
			(!isWithinAny(link, protect) || isWithinAny(link, p.Allow) && link != path)
	})
}

// maxLinks bounds how many links are followed, as the kernel does.
const maxLinks = 40

// links are the symbolic links on the way to a path's target, where they really are.
func links(path string) []string {
	var found []string
	at, rest := "/", strings.Split(path, "/")
	for len(rest) > 0 && len(found) <= maxLinks {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		target, err := os.Readlink(next)
		if err != nil {
			at = next
			continue
		}
		found = append(found, next)
		rest = append(strings.Split(target, "/"), rest...)
		if filepath.IsAbs(target) {
			at = "/"
		}
	}
	return found
}

func resolve(paths []string) []string {
	all := []string{}
	for _, path := range paths {
		if filepath.IsAbs(path) {
			all = append(all, resolveOne(filepath.Clean(path)))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func resolveOne(path string) string {
	rest := ""
	for {
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			return filepath.Join(real, rest)
		}
		if path == "/" || !errors.Is(err, fs.ErrNotExist) {
			return filepath.Join(path, rest)
		}
		path, rest = filepath.Dir(path), filepath.Join(filepath.Base(path), rest)
	}
}

// Covers reports whether a process that was started with p reaches nothing that other protects:
// every path that other protects is within one that p protects. (Of a path beside those it is not
// known when it was made.)
func (p Plan) Covers(other Plan) bool {
	if p.Strict {
		return true
	}
	return !slices.ContainsFunc(other.Protect, func(path string) bool {
		return !slices.ContainsFunc(p.Protect, func(own string) bool { return within(path, own) })
	})
}

// within reports whether path is directory or below it.
func within(path, directory string) bool {
	return path == directory || directory == "/" ||
		strings.HasPrefix(path, directory) && path[len(directory)] == '/'
}

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

// Plan is which files a process can reach. Paths are absolute and include everything below them. If
// several paths contain a file, the longest one decides; of two equal ones, Allow.
type Plan struct {
	// Strict allows SystemPaths and Allow only. Otherwise everything is allowed except Protect.
	Strict bool `json:"strict"`

	Protect []string `json:"protect"`
	Allow   []string `json:"allow"`
}

// SystemPaths are the paths that a dynamically linked program needs to start, to resolve host names
// and to verify certificates. A strict Plan allows them for reading.
var SystemPaths = []string{
	"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/usr", "/proc", "/sys",
	"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime",
	"/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf",
	"/etc/services", "/etc/protocols", "/etc/passwd", "/etc/group",
	"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/crypto-policies", "/etc/alternatives",
	"/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager",
}

// devicePaths are the devices that every program expects. A strict Plan allows them for writing,
// too.
var devicePaths = []string{
	"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/shm",
}

// Resolve returns the plan with symbolic links replaced by their present targets, because the
// kernel decides about targets. A path that does not exist keeps its name below the first directory
// that exists.
//
// A confined process can make links where it may write, and the next process must not get what they
// lead to. So Resolve drops a path of Allow that is below another one, which allows it anyway, and
// one that leads to something protected through a link elsewhere.
func (p Plan) Resolve() Plan {
	r := Plan{Strict: p.Strict, Protect: resolve(p.Protect)}
	var keep []string
	for _, path := range p.Allow {
		path = filepath.Clean(path)
		if filepath.IsAbs(path) && !p.allowsAnyway(path) && !p.followsForeignLink(path, r.Protect) {
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

// followsForeignLink reports whether a path leads to something protected through a link that a
// process may have made: one that is neither in a protected path nor on the way to one.
func (p Plan) followsForeignLink(path string, protect []string) bool {
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

// maxLinks is how many links are followed, as in the kernel.
const maxLinks = 40

// links returns the symbolic links on the way to a path's target, at their real places.
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
// every path that other protects is within one that p protects. (For another path it is not known
// when it was made.)
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

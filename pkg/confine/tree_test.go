package confine

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// fakeTree is a file system in memory.
type fakeTree struct{ files fstest.MapFS }

func newTree(paths ...string) fakeTree {
	t := fakeTree{fstest.MapFS{}}
	for _, path := range paths {
		mode := fs.FileMode(0o644)
		if link, isLink := strings.CutSuffix(path, "@"); isLink {
			path, mode = link, mode|fs.ModeSymlink
		}
		t.files[strings.TrimPrefix(path, "/")] = &fstest.MapFile{Mode: mode}
	}
	return t
}

func inTree(path string) string { return filepath.Join(".", strings.TrimPrefix(path, "/")) }

func (t fakeTree) ReadDir(path string) ([]fs.DirEntry, error) {
	return t.files.ReadDir(inTree(path))
}
func (t fakeTree) Stat(path string) (fs.FileInfo, error) { return t.files.Stat(inTree(path)) }

// granted are the paths of the grants, sorted; of directories with a slash, of what may only be
// read with an "r:".
func granted(p Plan, t tree) []string {
	var all []string
	for _, g := range p.grants(t) {
		text := g.path
		if g.directory && text != "/" {
			text += "/"
		}
		if g.readOnly {
			text = "r:" + text
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return all
}

func TestGrants(t *testing.T) {
	installed := newTree(
		"/bin@", "/usr/bin/cat", "/etc/hosts", "/etc/xks-proxy/xks-proxy.yaml",
		"/etc/xks-proxy/hsm-a/softhsm2.conf", "/etc/xks-proxy/hsm-a/tokens/1",
		"/etc/xks-proxy/hsm-a/pin", "/etc/xks-proxy/hsm-b/softhsm2.conf", "/etc/vendor/vendor.conf",
		"/etc/link@", "/proc/1/stat", "/dev/null", "/run/xks-proxy/admin.sock", "/run/vendor.sock",
		"/var/lib/xks-proxy/blocks.json", "/var/lib/vendor/db",
	)
	own := []string{"/etc/xks-proxy", "/run/xks-proxy", "/var/lib/xks-proxy"}
	for name, c := range map[string]struct {
		plan Plan
		want []string
	}{
		"nothing protected": {Plan{}, []string{"/"}},
		"the proxy's own": {Plan{Protect: own}, []string{"/dev/", "/etc/hosts", "/etc/vendor/",
			"/run/vendor.sock", "/usr/", "/var/lib/vendor/", "r:/proc/"}},
		"an HSM's own below that": {Plan{Protect: append([]string{"/etc/xks-proxy/hsm-a/pin"}, own...),
			Allow: []string{"/etc/xks-proxy/hsm-a"}}, []string{"/dev/", "/etc/hosts", "/etc/vendor/",
			"/etc/xks-proxy/hsm-a/softhsm2.conf", "/etc/xks-proxy/hsm-a/tokens/", "/run/vendor.sock",
			"/usr/", "/var/lib/vendor/", "r:/proc/"}},
		"a file that is not there": {Plan{Protect: []string{"/var/log/xks-proxy.log"}, Allow: []string{"/nowhere"}},
			[]string{"/"}},
		"kept and protected": {Plan{Protect: []string{"/etc/vendor"}, Allow: []string{"/etc/vendor"}}, []string{"/"}},
		"everything":         {Plan{Protect: []string{"/"}, Allow: []string{"/dev/null"}}, []string{"/dev/null"}},
	} {
		t.Run(name, func(t *testing.T) {
			slices.Sort(c.plan.Protect)
			got := granted(c.plan, installed)
			if name == "a file that is not there" {
				// /var and / lead to it: what is made there later is not allowed.
				c.want = []string{"/dev/", "/etc/", "/run/", "/usr/", "/var/lib/", "r:/proc/"}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestStrictGrants(t *testing.T) {
	tree := newTree(
		"/usr/bin/cat", "/etc/hosts", "/etc/shadow", "/etc/xks-proxy/xks-proxy.yaml", "/dev/null",
		"/dev/sda", "/proc/1/stat", "/opt/vendor/lib.so", "/home/a/x", "/etc/xks-proxy/a/conf",
	)
	p := Plan{
		Strict: true, Protect: []string{"/etc/xks-proxy"},
		Allow: []string{"/etc/xks-proxy/a", "/opt/vendor/lib.so"},
	}
	got := granted(p, tree)
	want := []string{
		"/dev/null", "/etc/xks-proxy/a/", "/opt/vendor/lib.so", "r:/etc/hosts", "r:/proc/",
		"r:/usr/",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// verdict is the rule in the comment on Plan.
func verdict(p Plan, file string) bool {
	allowed, length := true, -1
	for _, path := range p.Protect {
		if within(file, path) && len(path) > length {
			allowed, length = false, len(path)
		}
	}
	for _, path := range p.Allow {
		if within(file, path) && len(path) >= length {
			allowed, length = true, len(path)
		}
	}
	return allowed
}

// TestGrantsFollowTheRule: of random trees and plans, each file is allowed exactly if the longest
// path that contains it says so.
func TestGrantsFollowTheRule(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	path := func(depth int) string {
		text := ""
		for range 1 + random.IntN(depth) {
			text += "/" + string(rune('a'+random.IntN(3)))
		}
		return text
	}
	checked := 0
	for range 20_000 {
		var files []string
		for range 8 {
			files = append(files, path(4)+"/file")
		}
		var p Plan
		for range random.IntN(5) {
			p.Protect = append(p.Protect, path(4))
		}
		for range random.IntN(4) {
			p.Allow = append(p.Allow, path(5))
		}
		slices.Sort(p.Protect)
		p.Protect = slices.Compact(p.Protect)
		grants := p.grants(newTree(files...))
		for _, file := range files {
			got := slices.ContainsFunc(grants, func(g grant) bool { return within(file, g.path) })
			if want := verdict(p, file); got != want {
				t.Fatalf(
					"%s: allowed %v, want %v\nplan %+v\ngrants %+v", file, got, want, p, grants,
				)
			}
			checked++
		}
	}
	if checked == 0 {
		t.Error("nothing was checked")
	}
}

func TestCovers(t *testing.T) {
	p := Plan{Protect: []string{"/etc/xks-proxy", "/run/xks-proxy/admin.sock"}}
	for path, want := range map[string]bool{
		"/etc/xks-proxy/new.key": true, "/etc/xks-proxy": true, "/etc/xks-proxy-2/new.key": false,
		"/srv/new.key": false, "/run/xks-proxy/admin.sock": true, "/run/xks-proxy": false,
	} {
		if got := p.Covers(Plan{Protect: []string{path}}); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	if !(Plan{Strict: true}).Covers(Plan{Protect: []string{"/srv/new.key"}}) {
		t.Error("a strict plan does not allow what it does not name")
	}
}

// TestManyEntries: thousands of files beside a protected one, and thousands that are protected.
func TestManyEntries(t *testing.T) {
	var files []string
	var p Plan
	for i := range 5000 {
		files = append(
			files, fmt.Sprintf("/srv/file-%d", i), fmt.Sprintf("/etc/xks-proxy/secret-%d", i),
		)
		p.Protect = append(p.Protect, fmt.Sprintf("/etc/xks-proxy/secret-%d", i))
	}
	p.Protect = append(p.Protect, "/etc/xks-proxy", "/srv/file-7")
	slices.Sort(p.Protect)
	if got := len(p.grants(newTree(files...))); got != 4999 {
		t.Errorf("%d grants, want 4999", got)
	}
}

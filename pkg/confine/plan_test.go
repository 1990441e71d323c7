package confine

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestResolveIsNotLured: a process that replaces a file that its HSM's settings name by a link does
// not get what the link leads to with the next process.
func TestResolveIsNotLured(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(path string) string { return filepath.Join(dir, path) }
	err = errors.Join(os.MkdirAll(at("etc/a"), 0o700), os.MkdirAll(at("etc/shared"), 0o700),
		os.MkdirAll(at("vendor"), 0o700), os.MkdirAll(at("state"), 0o700),
		os.WriteFile(at("etc/key"), nil, 0o600), os.WriteFile(at("state/blocks"), nil, 0o600),
		os.WriteFile(at("vendor/plain"), nil, 0o600),
		os.Symlink(at("etc"), at("named")),
		os.Symlink(at("etc/shared"), at("etc/operators")),
		os.Symlink(at("etc/key"), at("etc/a/key")),
		os.Symlink("../../state/blocks", at("etc/a/blocks")),
		os.Symlink(at("state"), at("vendor/state")),
		os.Symlink(at("vendor/state"), at("etc/two-steps")),
		os.Symlink(at("vendor/plain"), at("etc/plain")))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ keep, want []string }{
		"a file beside a link":    {[]string{"etc/a", "etc/a/conf"}, []string{"etc/a"}},
		"a key":                   {[]string{"etc/a", "etc/a/key"}, []string{"etc/a"}},
		"blocks":                  {[]string{"etc/a", "etc/a/blocks"}, []string{"etc/a"}},
		"outside":                 {[]string{"vendor/state"}, nil},
		"outside, a file in it":   {[]string{"vendor/state/blocks"}, nil},
		"two steps":               {[]string{"etc/two-steps"}, nil},
		"the operator's link":     {[]string{"etc/operators"}, []string{"etc/shared"}},
		"a link out of there":     {[]string{"etc/plain"}, []string{"vendor/plain"}},
		"the directory is a link": {[]string{"named/a", "named/a/conf"}, []string{"etc/a"}},
		"protected between":       {[]string{"etc", "etc/shared/x"}, []string{"etc", "etc/shared/x"}},
		"not protected, no links": {[]string{"vendor"}, []string{"vendor"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := Plan{Protect: []string{at("named"), at("state"), at("etc/shared")}}
			for _, path := range c.keep {
				p.Allow = append(p.Allow, at(path))
			}
			got := p.Resolve().Allow
			var want []string
			for _, path := range c.want {
				want = append(want, at(path))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

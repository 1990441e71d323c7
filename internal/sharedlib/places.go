package sharedlib

// The directories in which the dynamic loader looks: those of ld.so.conf, from which ld.so.cache is
// made, those of musl's path file, and the usual ones.

import (
	"os"
	"path/filepath"
	"strings"
)

const maxIncludes = 20 // of ld.so.conf, in each other

func systemPlaces() []string {
	places := loaderPlaces("/etc/ld.so.conf", maxIncludes)
	musl, _ := filepath.Glob("/etc/ld-musl-*.path") // the pattern is good
	for _, file := range musl {
		data, err := os.ReadFile(file)
		if err == nil {
			places = append(
				places,
				strings.FieldsFunc(
					string(data),
					func(c rune) bool { return c == ':' || c == '\n' },
				)...)
		}
	}
	usual := []string{
		"/lib64",
		"/usr/lib64",
		"/lib",
		"/usr/lib",
		"/usr/local/lib",
		"/usr/local/lib64",
	}
	triplets, _ := filepath.Glob("/usr/lib/*-linux-gnu*")
	old, _ := filepath.Glob("/lib/*-linux-gnu*")
	return append(append(append(places, usual...), triplets...), old...)
}

// loaderPlaces reads ld.so.conf(5): a directory a line, "include" with a pattern, # comments. What
// cannot be read names none.
func loaderPlaces(file string, depth int) []string {
	data, err := os.ReadFile(file)
	if err != nil || depth == 0 {
		return nil
	}
	var places []string
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		pattern, isInclude := strings.CutPrefix(line, "include ")
		switch {
		case line == "" || strings.HasPrefix(line, "hwcap "):
		case isInclude:
			pattern = strings.TrimSpace(pattern)
			if !filepath.IsAbs(pattern) {
				pattern = filepath.Join(filepath.Dir(file), pattern)
			}
			included, _ := filepath.Glob(pattern) // a bad pattern matches nothing
			for _, other := range included {
				places = append(places, loaderPlaces(other, depth-1)...)
			}
		default:
			places = append(places, line)
		}
	}
	return places
}

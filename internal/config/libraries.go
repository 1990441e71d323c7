package config

// Where the dynamic loader looks for the libraries of an HSM's module.

import (
	"os"
	"path/filepath"
	"strings"

	"xks-proxy/internal/guarded"
)

// LibraryPath returns the directories where the process of an HSM looks for libraries first.
func (h HSM) LibraryPath(dir string) []string {
	list := os.Getenv("LD_LIBRARY_PATH")
	for _, pair := range h.Environment {
		if value, ok := strings.CutPrefix(pair, "LD_LIBRARY_PATH="); ok {
			list = value
		}
	}
	var places []string
	for _, place := range filepath.SplitList(list) {
		places = append(places, guarded.ResolvePath(dir, place))
	}
	return places
}

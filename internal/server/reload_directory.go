package server

// A key store directory that is suddenly empty: more likely a file system that is not mounted than
// a wish to part with every tenant.

import (
	"fmt"

	"xks-proxy/internal/config"
)

// refuseEmptied is an error where the running configuration has key stores from its directory, and
// the next would have none from the same one. A restart serves what is there.
func refuseEmptied(next, running *config.Config) error {
	was, is := running.Source, next.Source
	if was == nil || is == nil || len(was.Stores) == 0 || len(is.Stores) > 0 ||
		is.Directory != was.Directory {
		return nil
	}
	state := "does not exist"
	if is.Found {
		state = "holds no *.yaml file"
	}
	return fmt.Errorf(
		`%s: key_store_directory: %s %s, but %d key stores are served from it; is it not mounted? If you mean to remove them all, set key_store_directory: "" or restart`,
		is.File,
		is.Directory,
		state,
		len(was.Stores),
	)
}

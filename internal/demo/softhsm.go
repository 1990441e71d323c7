package demo

// SoftHSM: where its module is, and a configuration file for each token.

import (
	"errors"
	"fmt"
	"os"

	"xks-proxy/internal/guarded"
)

// softHSMVariable overrides the search; test/softhsm.sh knows it, too.
const softHSMVariable = "SOFTHSM2_MODULE"

// softHSMPlaces are where distributions install the module: the list of test/softhsm.sh.
var softHSMPlaces = []string{
	"/usr/lib/softhsm/libsofthsm2.so", // Debian, Ubuntu, Alpine, Arch
	"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/softhsm/libsofthsm2.so", // SUSE
	"/usr/lib64/pkcs11/libsofthsm2.so",  // Fedora, RHEL
	"/usr/lib64/libsofthsm2.so",
	"/usr/lib/pkcs11/libsofthsm2.so",
	"/usr/lib/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so", // from source
	"/opt/homebrew/lib/softhsm/libsofthsm2.so",
	"/usr/local/opt/softhsm/lib/softhsm/libsofthsm2.so",
}

var errNoSoftHSM = errors.New(
	"SoftHSM is not installed: install the package softhsm2 (softhsm on Fedora, Alpine, Arch and macOS), " +
		"or give the path of libsofthsm2.so with --module",
)

// findSoftHSM returns the path of the module: the one given, or the environment's,
// or the first that is installed.
func findSoftHSM(given string) (string, error) {
	if given == "" {
		given = os.Getenv(softHSMVariable)
	}
	if given != "" {
		absolute := guarded.ResolvePath(workingDirectory(), given)
		err := guarded.CheckReadable(absolute)
		if err != nil {
			return "", fmt.Errorf("the SoftHSM module cannot be used: %w", err)
		}
		return absolute, nil
	}
	for _, place := range softHSMPlaces {
		if guarded.CheckReadable(place) == nil {
			return place, nil
		}
	}
	return "", errNoSoftHSM
}

// workingDirectory is "" where the system does not know it; paths then stay as they are.
func workingDirectory() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	return dir
}

// softHSMConf gives a token a directory of its own: two tokens in one configuration
// are not two HSMs. Its paths are absolute because SoftHSM takes them from wherever
// the process runs.
func softHSMConf(h demoHSM) []byte {
	return []byte("# " + h.name + " of an xks-proxy demo: SOFTHSM2_CONF names this file.\n" +
		"directories.tokendir = " + h.tokens() + "\n" +
		"objectstore.backend = file\n" +
		"log.level = ERROR\n")
}

package testkit

import (
	"errors"
	"os"
	"path/filepath"
)

// softHSMPatterns are where distributions install the module.
var softHSMPatterns = []string{
	"/usr/lib*/softhsm/libsofthsm2.so",
	"/usr/lib/*-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib*/pkcs11/libsofthsm2.so",
	"/usr/lib*/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
	"/opt/homebrew/lib/softhsm/libsofthsm2.so",
	"/usr/local/opt/softhsm/lib/softhsm/libsofthsm2.so",
}

// SoftHSM returns the path of the PKCS#11 module of SoftHSM: the value of SOFTHSM2_MODULE, or the
// first that is installed.
func SoftHSM() (string, error) {
	given := os.Getenv("SOFTHSM2_MODULE")
	if given != "" {
		return filepath.Abs(given)
	}
	for _, pattern := range softHSMPatterns {
		found, err := filepath.Glob(pattern)
		if err == nil && len(found) > 0 {
			return found[0], nil
		}
	}
	return "", errors.New("SoftHSM is missing: install the package softhsm2, or name " +
		"libsofthsm2.so in SOFTHSM2_MODULE")
}

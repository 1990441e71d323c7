// Package asroot is for tests of what only root can try: files of other users, other users
// themselves, devices, a machine that is set up.
package asroot

import (
	"os"
	"testing"
)

// Needed returns if the test runs as root. If not, the test ends here: it is skipped, and it fails
// where CI is set in the environment, because CI runs as root so that somebody does try it. what
// says what needs root; "make test" lists these for an ordinary user.
func Needed(t testing.TB, what string) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("needs root: %s. CI runs the tests as root", what)
	}
	t.Skipf("needs root: %s. CI tries it; sudo tries it here", what)
}

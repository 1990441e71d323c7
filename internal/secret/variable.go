package secret

// Secrets in environment variables. The environment of a process is readable in /proc/PID/environ
// as long as it lives, also for the library of another HSM's vendor. So these variables are removed
// from the environment before any child process starts.

import (
	"fmt"
	"os"
	"sync"
)

// takenVariables keeps the removed values, because a reload and `hsm restart` read a secret again.
// (The kernel still shows the environment with which this process was started; worker.ForbidDumps
// hides it from others.)
var takenVariables struct {
	mu     sync.Mutex
	values map[string]Secret
}

// TakeVariables removes every variable that one of refs names from the environment. Call it before
// a command among them runs.
func TakeVariables(refs ...Ref) {
	for _, ref := range refs {
		if ref.Env != "" {
			takeVariable(ref.Env)
		}
	}
}

// takeVariable returns the secret in a variable and removes the variable. A value in the
// environment replaces one that was removed before.
func takeVariable(name string) (Secret, bool) {
	takenVariables.mu.Lock()
	defer takenVariables.mu.Unlock()
	value, ok := os.LookupEnv(name)
	if !ok {
		taken, known := takenVariables.values[name]
		return taken, known
	}
	if takenVariables.values == nil {
		takenVariables.values = map[string]Secret{}
	}
	taken := New(value)
	takenVariables.values[name] = taken
	_ = os.Unsetenv(name) // fails only for a name that cannot be in the environment
	return taken, true
}

func readSecretVariable(name string) ([]byte, error) {
	value, ok := takeVariable(name)
	if !ok {
		return nil, fmt.Errorf("environment variable %s is not set", name)
	}
	return []byte(value.Reveal()), nil
}

package secret

// Secrets in environment variables. What a process is started with stands in its
// /proc/PID/environ for as long as it lives, where the libraries of another HSM's vendor can read
// it, too. So these variables are taken out of the environment before any child is started.

import (
	"fmt"
	"os"
	"sync"
)

// takenVariables keeps what was taken: a reload and `hsm restart` read a secret again. (The
// kernel goes on showing what this process was started with; worker.ForbidDumps keeps that from
// others.)
var takenVariables struct {
	mu     sync.Mutex
	values map[string]Secret
}

// TakeVariables takes every variable that one of refs names out of the environment. It
// comes before a command among them runs.
func TakeVariables(refs ...Ref) {
	for _, ref := range refs {
		if ref.Env != "" {
			takeVariable(ref.Env)
		}
	}
}

// takeVariable gives the secret in a variable. One that is in the environment now counts more than
// what was
// taken before.
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

package fleet

// The settings of one HSM's process over time: its PIN can be corrected while the
// program runs, and what the HSM says of it is remembered.

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"xks-proxy/internal/config"
	"xks-proxy/internal/secret"
	"xks-proxy/pkg/hsm/worker"
)

// pinKeeper knows the PIN with which an HSM's process is started. After the start of
// the worker only the worker's supervisor changes it.
type pinKeeper struct {
	hsm     config.HSM
	keys    KeyIdentity
	dir     string // in which a command that gives the PIN runs
	refused RefusedPINs

	mu  sync.Mutex
	pin secret.Secret // a reload asks for it
}

// current is the PIN that the process was last started with: `hsm restart` may have read another
// than the configuration had.
func (k *pinKeeper) current() secret.Secret {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pin
}

// settings are the pkcs11.Config for the process, in JSON. Sensitive: they hold the PIN.
func (k *pinKeeper) settings(pin secret.Secret) (json.RawMessage, error) {
	settings := TokenSettings(k.hsm, pin, k.keys)
	err := settings.Validate()
	if err != nil {
		return nil, fmt.Errorf("HSM %s: %w", k.hsm.Name, err)
	}
	return json.Marshal(settings)
}

// reread is the worker's Refresh: the settings with the PIN that is in its place now.
func (k *pinKeeper) reread() (json.RawMessage, error) {
	pin, err := k.hsm.ReadPIN(context.Background(), k.dir) // bounds its time itself
	if err != nil {
		return nil, err
	}
	settings, err := k.settings(pin)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pin = pin
	return settings, nil
}

// note is the worker's OnPIN.
func (k *pinKeeper) note(refusal error) { k.refused.Note(k.hsm, k.current(), refusal) }

// watch fills in what a worker needs of all this.
func (k *pinKeeper) watch(c worker.Config) (worker.Config, error) {
	pin := k.current()
	settings, err := k.settings(pin)
	if err != nil {
		return worker.Config{}, err
	}
	c.Settings, c.Held = settings, k.refused.Held(k.hsm, pin)
	c.OnPIN, c.Refresh = k.note, k.reread
	return c, nil
}

package main

// The settings of one HSM's process over time: its PIN can be corrected while the
// program runs, and what the HSM says of it is remembered.

import (
	"context"
	"encoding/json"
	"fmt"

	"xks-proxy/pkg/hsm/worker"
)

// pinKeeper knows the PIN with which an HSM's process is started. After the start of
// the worker it is used by the worker's supervisor alone.
type pinKeeper struct {
	hsm     hsmConfig
	testKey string
	dir     string // in which a command that gives the PIN runs
	pin     secret
	refused refusedPINs
}

// settings are the pkcs11.Config for the process, in JSON. Sensitive: they hold the PIN.
func (k *pinKeeper) settings() (json.RawMessage, error) {
	settings := tokenSettings(k.hsm, k.pin, k.testKey)
	err := settings.Validate()
	if err != nil {
		return nil, fmt.Errorf("HSM %s: %w", k.hsm.Name, err)
	}
	return json.Marshal(settings)
}

// reread is the worker's Refresh: the settings with the PIN that is in its place now.
func (k *pinKeeper) reread() (json.RawMessage, error) {
	pin, err := k.hsm.PIN.read(context.Background(), k.dir) // bounds its time itself
	if err != nil {
		return nil, err
	}
	fresh := *k
	fresh.pin = pin
	settings, err := fresh.settings()
	if err != nil {
		return nil, err
	}
	k.pin = pin
	return settings, nil
}

// tell is the worker's OnPIN.
func (k *pinKeeper) tell(refusal error) { k.refused.note(k.hsm, k.pin, refusal) }

// watch fills in what a worker needs of all this.
func (k *pinKeeper) watch(c worker.Config) (worker.Config, error) {
	settings, err := k.settings()
	if err != nil {
		return worker.Config{}, err
	}
	c.Settings, c.Held = settings, k.refused.held(k.hsm, k.pin)
	c.OnPIN, c.Refresh = k.tell, k.reread
	return c, nil
}

package worker

// What the parent must know to start a process and to judge it.

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// Config says how one HSM's process is started and watched. Zero values take
// the defaults named.
type Config struct {
	// Name of the HSM, for logs and errors.
	Name string

	// Command is the argv of the process. /proc/self/exe as its first word is this
	// very program, even after the file on disk was replaced. Other processes can read it.
	Command []string

	// Dir is the working directory; "" = the parent's.
	Dir string

	// Env is added to the parent's environment, of which variables that begin with
	// XKS_ are left out: they are for the parent's configuration. The parent takes secrets under other names
	// out of its environment before the start.
	Env []string

	// Inherit gives files that the process finds as its descriptors from 4 on, made anew for each
	// process and closed when it has started; default: none.
	Inherit func() ([]*os.File, error) `json:"-"`

	// Credential is the user that the process runs as; nil: the parent's.
	Credential *syscall.Credential

	// Settings go to the process's OpenFunc, over the socket and in no other way:
	// they may hold a PIN. At most 128 KiB of JSON.
	Settings json.RawMessage `json:"-"`

	// Held, if it is set, is why the HSM must not be reached yet, such as a PIN that an
	// earlier run of the program found refused: no process is started before Restart.
	Held error `json:"-"`

	// OnPIN is told what became of the PIN: nil each time that a process has opened the
	// token, and the *hsm.Error when the HSM refuses the PIN, once for each process. From a refusal on,
	// no process is started before Restart. It is called before Ready answers; pings wait meanwhile.
	OnPIN func(error) `json:"-"`

	// Refresh gives the settings anew for a start that Restart asked for: with a PIN that has been
	// corrected. If it fails, the old ones are used, unless their PIN was refused. It and OnPIN are called
	// one after the other, by one goroutine.
	Refresh func() (json.RawMessage, error) `json:"-"`

	// StartTimeout is how long a process may take to open its token; default 60 s. Once one has, the
	// limit is adapted to that: see opening.
	StartTimeout time.Duration
	HangTimeout  time.Duration // a call that a session has had for longer is hung; default 2 s
	MaxHung      int           // hung calls with which the process is killed; default 4, or half of the sessions if that is less
	HungPatience time.Duration // with fewer hung calls it is killed when one has been hung for this long; default 30 s
	PingInterval time.Duration // default 500 ms
	PingTimeout  time.Duration // default 1 s
	MemoryLimit  int64         // bytes of memory with which the process is replaced; 0: none
	MaxInFlight  int           // calls; one more is hsm.ErrBusy; default 512
	BackoffMin   time.Duration // before the first restart, less a jitter of up to half; default 50 ms
	BackoffMax   time.Duration // likewise, after many; default 5 s

	Log *zap.Logger // default: none
}

const maxSettings = 128 << 10

// Validate says what is wrong with a Config, every fault of it.
func (c Config) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(c.Name == "", "the name is empty")
	fault(len(c.Command) == 0 || c.Command[0] == "", "the command is empty")
	for i, e := range c.Env {
		name, _, found := strings.Cut(e, "=")
		fault(!found || name == "", "environment entry %d is not NAME=value", i+1)
	}
	err := checkSettings(c.Settings)
	fault(err != nil, "%v", err)
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"start timeout", c.StartTimeout}, {"hang timeout", c.HangTimeout}, {"hung patience", c.HungPatience}, {"ping interval", c.PingInterval},
		{"ping timeout", c.PingTimeout}, {"minimum back-off", c.BackoffMin}, {"maximum back-off", c.BackoffMax},
	} {
		fault(d.value < 0, "the %s is negative", d.name)
	}
	full := c.withDefaults()
	fault(full.BackoffMin > full.BackoffMax, "the minimum back-off %v is above the maximum %v", full.BackoffMin, full.BackoffMax)
	fault(c.MemoryLimit < 0, "the memory limit is negative")
	fault(c.MaxHung < 0, "the number of hung calls is negative")
	fault(c.MaxInFlight < 0 || c.MaxInFlight > maxInFlightBound, "%d calls in flight, at most %d", c.MaxInFlight, maxInFlightBound)
	if len(faults) > 0 {
		return fmt.Errorf("HSM worker %q: %w", c.Name, errors.Join(faults...))
	}
	return nil
}

// checkSettings quotes nothing of them.
func checkSettings(s json.RawMessage) error {
	switch {
	case len(s) > maxSettings:
		return fmt.Errorf("the settings are %d bytes, at most %d", len(s), maxSettings)
	case len(s) > 0 && !json.Valid(s):
		return errors.New("the settings are not JSON")
	}
	return nil
}

// String names the worker and keeps the settings out of whatever prints it.
func (c Config) String() string { return fmt.Sprintf("HSM worker %q", c.Name) }

// GoString is String, for %#v.
func (c Config) GoString() string { return c.String() }

func (c Config) withDefaults() Config {
	orDefault(&c.StartTimeout, 60*time.Second)
	orDefault(&c.HangTimeout, 2*time.Second)
	orDefault(&c.HungPatience, 30*time.Second)
	orDefault(&c.PingInterval, 500*time.Millisecond)
	orDefault(&c.PingTimeout, time.Second)
	orDefault(&c.MaxInFlight, 512)
	orDefault(&c.BackoffMin, 50*time.Millisecond)
	orDefault(&c.BackoffMax, 5*time.Second)
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Inherit == nil {
		c.Inherit = func() ([]*os.File, error) { return nil, nil }
	}
	if c.OnPIN == nil {
		c.OnPIN = func(error) {}
	}
	return c
}

func orDefault[T comparable](value *T, def T) {
	var zero T
	if *value == zero {
		*value = def
	}
}

// usualMaxHung: where four calls hang the fifth would, too.
const usualMaxHung = 4

// maxHung is how many hung calls a process with this many sessions may have, plus one.
func (c Config) maxHung(sessions int) int {
	if c.MaxHung > 0 {
		return min(c.MaxHung, sessions)
	}
	return min((sessions+1)/2, usualMaxHung)
}

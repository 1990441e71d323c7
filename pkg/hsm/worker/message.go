package worker

// Bodies in JSON: how a process is started and how it says that it lives.
// They are rare, and their fields may grow.

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"xks-proxy/internal/version"
	"xks-proxy/pkg/hsm"
)

// hello is the parent's first frame. Settings may hold a PIN: whoever encodes
// or decodes a hello clears the bytes after use.
type hello struct {
	Protocol    int             `json:"protocol"`
	Build       string          `json:"build"`
	MaxInFlight int             `json:"maxInFlight"`
	HangTimeout time.Duration   `json:"hangTimeoutNs"`
	Settings    json.RawMessage `json:"settings,omitempty"`
}

// ready is the process's first frame if the token is open.
type ready struct {
	Protocol int      `json:"protocol"`
	Build    string   `json:"build"`
	Sessions int      `json:"sessions"`
	Info     hsm.Info `json:"info"`
}

// failed is the process's first and last frame if the token is not open.
type failed struct {
	Protocol int     `json:"protocol"`
	Build    string  `json:"build"`
	Failure  failure `json:"failure"`
}

// pong answers a ping; its id is the ping's. Ages are in time in which the process ran (see runClock).
type pong struct {
	Busy    int           `json:"busy"`      // sessions with a call in them
	Hung    int           `json:"hung"`      // of these, longer than hello.HangTimeout
	Oldest  time.Duration `json:"oldestNs"`  // age of the oldest call in a session
	Overdue time.Duration `json:"overdueNs"` // for how long the first hung one has been hung; 0 if none is
}

const (
	maxInFlightBound = 1 << 16
	maxSessions      = 4096
)

// parseHello reads and checks a hello. The error is ErrProtocol and tells the
// operator what to do.
func parseHello(f frame) (hello, error) {
	if f.kind != kindHello {
		return hello{}, fmt.Errorf("%w: the first frame is of kind %#x", ErrProtocol, byte(f.kind))
	}
	var h hello
	err := json.Unmarshal(f.body, &h)
	if err != nil {
		return hello{}, fmt.Errorf("%w: the hello cannot be read", ErrProtocol) // err could quote a PIN
	}
	err = sameProtocol("parent", h.Protocol, h.Build)
	if err != nil {
		return hello{}, err
	}
	if h.MaxInFlight < 1 || h.MaxInFlight > maxInFlightBound || h.HangTimeout <= 0 {
		return hello{}, fmt.Errorf("%w: a hello with %d calls in flight and %v until a call is hung", ErrProtocol, h.MaxInFlight, h.HangTimeout)
	}
	return h, nil
}

// parseOpened reads the first frame of the process. The error is why the process
// cannot serve: ErrProtocol or an *hsm.Error.
func parseOpened(name string, f frame) (ready, error) {
	switch f.kind {
	case kindReady:
		return parseReady(f.body)
	case kindFailed:
		return ready{}, parseFailed(name, f.body)
	}
	return ready{}, fmt.Errorf("%w: the first frame of the process is of kind %#x", ErrProtocol, byte(f.kind))
}

func parseReady(body []byte) (ready, error) {
	var r ready
	err := json.Unmarshal(body, &r)
	if err != nil {
		return ready{}, fmt.Errorf("%w: ready: %w", ErrProtocol, err)
	}
	err = sameProtocol("process", r.Protocol, r.Build)
	if err != nil {
		return ready{}, err
	}
	if r.Sessions < 1 || r.Sessions > maxSessions {
		return ready{}, fmt.Errorf("%w: a process with %d sessions", ErrProtocol, r.Sessions)
	}
	return r, nil
}

func parseFailed(name string, body []byte) error {
	var f failed
	err := json.Unmarshal(body, &f)
	if err != nil {
		return fmt.Errorf("%w: failed: %w", ErrProtocol, err)
	}
	err = sameProtocol("process", f.Protocol, f.Build)
	if err != nil {
		return err
	}
	return f.Failure.err(name)
}

func parsePong(body []byte) (pong, error) {
	var p pong
	err := json.Unmarshal(body, &p)
	if err != nil {
		return pong{}, fmt.Errorf("%w: pong: %w", ErrProtocol, err)
	}
	return p, nil
}

func sameProtocol(who string, version int, theirs string) error {
	if version == protocolVersion {
		return nil
	}
	return fmt.Errorf("%w: the %s speaks version %d (build %.80q), this side version %d (build %q): the program was replaced while it ran; restart it",
		ErrProtocol, who, version, theirs, protocolVersion, build())
}

// build names this program's build, for errors only.
func build() string {
	v := version.Get()
	return strings.TrimSpace(v.Version + " " + v.Revision)
}

// mustJSON encodes this file's types, which always encode.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("worker: " + err.Error())
	}
	return b
}

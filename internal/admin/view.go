package admin

// What the operator's service sees of the proxy.

import (
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/certs"
	"xks-proxy/internal/config"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/killswitch"
	"xks-proxy/internal/lastuse"
	"xks-proxy/internal/logging"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/xks"
)

// Config is where the service looks and what it acts on. Every field is required. Most are
// functions, because what they return changes while the proxy runs. Any goroutine may call them,
// and none waits.
type Config struct {
	Log   *zap.Logger
	Since time.Time // the start of the program

	Groups    func() []*group.Group              // in the configuration's order; none at the start
	Processes func() map[string]fleet.HSMProcess // by HSM
	Turns     *fleet.Turns                       // shared with the reloads
	Reloads   reloads
	Kill      *killswitch.Switch
	Uses      *lastuse.Uses
	Running   func() *config.Config // the one in use

	KeyStores    func() []xks.KeyStoreStatus // none while the proxy starts
	Handler      func() xks.HandlerStatus    // likewise
	Ready        func() string               // api.ReadyVerdict, or why the proxy is not ready
	Connections  func() api.ConnectionCounts
	Certificates func() []certs.Status
	LogState     func() logging.State
	Confinement  func() []fleet.ConfinementStatus // in the order of the configuration
	Refused      func() int64                     // orders of processes that descend from the proxy
}

// Service carries out the operator's orders and answers the operator's questions. Its methods may
// be called from any goroutine.
type Service struct{ Config }

// New makes the service from where it looks.
func New(c Config) *Service { return &Service{c} }

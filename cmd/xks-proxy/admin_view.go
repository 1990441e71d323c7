package main

// What the operator's service sees of the proxy.

import (
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/lastuse"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/xks"
)

// serviceConfig is where the service looks and what it acts on. Every field is required. Most are
// functions, because what they return changes while the proxy runs. Any goroutine may call them, and
// none waits.
type serviceConfig struct {
	log   *zap.Logger
	since time.Time // the start of the program

	groups    func() []*group.Group        // in the order of the configuration; none while the proxy starts
	processes func() map[string]hsmProcess // by HSM
	turns     *turns                       // shared with the reloads
	reloads   reloads
	kill      *killSwitch
	uses      *lastuse.Uses
	config    func() *config // the one in use

	keyStores    func() []xks.KeyStoreStatus // none while the proxy starts
	handler      func() xks.HandlerStatus    // likewise
	ready        func() string               // readyVerdict, or in a few words why it is not
	connections  func() connectionCounts
	certificates func() []certificateStatus
	logState     func() logState
	confinement  func() []confinementStatus // in the order of the configuration
	refused      func() int64               // orders of processes that descend from the proxy
}

// admin is the service: it carries out the operator's orders and answers the operator's questions.
type admin struct{ serviceConfig }

func newAdmin(c serviceConfig) *admin { return &admin{c} }

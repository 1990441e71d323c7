package main

// What the admin socket and the metrics see of the proxy besides its HSMs. Everything is a func, because all of it changes
// while the proxy runs; none waits for anything.

import (
	"time"

	"xks-proxy/internal/lastuse"
	"xks-proxy/pkg/xks"
	"xks-proxy/pkg/xks/listener"
)

// proxyView is where the answers come from.
type proxyView struct {
	since  time.Time // the start of the program
	kill   *killSwitch
	uses   *lastuse.Uses
	config func() *config // the one in use

	keyStores    func() []xks.KeyStoreStatus // none while the proxy starts
	handler      func() xks.HandlerStatus    // likewise
	ready        func() string               // readyVerdict, or in a few words why it is not; nil: not known
	connections  func() connectionCounts     // nil: not known
	reload       func() reloadState          // likewise
	certificates func() []certificateStatus  // likewise
	logState     func() logState             // likewise
	besides      func() map[string]int64     // likewise: connections closed, by listener beside the HTTPS ports
	confinement  func() []confinementStatus  // likewise: in the order of the configuration
	tls          *tlsHolder
}

// connectionCounts are those of all HTTPS ports together.
type connectionCounts struct {
	Open    int   `json:"open"`
	Refused int64 `json:"refused"` // since the start, because there were too many
	CutOff  int64 `json:"cutOff"`  // since the start, because much was sent and nobody authenticated

	// Since the start, by what the header of the PROXY protocol came to.
	Headers map[listener.HeaderOutcome]int64 `json:"proxyProtocol,omitempty"`
}

func viewOf(p *parts) proxyView {
	return proxyView{
		since: p.since, kill: p.kill, uses: p.uses, config: p.running,
		keyStores: p.keyStores, handler: p.handlerStatus, certificates: p.tls.certificates, tls: p.tls,
		logState: p.opened.state, confinement: p.fleet.confinements,
	}
}

// keyStores is what the handler says of each key store, with the last uses that earlier runs knew of.
func (p *parts) keyStores() []xks.KeyStoreStatus {
	handler := p.served.Load()
	if handler == nil {
		return nil
	}
	return p.uses.Overlay(handler.KeyStores())
}

func (p *parts) handlerStatus() xks.HandlerStatus {
	handler := p.served.Load()
	if handler == nil {
		return xks.ZeroHandlerStatus()
	}
	return handler.Status()
}

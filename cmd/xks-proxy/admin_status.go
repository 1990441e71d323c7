package main

// The state of the whole proxy in one answer, for `xks-proxy status`, and what in it needs an
// operator.

import (
	"time"

	"xks-proxy/internal/version"
	"xks-proxy/pkg/hsm/status"
	"xks-proxy/pkg/xks"
)

// The outcomes of requests that are counted apart.
const (
	outcomeOK        = "ok"
	outcomeThrottled = "ThrottlingException"
)

func (a *admin) proxyStatus(now time.Time) proxyStatus {
	reload, connections, log := a.reloads.state(), a.connections(), a.logState()
	s := proxyStatus{
		Version: version.Get().Version, Since: a.since, State: a.ready(),
		ConfigFile: absolute(a.config().source.file), Reload: &reload, Groups: []groupSummary{},
		Certificates: append([]certificateStatus{}, a.certificates()...),
		Confinement:  a.confinement(), Refused: a.refused(), InFlight: a.handler().InFlight,
		Connections: &connections, Log: &log, Blocks: a.blockList(),
	}
	for _, g := range a.groups() {
		s.Groups = append(s.Groups, summarizeGroup(g.Status()))
	}
	s.KeyStores = a.keyStoreSummaries(s.Blocks.Blocks)
	s.Attention = attentionTo(&s, now)
	return s
}

func summarizeGroup(g status.Group) groupSummary {
	s := groupSummary{
		Name:      g.Name,
		HSMs:      len(g.Members),
		Findings:  mattering(g.Findings),
		Dangerous: dangerous(g.Findings),
	}
	for _, m := range g.Members {
		if serves(m) {
			s.InService++
		}
		if !serves(m) || m.Health.Status != status.Active || m.Unverified != "" {
			s.Others = append(
				s.Others,
				hsmSummary{
					Name:       m.HSM,
					Service:    m.Service,
					Since:      m.Since,
					Health:     m.Health.Status,
					Reason:     m.Reason,
					Unverified: m.Unverified,
				},
			)
		}
	}
	return s
}

// keyStoreSummaries are those that are served; while the proxy starts, those of the configuration.
func (a *admin) keyStoreSummaries(blocks []block) []keyStoreSummary {
	all := []keyStoreSummary{}
	blockedBy := map[string]string{}
	for _, b := range blocks {
		if b.Key == "" {
			blockedBy[b.KeyStore] = b.By
		}
	}
	blocked := func(name string, otherwise bool) string {
		if by := blockedBy[name]; by != "" || !otherwise {
			return by
		}
		return configurationBlocks
	}
	served := a.keyStores()
	for _, k := range served {
		s := keyStoreSummary{
			Name:        k.Name,
			Owner:       k.Owner,
			Blocked:     blocked(k.Name, k.Blocked),
			InFlight:    k.InFlight,
			LastRequest: k.LastRequest,
		}
		countRequests(&s, k.Requests)
		all = append(all, s)
	}
	if served == nil {
		for _, k := range a.config().KeyStores {
			all = append(
				all,
				keyStoreSummary{Name: k.Name, Owner: k.Owner, Blocked: blocked(k.Name, k.Blocked)},
			)
		}
	}
	return all
}

func countRequests(s *keyStoreSummary, requests []xks.RequestCount) {
	for _, r := range requests {
		s.Requests += r.Count
		switch r.Outcome {
		case outcomeOK:
		case outcomeThrottled:
			s.Throttled += r.Count
		default:
			s.Failed += r.Count
		}
	}
}

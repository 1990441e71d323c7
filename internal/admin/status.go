package admin

// The state of the whole proxy in one answer, for `xks-proxy status`, and what in it needs an
// operator.

import (
	"time"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/certs"
	"xks-proxy/internal/killswitch"
	"xks-proxy/internal/version"
	"xks-proxy/pkg/hsm/status"
	"xks-proxy/pkg/xks"
)

// The outcomes of requests that are counted apart.
const (
	outcomeOK        = "ok"
	outcomeThrottled = "ThrottlingException"
)

// Status returns the state of the whole proxy and what needs attention at the time now.
func (a *Service) Status(now time.Time) api.Status {
	reload, connections, log := a.Reloads.State(), a.Connections(), a.LogState()
	s := api.Status{
		Version: version.Get().Version, Since: a.Since, State: a.Ready(),
		ConfigFile: api.Absolute(
			a.Running().Source.File,
		), Reload: &reload, Groups: []api.GroupSummary{},
		Certificates: append([]certs.Status{}, a.Certificates()...),
		Confinement:  a.Confinement(), Refused: a.Refused(), InFlight: a.Handler().InFlight,
		Connections: &connections, Log: &log, Blocks: a.Blocks(),
	}
	for _, g := range a.Groups() {
		s.Groups = append(s.Groups, summarizeGroup(g.Status()))
	}
	s.KeyStores = a.keyStoreSummaries(s.Blocks.Blocks)
	s.Attention = AttentionTo(&s, now)
	return s
}

func summarizeGroup(g status.Group) api.GroupSummary {
	s := api.GroupSummary{
		Name:      g.Name,
		HSMs:      len(g.Members),
		Findings:  api.Mattering(g.Findings),
		Dangerous: dangerous(g.Findings),
	}
	for _, m := range g.Members {
		if Serves(m) {
			s.InService++
		}
		if !Serves(m) || m.Health.Status != status.Active || m.Unverified != "" {
			s.Others = append(
				s.Others,
				api.HSMSummary{
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
func (a *Service) keyStoreSummaries(blocks []killswitch.Block) []api.KeyStoreSummary {
	all := []api.KeyStoreSummary{}
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
		return api.ConfigurationBlocks
	}
	served := a.KeyStores()
	for _, k := range served {
		s := api.KeyStoreSummary{
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
		for _, k := range a.Running().KeyStores {
			all = append(
				all,
				api.KeyStoreSummary{
					Name:    k.Name,
					Owner:   k.Owner,
					Blocked: blocked(k.Name, k.Blocked),
				},
			)
		}
	}
	return all
}

func countRequests(s *api.KeyStoreSummary, requests []xks.RequestCount) {
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

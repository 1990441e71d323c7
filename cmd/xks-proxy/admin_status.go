package main

// The state of the whole proxy in one answer, for `xks-proxy status`, and what in it needs an operator.

import (
	"fmt"
	"strings"
	"time"

	"xks-proxy/internal/version"
	"xks-proxy/pkg/hsm/status"
	"xks-proxy/pkg/xks"
)

// proxyStatus is the answer of adminStatusPath.
type proxyStatus struct {
	Version      string              `json:"version"`
	Since        time.Time           `json:"since"`               // the start of the program
	State        string              `json:"state"`               // readyVerdict, or why it is not
	Attention    []attention         `json:"attention,omitempty"` // what an operator should look at, the most urgent first
	ConfigFile   string              `json:"configFile"`
	Reload       *reloadState        `json:"reload,omitempty"`
	Groups       []groupSummary      `json:"hsmGroups"`
	Certificates []certificateStatus `json:"certificates"`
	Confinement  []confinementStatus `json:"confinement,omitempty"` // by HSM
	Refused      int64               `json:"adminRefused"`          // orders of descendants
	InFlight     int                 `json:"inFlight"`
	Connections  *connectionCounts   `json:"connections,omitempty"`
	Log          *logState           `json:"log,omitempty"`
	KeyStores    []keyStoreSummary   `json:"keyStores"` // in the order of the configuration
	Blocks       blockList           `json:"blocks"`
}

// groupSummary is one HSM group in one line; `hsm list` has all of it.
type groupSummary struct {
	Name      string       `json:"name"`
	HSMs      int          `json:"hsms"`
	InService int          `json:"inService"`
	Others    []hsmSummary `json:"others,omitempty"`              // that are not in service, or not well
	Findings  int          `json:"keyFindings,omitempty"`         // about their keys, without the minor ones
	Dangerous int          `json:"keyFindingsCritical,omitempty"` // of these, dangerousFindings
}

type hsmSummary struct {
	Name       string         `json:"name"`
	Service    status.Service `json:"service"`
	Since      time.Time      `json:"since"`
	Health     status.Status  `json:"health"`
	Reason     string         `json:"reason,omitempty"`
	Unverified string         `json:"unverified,omitempty"`
}

// keyStoreSummary is one row of the table. Counts are since the start.
type keyStoreSummary struct {
	Name        string    `json:"name"`
	Owner       string    `json:"owner,omitempty"`
	Blocked     string    `json:"blocked,omitempty"` // by whom: a user, or configurationBlocks
	Requests    uint64    `json:"requests"`
	Failed      uint64    `json:"failed"`    // answered with an error other than ThrottlingException
	Throttled   uint64    `json:"throttled"` // answered ThrottlingException
	InFlight    int       `json:"inFlight"`
	LastRequest time.Time `json:"lastRequest,omitzero"`
}

const (
	configurationBlocks = "configuration"
	outcomeOK           = "ok"
	outcomeThrottled    = "ThrottlingException"
	oneDay              = 24 * time.Hour
)

func (a *admin) proxyStatus(now time.Time) proxyStatus {
	s := proxyStatus{
		Version: version.Get().Version, Since: a.since, State: "not known", Groups: []groupSummary{}, Certificates: []certificateStatus{},
		InFlight: a.handler().InFlight, Blocks: a.blockList(), Refused: a.outsiders.refused.Load(),
	}
	if a.config().source != nil {
		s.ConfigFile = absolute(a.config().source.file)
	}
	if a.ready != nil {
		s.State = a.ready()
	}
	if a.reload != nil {
		state := a.reload()
		s.Reload = &state
	}
	if a.connections != nil {
		counts := a.connections()
		s.Connections = &counts
	}
	if a.logState != nil {
		state := a.logState()
		s.Log = &state
	}
	if a.certificates != nil {
		s.Certificates = append(s.Certificates, a.certificates()...)
	}
	if a.confinement != nil {
		s.Confinement = a.confinement()
	}
	for _, g := range a.groups() {
		s.Groups = append(s.Groups, summarizeGroup(g.Status()))
	}
	s.KeyStores = a.keyStoreSummaries(s.Blocks.Blocks)
	s.Attention = s.attention(now)
	return s
}

func summarizeGroup(g status.Group) groupSummary {
	s := groupSummary{Name: g.Name, HSMs: len(g.Members), Findings: mattering(g.Findings), Dangerous: dangerous(g.Findings)}
	for _, m := range g.Members {
		if serves(m) {
			s.InService++
		}
		if !serves(m) || m.Health.Status != status.Active || m.Unverified != "" {
			s.Others = append(s.Others, hsmSummary{Name: m.HSM, Service: m.Service, Since: m.Since, Health: m.Health.Status, Reason: m.Reason, Unverified: m.Unverified})
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
		s := keyStoreSummary{Name: k.Name, Owner: k.Owner, Blocked: blocked(k.Name, k.Blocked), InFlight: k.InFlight, LastRequest: k.LastRequest}
		s.count(k.Requests)
		all = append(all, s)
	}
	if served == nil {
		for _, k := range a.config().KeyStores {
			all = append(all, keyStoreSummary{Name: k.Name, Owner: k.Owner, Blocked: blocked(k.Name, k.Blocked)})
		}
	}
	return all
}

func (s *keyStoreSummary) count(requests []xks.RequestCount) {
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

// someNames are the first of a certificate's names.
func someNames(names []string) string {
	const shown = 3
	text := strings.Join(names[:min(len(names), shown)], ", ")
	if more := len(names) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

package main

// The state of the whole proxy in one answer, for `xks-proxy status`, and what in it needs an operator.

import (
	"fmt"
	"strings"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/xks"
)

// proxyStatus is the answer of adminStatusPath.
type proxyStatus struct {
	Version      string              `json:"version"`
	Since        time.Time           `json:"since"`               // the start of the program
	State        string              `json:"state"`               // readyVerdict, or why it is not
	Attention    []string            `json:"attention,omitempty"` // what an operator should look at, one sentence each
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
	Others    []hsmSummary `json:"others,omitempty"`      // that are not in service, or not well
	Findings  int          `json:"keyFindings,omitempty"` // about their keys, without the minor ones
}

type hsmSummary struct {
	Name       string      `json:"name"`
	Service    hsm.Service `json:"service"`
	Since      time.Time   `json:"since"`
	Health     hsm.Status  `json:"health"`
	Reason     string      `json:"reason,omitempty"`
	Unverified string      `json:"unverified,omitempty"`
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
		Version: programVersion().Version, Since: a.since, State: "not known", Groups: []groupSummary{}, Certificates: []certificateStatus{},
		InFlight: a.handler().InFlight, Blocks: a.blockList(), Refused: a.outsiders.refused.Load(),
	}
	if a.config().source != nil {
		s.ConfigFile = a.config().source.file
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

func summarizeGroup(g hsm.GroupStatus) groupSummary {
	s := groupSummary{Name: g.Name, HSMs: len(g.Members), Findings: mattering(g.Findings)}
	for _, m := range g.Members {
		if serves(m) {
			s.InService++
		}
		if !serves(m) || m.Health.Status != hsm.Active || m.Unverified != "" {
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

// attention is what is not as it should be, the most urgent first. What operators have blocked on purpose is not among it.
func (s *proxyStatus) attention(now time.Time) []string {
	var all []string
	if s.State != readyVerdict {
		all = append(all, "The proxy is not ready: "+s.State+".")
	}
	for _, g := range s.Groups {
		all = append(all, g.attention(now)...)
	}
	if s.Blocks.Unsaved != "" {
		all = append(all, "What is blocked will not survive a restart: "+sentence(s.Blocks.Unsaved)+" Mend that and give one of the orders again.")
	}
	if s.Refused > 0 {
		all = append(all, fmt.Sprintf("A process that the proxy has started, or may have, tried to use "+
			"the admin socket (%s): the library of an HSM may be hostile; see the log.",
			plural(int(s.Refused), "time")))
	}
	for _, c := range s.Confinement {
		if text := c.attention(); text != "" {
			all = append(all, text)
		}
	}
	if s.Log != nil {
		all = append(all, s.Log.attention(now)...)
	}
	for _, c := range s.Certificates {
		if text := c.attention(now); text != "" {
			all = append(all, text)
		}
	}
	if s.Reload != nil {
		all = append(all, s.Reload.Loosening.attention(now)...)
	}
	if s.Reload != nil && s.Reload.LastError != "" && len(s.Reload.Loosening.Refused) == 0 {
		all = append(all, fmt.Sprintf("The last reload, %s ago, failed; the configuration before it is in force: %s",
			shortDuration(now.Sub(s.Reload.LastAttempt)), sentence(s.Reload.LastError)))
	}
	return all
}

func (g *groupSummary) attention(now time.Time) []string {
	var all []string
	for _, h := range g.Others {
		reason := ""
		if h.Reason != "" {
			reason = ": " + h.Reason
		}
		switch {
		case h.Service == hsm.Out || h.Service == hsm.Drained:
			all = append(all, sentence(fmt.Sprintf("%s of the group %s is %s for %s%s", h.Name, g.Name, h.Service, shortDuration(now.Sub(h.Since)), reason)))
		case h.Health != hsm.Active:
			all = append(all, sentence(fmt.Sprintf("%s of the group %s is %s%s", h.Name, g.Name, h.Health, reason)))
		}
		if h.Unverified != "" {
			all = append(all, sentence(fmt.Sprintf("%s of the group %s serves a key only after it was compared with another HSM: %s", h.Name, g.Name, h.Unverified)))
		}
	}
	if g.Findings > 0 {
		all = append(all, fmt.Sprintf("The keys of the group %s need attention: %s; see xks-proxy hsm list.", g.Name, plural(g.Findings, "finding")))
	}
	return all
}

func (c *certificateStatus) attention(now time.Time) string {
	left := c.NotAfter.Sub(now)
	what := fmt.Sprintf("The certificate %s (%s)", c.File, someNames(c.Names))
	switch {
	case left <= 0:
		return fmt.Sprintf("%s expired %s ago.", what, shortDuration(-left))
	case c.Problem != "":
		return sentence(what + ": " + c.Problem)
	case left < certificateWarning:
		return fmt.Sprintf("%s expires in %s.", what, plural(int(left/oneDay), "day"))
	}
	return ""
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

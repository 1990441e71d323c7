package main

// What an operator should look at, and how urgent it is: `xks-proxy status` prints it first and ends
// with the exit code of the most urgent. configs/alerts.yaml calls the same things warning and critical.

import (
	"fmt"
	"slices"
	"time"

	"xks-proxy/internal/text"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/status"
)

// needs collects what needs an operator.
type needs []attention

func (n *needs) add(how severity, format string, args ...any) {
	*n = append(*n, attention{Severity: how, Text: fmt.Sprintf(format, args...)})
}

// forgottenDrain is when a drained HSM is more than maintenance.
const forgottenDrain = oneDay

// dangerousFindings are those for which a ciphertext may become unreadable.
var dangerousFindings = []catalogue.FindingKind{
	catalogue.MaterialDiffers,
	catalogue.DuplicateVersion,
}

func dangerous(findings []catalogue.Finding) int {
	count := 0
	for _, f := range findings {
		if slices.Contains(dangerousFindings, f.Kind) {
			count++
		}
	}
	return count
}

func (c *certificateStatus) urgency(now time.Time) urgency {
	return urgencyOf(c.NotBefore, c.NotAfter, now)
}

// certificateAttention is "" for a certificate that needs none.
func certificateAttention(c *certificateStatus, now time.Time) (severity, string) {
	what := "The certificate"
	if c.Use == useClientCA {
		what = "The CA certificate for clients"
	}
	what = fmt.Sprintf("%s %s (%s)", what, c.File, text.Some(c.Names, namesShown))
	left := c.NotAfter.Sub(now)
	how := severityWarning
	switch c.urgency(now) {
	case unusable:
		if left > 0 {
			return severityCritical, fmt.Sprintf(
				"%s is not valid before %s.",
				what,
				text.Time(c.NotBefore),
			)
		}
		return severityCritical, fmt.Sprintf("%s expired %s ago.", what, text.Duration(-left))
	case endsNow:
		how = severityCritical
	case notUrgent:
		if c.Problem != "" {
			return severityWarning, text.Sentence(what + ": " + c.Problem)
		}
		return "", ""
	}
	return how, fmt.Sprintf("%s expires in %s.", what, timeLeft(left))
}

// looseningAttention is what an operator should look at after reloads.
func looseningAttention(s looseningState, now time.Time) []attention {
	var all needs
	if len(s.Refused) > 0 {
		all.add(severityWarning, "The files hold changes that may let in what is refused now (%s); "+
			"they were refused, and the configuration before them is in use. "+
			"Correct the files, or accept the changes: %s",
			someLoosenings(s.Refused), acceptCommand(s.Digest))
	}
	if len(s.Loosens) > 0 && !s.Accepted && now.Sub(s.At) < unacceptedFor {
		all.add(severityWarning, "The reload %s ago by %s may let in what was refused before: %s. "+
			"Correct the files, or say that you meant it: xks-proxy reload --accept-loosening",
			text.Duration(now.Sub(s.At)), s.By, someLoosenings(s.Loosens))
	}
	return all
}

// attentionTo lists what is not as it should be, the most urgent first. Blocks are intended, so they
// are not listed.
func attentionTo(s *proxyStatus, now time.Time) []attention {
	var all needs
	if s.State != readyVerdict {
		all.add(severityCritical, "The proxy is not ready: %s.", s.State)
	}
	for _, g := range s.Groups {
		all = append(all, groupAttention(&g, now)...)
	}
	if s.Blocks.Unsaved != "" {
		all.add(
			severityCritical,
			"What is blocked will not survive a restart: %s Fix that; the proxy tries again every 5 seconds.",
			text.Sentence(s.Blocks.Unsaved),
		)
	}
	if s.Refused > 0 {
		all.add(
			severityCritical,
			"A process that the proxy has started, or may have, tried to use the admin socket (%s): "+
				"the library of an HSM may be hostile; see the log.",
			text.Plural(int(s.Refused), "time"),
		)
	}
	for _, c := range s.Confinement {
		if says := c.attention(); says != "" {
			all.add(severityWarning, "%s", says)
		}
	}
	if s.Log != nil {
		all = append(all, logAttention(s.Log, now)...)
	}
	all = append(all, certificatesAttention(s.Certificates, now)...)
	if s.Reload != nil {
		all = append(all, looseningAttention(s.Reload.Loosening, now)...)
	}
	if s.Reload != nil && s.Reload.LastError != "" && len(s.Reload.Loosening.Refused) == 0 {
		all.add(
			severityWarning,
			"The last reload, %s ago, failed, and the configuration before it is still in use: %s",
			text.Duration(now.Sub(s.Reload.LastAttempt)),
			text.Sentence(s.Reload.LastError),
		)
	}
	slices.SortStableFunc(all, func(a, b attention) int {
		return slices.Index(severities, b.Severity) - slices.Index(severities, a.Severity)
	})
	return all
}

func groupAttention(g *groupSummary, now time.Time) []attention {
	var all needs
	for _, h := range g.Others {
		reason := ""
		if h.Reason != "" {
			reason = ": " + h.Reason
		}
		since := now.Sub(h.Since)
		how := severityWarning
		switch {
		case g.InService == 0:
			how = severityCritical // every request to its keys fails
		case h.Service == status.Drained && since < forgottenDrain:
			how = severityInfo
		}
		switch {
		case h.Service == status.Out || h.Service == status.Drained:
			all.add(
				how,
				"%s of the group %s is %s for %s%s",
				h.Name,
				g.Name,
				h.Service,
				text.Duration(since),
				reason,
			)
		case h.Health != status.Active:
			all.add(severityWarning, "%s of the group %s is %s%s", h.Name, g.Name, h.Health, reason)
		}
		if h.Unverified != "" {
			all.add(
				severityCritical,
				"%s of the group %s serves a key only after it was compared with another HSM: %s",
				h.Name,
				g.Name,
				h.Unverified,
			)
		}
	}
	if g.Dangerous > 0 {
		all.add(
			severityCritical,
			"The group %s has keys with different material under one name, or twice: %s; see xks-proxy hsm list",
			g.Name,
			text.Plural(g.Dangerous, "finding"),
		)
	}
	if other := g.Findings - g.Dangerous; other > 0 {
		all.add(severityWarning, "The keys of the group %s need attention: %s; see xks-proxy hsm list",
			g.Name, text.Plural(other, "finding"))
	}
	for i := range all {
		all[i].Text = text.Sentence(all[i].Text) // a reason may end like one already
	}
	return all
}

// certificatesAttention lists certificates that have expired or expire soon. A CA of clients is a
// warning while another is left.
func certificatesAttention(list []certificateStatus, now time.Time) []attention {
	var all needs
	caLeft := slices.ContainsFunc(list, func(c certificateStatus) bool {
		return c.Use == useClientCA && c.urgency(now) <= endsSoon
	})
	for _, c := range list {
		how, says := certificateAttention(&c, now)
		if says == "" {
			continue
		}
		if how == severityCritical && c.Use == useClientCA && caLeft {
			how = severityWarning
		}
		all.add(how, "%s", says)
	}
	return all
}

// logAttention is what an operator should know about the log.
func logAttention(s *logState, now time.Time) []attention {
	var all needs
	if s.Failing != "" {
		all.add(severityCritical,
			"The log (%s) cannot be written for %s: %s Up to 8 MiB of lines wait in memory.",
			s.Output, text.Duration(now.Sub(s.Since)), text.Sentence(s.Failing))
	}
	if s.Lost > 0 && now.Sub(s.LastLost) < oneDay {
		all.add(severityCritical,
			"%s of the log were lost since the start, the last %s ago.",
			text.Plural(int(s.Lost), "line"), text.Duration(now.Sub(s.LastLost)))
	}
	return all
}

// unacceptedFor is how long a change that nobody accepted needs attention.
const unacceptedFor = 24 * time.Hour

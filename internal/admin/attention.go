package admin

// What an operator should look at, and how urgent it is: `xks-proxy status` prints it first and
// ends with the exit code of the most urgent. configs/alerts.yaml calls the same things warning and
// critical.

import (
	"fmt"
	"slices"
	"time"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/certs"
	"xks-proxy/internal/logging"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/status"
)

// needs collects what needs an operator.
type needs []api.Attention

func (n *needs) add(how api.Severity, format string, args ...any) {
	*n = append(*n, api.Attention{Severity: how, Text: fmt.Sprintf(format, args...)})
}

// forgottenDrain is when a drained HSM is more than maintenance.
const forgottenDrain = certs.OneDay

// DangerousFindings are those for which a ciphertext may become unreadable.
var DangerousFindings = []catalogue.FindingKind{
	catalogue.MaterialDiffers,
	catalogue.DuplicateVersion,
}

func dangerous(findings []catalogue.Finding) int {
	count := 0
	for _, f := range findings {
		if slices.Contains(DangerousFindings, f.Kind) {
			count++
		}
	}
	return count
}

// certificateAttention is "" for a certificate that needs none.
func certificateAttention(c *certs.Status, now time.Time) (api.Severity, string) {
	what := "The certificate"
	if c.Use == certs.UseClientCA {
		what = "The CA certificate for clients"
	}
	what = fmt.Sprintf("%s %s (%s)", what, c.File, text.Some(c.Names, api.NamesShown))
	left := c.NotAfter.Sub(now)
	how := api.Warning
	switch c.Urgency(now) {
	case certs.Unusable:
		if left > 0 {
			return api.Critical, fmt.Sprintf(
				"%s is not valid before %s.",
				what,
				text.Time(c.NotBefore),
			)
		}
		return api.Critical, fmt.Sprintf("%s expired %s ago.", what, text.Duration(-left))
	case certs.EndsNow:
		how = api.Critical
	case certs.NotUrgent:
		if c.Problem != "" {
			return api.Warning, text.Sentence(what + ": " + c.Problem)
		}
		return "", ""
	}
	return how, fmt.Sprintf("%s expires in %s.", what, certs.TimeLeft(left))
}

// LooseningAttention is what an operator should look at after reloads.
func LooseningAttention(s api.LooseningState, now time.Time) []api.Attention {
	var all needs
	if len(s.Refused) > 0 {
		all.add(api.Warning, "The files hold changes that may let in what is refused now (%s); "+
			"they were refused, and the configuration before them is in use. "+
			"Correct the files, or accept the changes: %s",
			api.SomeLoosenings(s.Refused), api.AcceptCommand(s.Digest))
	}
	if len(s.Loosens) > 0 && !s.Accepted && now.Sub(s.At) < unacceptedFor {
		all.add(api.Warning, "The reload %s ago by %s may let in what was refused before: %s. "+
			"Correct the files, or say that you meant it: xks-proxy reload --accept-loosening",
			text.Duration(now.Sub(s.At)), s.By, api.SomeLoosenings(s.Loosens))
	}
	return all
}

// AttentionTo lists what is not as it should be, the most urgent first. Blocks are intended, so
// they are not listed.
func AttentionTo(s *api.Status, now time.Time) []api.Attention {
	var all needs
	if s.State != api.ReadyVerdict {
		all.add(api.Critical, "The proxy is not ready: %s.", s.State)
	}
	for _, g := range s.Groups {
		all = append(all, groupAttention(&g, now)...)
	}
	if s.Blocks.Unsaved != "" {
		all.add(
			api.Critical,
			"What is blocked will not survive a restart: %s Fix that; the proxy tries again every 5 seconds.",
			text.Sentence(s.Blocks.Unsaved),
		)
	}
	if s.Refused > 0 {
		all.add(
			api.Critical,
			"A process that the proxy has started, or may have, tried to use the admin socket (%s): "+
				"the library of an HSM may be hostile; see the log.",
			text.Plural(int(s.Refused), "time"),
		)
	}
	for _, c := range s.Confinement {
		if says := c.Attention(); says != "" {
			all.add(api.Warning, "%s", says)
		}
	}
	if s.Log != nil {
		all = append(all, logAttention(s.Log, now)...)
	}
	all = append(all, certificatesAttention(s.Certificates, now)...)
	if s.Reload != nil {
		all = append(all, LooseningAttention(s.Reload.Loosening, now)...)
	}
	if s.Reload != nil && s.Reload.LastError != "" && len(s.Reload.Loosening.Refused) == 0 {
		all.add(
			api.Warning,
			"The last reload, %s ago, failed, and the configuration before it is still in use: %s",
			text.Duration(now.Sub(s.Reload.LastAttempt)),
			text.Sentence(s.Reload.LastError),
		)
	}
	slices.SortStableFunc(all, func(a, b api.Attention) int {
		return slices.Index(api.Severities, b.Severity) - slices.Index(api.Severities, a.Severity)
	})
	return all
}

func groupAttention(g *api.GroupSummary, now time.Time) []api.Attention {
	var all needs
	for _, h := range g.Others {
		reason := ""
		if h.Reason != "" {
			reason = ": " + h.Reason
		}
		since := now.Sub(h.Since)
		how := api.Warning
		switch {
		case g.InService == 0:
			how = api.Critical // every request to its keys fails
		case h.Service == status.Drained && since < forgottenDrain:
			how = api.Info
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
			all.add(api.Warning, "%s of the group %s is %s%s", h.Name, g.Name, h.Health, reason)
		}
		if h.Unverified != "" {
			all.add(
				api.Critical,
				"%s of the group %s serves a key only after it was compared with another HSM: %s",
				h.Name,
				g.Name,
				h.Unverified,
			)
		}
	}
	if g.Dangerous > 0 {
		all.add(
			api.Critical,
			"The group %s has keys with different material under one name, or twice: %s; see xks-proxy hsm list",
			g.Name,
			text.Plural(g.Dangerous, "finding"),
		)
	}
	if other := g.Findings - g.Dangerous; other > 0 {
		all.add(api.Warning, "The keys of the group %s need attention: %s; see xks-proxy hsm list",
			g.Name, text.Plural(other, "finding"))
	}
	for i := range all {
		all[i].Text = text.Sentence(all[i].Text) // a reason may end like one already
	}
	return all
}

// certificatesAttention lists certificates that have expired or expire soon. A CA of clients is a
// warning while another is left.
func certificatesAttention(list []certs.Status, now time.Time) []api.Attention {
	var all needs
	caLeft := slices.ContainsFunc(list, func(c certs.Status) bool {
		return c.Use == certs.UseClientCA && c.Urgency(now) <= certs.EndsSoon
	})
	for _, c := range list {
		how, says := certificateAttention(&c, now)
		if says == "" {
			continue
		}
		if how == api.Critical && c.Use == certs.UseClientCA && caLeft {
			how = api.Warning
		}
		all.add(how, "%s", says)
	}
	return all
}

// logAttention is what an operator should know about the log.
func logAttention(s *logging.State, now time.Time) []api.Attention {
	var all needs
	if s.Failing != "" {
		all.add(api.Critical,
			"The log (%s) cannot be written for %s: %s Up to 8 MiB of lines wait in memory.",
			s.Output, text.Duration(now.Sub(s.Since)), text.Sentence(s.Failing))
	}
	if s.Lost > 0 && now.Sub(s.LastLost) < certs.OneDay {
		all.add(api.Critical,
			"%s of the log were lost since the start, the last %s ago.",
			text.Plural(int(s.Lost), "line"), text.Duration(now.Sub(s.LastLost)))
	}
	return all
}

// unacceptedFor is how long a change that nobody accepted needs attention.
const unacceptedFor = 24 * time.Hour

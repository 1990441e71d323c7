package config

// Checks of the HSM groups and of the admin socket.

import (
	"fmt"

	"xks-proxy/internal/config/schema"
	"xks-proxy/pkg/hsm/group"
)

func validateGroups(r *schema.Report, c *Config) {
	hsmNames := make([]string, 0, len(c.HSMs))
	for _, h := range c.HSMs {
		hsmNames = append(hsmNames, h.Name)
	}
	names := map[string]int{}
	shared := map[string]Group{} // by HSM
	for i, g := range c.HSMGroups {
		at := fmt.Sprintf("hsm_groups[%d]", i)
		validateName(r, names, i, "hsm_groups", g.Name)
		members := map[string]bool{}
		for j, m := range g.HSMs {
			key := fmt.Sprintf("%s.hsms[%d].hsm", at, j)
			validateReference(r, key, "HSM", m.HSM, hsmNames)
			if members[m.HSM] {
				r.Errorf(key, "%s is in this group already", schema.QuoteName(m.HSM))
			}
			members[m.HSM] = true
			other, isShared := shared[m.HSM]
			if isShared && other.TestKey.Label != g.TestKey.Label {
				r.Errorf(key, "%s is in another group, too, whose test_key is %q; an HSM has one "+
					"test key", schema.QuoteName(m.HSM), other.TestKey.Label)
			}
			if isShared && other.TestKey.Create != g.TestKey.Create {
				r.Errorf(key, "%s is also in the group %s, whose test_key.create is %t: set the "+
					"same for both groups", schema.QuoteName(m.HSM),
					schema.QuoteName(other.Name), other.TestKey.Create)
			}
			if isShared && other.KeyVersion != g.KeyVersion {
				r.Errorf(key, "%s is also in the group %s, whose key_version is %s: set the same "+
					"for both groups", schema.QuoteName(m.HSM),
					schema.QuoteName(other.Name), other.KeyVersion)
			}
			shared[m.HSM] = g
		}
		if len(g.HSMs) > group.MaxMembers {
			r.Errorf(
				at+".hsms", "has %d HSMs; GetHealthStatus can tell AWS KMS about %d", len(g.HSMs),
				group.MaxMembers,
			)
		}
		if len(g.HSMs) == 1 {
			r.Warnf(at+".hsms", "one HSM has nobody to stand in for it; give the group a second "+
				"one")
		}
		if g.ProbeTimeout > g.ProbeInterval {
			r.Warnf(at+".probe_timeout", "is longer than probe_interval; probes of a slow HSM "+
				"come less often than that")
		}
		validatePatience(r, at, c.Server, g)
		warnSmallLimits(r, c, at, g)
	}
}

// validatePatience checks the time that an HSM gets within the budget of a request.
func validatePatience(r *schema.Report, at string, s Server, g Group) {
	known := !r.Failed["server.budget"] && !r.Failed["server.first_request_budget"]
	if known && (g.AttemptTimeout >= s.Budget || g.AttemptTimeout >= s.FirstRequestBudget) {
		r.Errorf(at+".attempt_timeout", "%s is not below server.budget (%s) and "+
			"server.first_request_budget (%s); an HSM that hangs would leave no time for another "+
			"one",
			g.AttemptTimeout, s.Budget, s.FirstRequestBudget)
	}
	if g.HedgePercent > 0 && g.HedgeAfter >= g.AttemptTimeout {
		r.Warnf(at+".hedge_after", "is not below attempt_timeout (%s), by which time a second "+
			"HSM is asked anyway", g.AttemptTimeout)
	}
}

// MaxSocketPath is the longest path of a Unix socket, in bytes: sun_path without its final zero
// (unix(7)).
const MaxSocketPath = 107

func validateAdmin(r *schema.Report, a Admin) {
	if n := len(a.Socket); n > MaxSocketPath {
		r.Errorf("admin.socket", "%s has %d bytes, and the path of a Unix socket at most %d; "+
			"choose a shorter one, such as /run/xks-proxy/admin.sock", a.Socket, n, MaxSocketPath)
	}
	if a.Group != "" && a.Socket == "" {
		r.Warnf("admin.group", "has no effect without admin.socket")
	}
}

package cli

// `status`: what it says of a proxy at its best and at its worst, and its exit code.

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/admin"
	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/certs"
	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/killswitch"
	"xks-proxy/internal/logging"
	"xks-proxy/internal/testkit"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/status"
	"xks-proxy/pkg/xks"
)

var statusNow = time.Date(2026, 11, 22, 3, 15, 0, 0, time.UTC)

func goodStatus() *api.Status {
	ago := func(d time.Duration) time.Time { return statusNow.Add(-d) }
	return &api.Status{
		Version: "1.4.0", Since: ago(75 * time.Hour), State: api.ReadyVerdict, ConfigFile: "/etc/xks-proxy/xks-proxy.yaml",
		Reload:       &api.ReloadState{Generation: 4, LoadedAt: ago(2 * time.Hour), Attempts: 3, LastAttempt: ago(2 * time.Hour), LastBy: "SIGHUP"},
		Groups:       []api.GroupSummary{{Name: "main", HSMs: 2, InService: 2}},
		Certificates: []certs.Status{{Names: []string{"xks.example.com"}, File: "/etc/xks-proxy/server.crt", NotAfter: statusNow.Add(61 * 24 * time.Hour)}},
		InFlight:     3, Connections: &api.ConnectionCounts{Open: 212}, Blocks: api.BlockList{Survive: true},
		KeyStores: []api.KeyStoreSummary{
			{Name: "finance", Owner: "Agency of Finance", Requests: 31_500_000, Failed: 12, InFlight: 3, LastRequest: ago(time.Second)},
			{Name: "payroll"},
		},
	}
}

func badStatus() *api.Status {
	s := goodStatus()
	ago := func(d time.Duration) time.Time { return statusNow.Add(-d) }
	s.State = "no HSM can serve"
	s.Reload.Failures, s.Reload.LastAttempt, s.Reload.LastBy = 2, ago(5*time.Minute), "alice"
	s.Reload.LastError = `xks-proxy.yaml:40:14: key_stores[2].hsm_group: there is no HSM group named "mian"; did you mean "main"?`
	s.Reload.WaitsForRestart = []string{"server.listen", "log.output"}
	s.Groups = []api.GroupSummary{
		{Name: "main", HSMs: 2, Findings: 3, Dangerous: 1, Others: []api.HSMSummary{
			{Name: "hsm-a", Service: status.Out, Since: ago(12 * time.Second), Health: status.Unavailable, Reason: "no answer within 60ms, and the probe failed: encrypt: the HSM did not answer in time"},
			{Name: "hsm-b", Service: status.Drained, Since: ago(time.Hour), Health: status.Active},
		}},
		{Name: "second", HSMs: 2, InService: 2, Others: []api.HSMSummary{{Name: "hsm-d", Service: status.InService, Since: ago(time.Hour), Health: status.Degraded, Reason: "it lacks the test key"}}},
	}
	s.Certificates = append(s.Certificates,
		certs.Status{Names: []string{"a.example.com", "b.example.com", "c.example.com", "d.example.com"}, KeyStore: "finance", File: "a.crt", NotAfter: statusNow.Add(9*24*time.Hour + time.Hour)},
		certs.Status{Names: []string{"old.example.com"}, File: "old.crt", NotAfter: ago(26 * time.Hour)},
		certs.Status{Names: []string{"new.example.com"}, File: "new.crt", NotAfter: statusNow.Add(90 * 24 * time.Hour), Problem: "its key is another certificate's; the one before it is served"})
	s.Connections.Refused = 7
	s.Log = &logging.State{Lost: 1204, LastLost: ago(3 * time.Minute), Suppressed: 45_000, Output: "/var/log/xks-proxy/xks-proxy.log",
		Failing: "write /var/log/xks-proxy/xks-proxy.log: no space left on device", Since: ago(12 * time.Second)}
	s.KeyStores = append(s.KeyStores, api.KeyStoreSummary{Name: "archive", Owner: strings.Repeat("Agency of Long Names ", 4), Blocked: api.ConfigurationBlocks, Requests: 90, Failed: 90, LastRequest: ago(time.Minute)})
	for i := range 30 {
		s.KeyStores = append(s.KeyStores, api.KeyStoreSummary{Name: "tenant-" + string(rune('a'+i%26)), Requests: 1000, Throttled: uint64(i), LastRequest: ago(time.Hour)})
	}
	s.KeyStores[0].Blocked = "alice"
	long := aliceBlocks("payroll", "key-1")
	long.Since = ago(3 * time.Minute)
	s.Blocks = api.BlockList{Blocks: []killswitch.Block{aliceBlocks("finance", ""), long}, Survive: true, Unsaved: "open /var/lib/xks-proxy/blocks.json: read-only file system"}
	s.Blocks.Blocks[0].Since = ago(40 * time.Minute)
	s.Attention = admin.AttentionTo(s, statusNow)
	return s
}

func TestPrintStatus(t *testing.T) {
	for name, test := range map[string]struct {
		status *api.Status
		all    bool
	}{"status-good": {goodStatus(), false}, "status-bad": {badStatus(), false}, "status-bad-all": {badStatus(), true}} {
		t.Run(name, func(t *testing.T) {
			testkit.CheckPage(t, name, func(p *text.Page) { printStatus(p, test.status, test.all, statusNow) })
		})
	}
	quiet := goodStatus()
	quiet.Log = &logging.State{Lost: 1, LastLost: statusNow.Add(-25 * time.Hour), Suppressed: 2, Output: "stderr"}
	if attention := admin.AttentionTo(quiet, statusNow); len(attention) != 0 || logFact(quiet.Log) != "1 line lost, 2 about unauthenticated requests only counted, since the start" {
		t.Errorf("of a loss that is a day old: %q, %s", attention, logFact(quiet.Log))
	}
	if attention := admin.AttentionTo(goodStatus(), statusNow); len(attention) != 0 {
		t.Errorf("of a proxy that is well: %q", attention)
	}
}

// The exit code says whether somebody should look; so does the JSON.
func TestStatusCommand(t *testing.T) {
	rig := newAdminRig(t)
	rig.admin.Ready = func() string { return api.ReadyVerdict }
	rig.admin.Handler = func() xks.HandlerStatus { return xks.HandlerStatus{InFlight: 4} }
	rig.admin.Connections = func() api.ConnectionCounts { return api.ConnectionCounts{Open: 5, Refused: 6} }
	stdout, stderr, code := execute(t, "status", "--socket", rig.socket)
	if code != 0 || stderr != "" || !strings.Contains(stdout, ": ready\n") || !strings.Contains(stdout, "4 in flight; 5 connections open, 6 refused since the start") ||
		!strings.Contains(stdout, "main: 2 of 2 in service") || !strings.Contains(stdout, "archive    -                  blocked by configuration") {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	rig.wantSaid(t, 0, "The key store finance is blocked: from now on all its requests are answered InvalidStateException.", "block", "key-store", "finance")
	rig.admin.KeyStores = func() []xks.KeyStoreStatus {
		stores := busyStores(30)
		stores[0].Name, stores[0].Blocked = "finance", true
		return stores
	}
	stdout, _, code = execute(t, "status", "--socket", rig.socket)
	if code != 0 || !strings.Contains(stdout, "Key stores: 30") || !strings.Contains(stdout, "and 10 more, with less to look at: --all") || !strings.Contains(stdout, "Blocked by operators: 1") {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	stdout, _, _ = execute(t, "status", "--all", "--socket", rig.socket)
	if strings.Count(stdout, "store-00") != 29 {
		t.Errorf("--all: %s", stdout)
	}
	rig.want(t, 0, "hsm-a is drained", "drain", "hsm-a")
	stdout, stderr, code = execute(t, "status", "--json", "--socket", rig.socket)
	var status api.Status
	err := json.Unmarshal([]byte(stdout), &status)
	if code != 0 || stderr != "" || err != nil || len(status.Attention) != 1 || status.Attention[0].Severity != api.Info ||
		!strings.HasPrefix(status.Attention[0].Text, "hsm-a of the group main is drained for ") {
		t.Errorf("exit code %d, %v, %q: %q", code, err, stderr, status.Attention)
	}
	finance := status.KeyStores[slices.IndexFunc(status.KeyStores, func(k api.KeyStoreSummary) bool { return k.Name == "finance" })]
	if finance.Blocked == "" || finance.Blocked == api.ConfigurationBlocks {
		t.Errorf("finance is blocked by %q", finance.Blocked)
	}
}

// Monitoring that runs status tells what is urgent from what is not, and both from no answer.
func TestStatusExitCodes(t *testing.T) {
	rig := newAdminRig(t)
	rig.admin.Ready = func() string { return api.ReadyVerdict }
	expires := func(left, lifetime time.Duration) {
		rig.admin.Certificates = func() []certs.Status {
			end := time.Now().Add(left)
			return []certs.Status{{Use: certs.UseServer, Names: []string{"a"}, NotBefore: end.Add(-lifetime), NotAfter: end}}
		}
	}
	want := func(code int, says string) {
		t.Helper()
		stdout, stderr, got := execute(t, "status", "--socket", rig.socket)
		if got != code || stderr != "" || !strings.Contains(stdout, says) {
			t.Errorf("exit code %d, want %d and %q: %s%s", got, code, says, stdout, stderr)
		}
	}
	expires(2*certs.OneDay, 6*certs.OneDay)
	want(0, ": ready\n")
	expires(1*certs.OneDay, 6*certs.OneDay)
	want(exitWarning, "  warning   The certificate ")
	expires(14*time.Hour, 6*certs.OneDay)
	want(exitCritical, "  CRITICAL  The certificate ")
	_, _, code := execute(t, "status", "--socket", rig.socket+"-other")
	if code != command.ExitFailed {
		t.Errorf("no answer: exit code %d", code)
	}
	_, _, code = execute(t, "status", "--nonsense")
	if code != command.ExitUsage {
		t.Errorf("a wrong command line: exit code %d", code)
	}
}

// Each kind of thing to look at has its severity.
func TestAttention(t *testing.T) {
	ago := statusNow.Add(-25 * time.Hour)
	group := func(inService int, others ...api.HSMSummary) func(*api.Status) {
		return func(s *api.Status) {
			s.Groups = []api.GroupSummary{{Name: "main", HSMs: 2, InService: inService, Others: others}}
		}
	}
	member := func(service status.Service, since time.Time) api.HSMSummary {
		return api.HSMSummary{Name: "hsm-b", Service: service, Since: since, Health: status.Active}
	}
	ca := func(left time.Duration) certs.Status {
		end := statusNow.Add(left)
		return certs.Status{Use: certs.UseClientCA, Names: []string{"CA"}, NotBefore: end.Add(-3650 * certs.OneDay), NotAfter: end}
	}
	for _, c := range []struct {
		name string
		edit func(*api.Status)
		want []api.Severity
	}{
		{"well", func(*api.Status) {}, nil},
		{"not ready", func(s *api.Status) { s.State = "starting" }, []api.Severity{api.Critical}},
		{"a planned drain", group(1, member(status.Drained, statusNow)), []api.Severity{api.Info}},
		{"a forgotten drain", group(1, member(status.Drained, ago)), []api.Severity{api.Warning}},
		{"one HSM out", group(1, member(status.Out, ago)), []api.Severity{api.Warning}},
		{"all out", group(0, member(status.Out, ago), member(status.Drained, statusNow)), []api.Severity{api.Critical, api.Critical}},
		{"a token that changed", group(2, api.HSMSummary{Service: status.InService, Health: status.Active, Unverified: "why"}), []api.Severity{api.Critical}},
		{"not well", group(2, api.HSMSummary{Service: status.InService, Health: status.Degraded}), []api.Severity{api.Warning}},
		{"keys", func(s *api.Status) { s.Groups[0].Findings, s.Groups[0].Dangerous = 3, 1 }, []api.Severity{api.Critical, api.Warning}},
		{"blocks unsaved", func(s *api.Status) { s.Blocks.Unsaved = "why" }, []api.Severity{api.Critical}},
		{"lines lost", func(s *api.Status) { s.Log = &logging.State{Lost: 1, LastLost: statusNow} }, []api.Severity{api.Critical}},
		{"the log fails", func(s *api.Status) { s.Log = &logging.State{Failing: "why"} }, []api.Severity{api.Critical}},
		{"a reload failed", func(s *api.Status) { s.Reload.LastError = "why" }, []api.Severity{api.Warning}},
		{"one of two CAs of clients ended", func(s *api.Status) { s.Certificates = []certs.Status{ca(-certs.OneDay), ca(100 * certs.OneDay)} }, []api.Severity{api.Warning}},
		{"the only CA of clients ends", func(s *api.Status) { s.Certificates = []certs.Status{ca(9 * certs.OneDay)} }, []api.Severity{api.Critical}},
	} {
		s := goodStatus()
		c.edit(s)
		var got []api.Severity
		for _, a := range admin.AttentionTo(s, statusNow) {
			got = append(got, a.Severity)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// A proxy that starts says so.
func TestStatusWhileTheProxyStarts(t *testing.T) {
	rig := newAdminRig(t)
	rig.admin.Groups = func() []*group.Group { return nil }
	rig.admin.Ready = func() string { return "starting" }
	stdout, stderr, code := execute(t, "status", "--socket", rig.socket)
	if code != exitCritical || stderr != "" || !strings.Contains(stdout, "NOT READY: starting\n") || !strings.Contains(stdout, "the proxy is starting and waits for them") || !strings.Contains(stdout, "finance") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

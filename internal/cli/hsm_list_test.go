package cli

// `hsm list` for eyes: what it prints in good times and in bad, within 120 columns.

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/admin"
	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/testkit"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/status"
	"xks-proxy/pkg/hsm/worker"
)

var listedAt = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) time.Time { return listedAt.Add(-d) }

func goodMember(name string) status.Member {
	return status.Member{
		HSM: name, Service: status.InService, Since: before(75 * time.Hour), Health: status.Health{HSM: name, Status: status.Active},
		InFlight: 3, Requests: 31_512_733, Faults: 12, P50: hsm.Milliseconds(310 * time.Microsecond), P99: hsm.Milliseconds(2140 * time.Microsecond), Keys: 412, KeysListed: before(3 * time.Second),
	}
}

func TestPrintHSMs(t *testing.T) {
	good, out, drained, failed := goodMember("hsm-a"), goodMember("hsm-b"), goodMember("hsm-c"), goodMember("hsm-standby")
	good.LastFault, good.LastFaultAt = "hsm-a: decrypt: the HSM is not available (C_Decrypt: CKR_DEVICE_ERROR (0x30))", before(26*time.Hour)
	out.Service, out.Since, out.Health.Status, out.Reason = status.Out, before(12*time.Second), status.Unavailable, "no answer within 60ms, and the probe failed: hsm-b: encrypt: the HSM did not answer in time"
	out.KeptOutUntil = listedAt.Add(48 * time.Second).UTC()
	out.InFlight, out.P50, out.P99 = 41, hsm.Milliseconds(55*time.Millisecond), hsm.Milliseconds(1900*time.Millisecond)
	drained.Service, drained.Since, drained.Reason, drained.InFlight = status.Drained, before(3*time.Minute), "drained by an operator", 0
	failed.Priority, failed.Service, failed.Since, failed.Health.Status, failed.Keys, failed.KeysListed = 1, status.Out, before(2*time.Hour), status.Unavailable, 410, time.Time{}
	failed.Requests, failed.Faults, failed.P50, failed.InFlight = 0, 0, 0, 0
	failed.Reason = "hsm-standby: encrypt: the HSM is not available: no process is ready (failed): hsm-standby: login: the HSM refused the PIN (C_Login: CKR_PIN_INCORRECT (0xA0))"
	running := api.Process{Phase: worker.Running, PID: 4711, Sessions: 8, Busy: 2}
	refused := api.Process{Phase: worker.Failed, EndedAt: before(2 * time.Hour), LastError: "hsm-standby: login: the HSM refused the PIN (C_Login: CKR_PIN_INCORRECT (0xA0))"}
	restarted := api.Process{Phase: worker.Running, PID: 31733, Restarts: 3, Sessions: 8, Busy: 8, Hung: 4, EndedAt: before(5 * time.Minute), LastError: "hsm-b: serve: the HSM is not available: 4 of 8 calls hang"}
	asked := api.Process{Phase: worker.Running, PID: 4712, Restarts: 1, Sessions: 8, EndedAt: before(3 * time.Minute), LastError: "hsm-c: serve: the HSM is not available: restarted: " + admin.RestartReason + "user root"}
	findings := []catalogue.Finding{
		{Kind: catalogue.VersionMissing, Label: "finance-3", Version: 2, HSMs: []string{"hsm-b"}, Since: before(90 * time.Minute), Detail: "version 2 is on hsm-a and not on hsm-b; replicate it, or Encrypt stays with version 1"},
		{Kind: catalogue.MaterialDiffers, Label: "finance-9", HSMs: []string{"hsm-a", "hsm-b"}, Since: before(time.Second), Detail: "hsm-b cannot decrypt what hsm-a encrypted; replace one of them"},
	}
	for i := range 30 {
		findings = append(findings, catalogue.Finding{Kind: catalogue.KeyMissing, Label: fmt.Sprint("new-", i), HSMs: []string{"hsm-b"}, Since: before(time.Minute), Detail: "replicate it"})
	}
	for i := range 10_000 {
		findings = append(findings, catalogue.Finding{Kind: catalogue.UnusedDiffer, Label: fmt.Sprint("k-", i), Version: 1, HSMs: []string{"hsm-a", "hsm-b"}, Since: before(time.Minute), Detail: "hsm-a holds a key that may sign, hsm-b holds a key that may do nothing: nothing that the proxy uses; vendors have different defaults"})
	}
	for i := range 25 {
		findings = append(findings, catalogue.Finding{Kind: catalogue.VersionDoubtful, Label: fmt.Sprint("old-", i), HSMs: []string{"hsm-a"}, Since: before(time.Minute), Detail: fmt.Sprintf("CKA_ID 0x%X is not 4 bytes long", i)})
	}
	for name, status := range map[string]*api.List{
		"hsm-list-good": {
			Groups:    []status.Group{{Name: "main", Keys: 412, CrossChecked: 412, Hedges: 1, HedgesDenied: 2, Retries: 15, Members: []status.Member{goodMember("hsm-a"), goodMember("hsm-b")}}},
			Processes: map[string]api.Process{"hsm-a": running, "hsm-b": running},
		},
		"hsm-list-bad": {
			Groups: []status.Group{
				{Name: "main", Keys: 442, CrossChecked: 100, CrossPending: 312, Members: []status.Member{good, out, drained}, Findings: findings},
				{Name: "second", Keys: 1, Members: []status.Member{failed}},
			},
			Processes: map[string]api.Process{"hsm-a": running, "hsm-b": restarted, "hsm-c": asked, "hsm-standby": refused},
		},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.CheckPage(t, name, func(p *text.Page) { printHSMs(p, status, listedAt) })
		})
	}
}

// A finding about a whole key has no version.
func TestFindingAsJSON(t *testing.T) {
	for version, want := range map[uint32]bool{0: false, 2: true} {
		text, err := json.Marshal(catalogue.Finding{Kind: catalogue.KeyMissing, Label: "key", Version: version})
		if err != nil || strings.Contains(string(text), `"version"`) != want {
			t.Errorf("version %d: %v %s", version, err, text)
		}
	}
}

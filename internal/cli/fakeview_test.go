package cli

// What the admin socket sees of a proxy, for tests: key stores with counts of their own, and a handler that remembers what it
// was told to block.

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/admin"
	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/certs"
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/killswitch"
	"xks-proxy/internal/lastuse"
	"xks-proxy/internal/logging"
	"xks-proxy/internal/metrics"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/xks"
)

// heldBlocks is a handler that only remembers what it was told to block.
type heldBlocks struct{ atomic.Pointer[xks.Blocks] }

func (h *heldBlocks) SetBlocks(b xks.Blocks) { h.Store(&b) }

// aliceBlocks is a block that alice set.
func aliceBlocks(keyStore, key string) killswitch.Block {
	return killswitch.Block{
		BlockTarget: killswitch.BlockTarget{KeyStore: keyStore, Key: key}, By: "alice", UID: 1000,
		Since:  time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC),
		Reason: "case 4711",
	}
}

// newFakeView has the key stores finance, payroll and archive, of which the configuration blocks the last, and a state directory.
func newFakeView(t testing.TB, log *zap.Logger, held *heldBlocks) admin.Config {
	t.Helper()
	state := t.TempDir()
	kill, err := killswitch.Open(state, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kill.Close)
	kill.Attach(held)
	c := &config.Config{
		StateDirectory: state,
		Source: &schema.Source{File: "xks-proxy.yaml", Dir: "/etc/xks-proxy", Origins: map[string]schema.Origin{
			"key_stores[2].blocked": {Line: 40, Column: 14}, "key_stores[1].keys.disabled": {Line: 30, Column: 16},
		}},
		KeyStores: []config.KeyStore{
			{Name: "finance", Owner: "Agency of Finance", Keys: config.Keys{Label: "{key_id}"}},
			{Name: "payroll", Owner: "Agency of Payroll", Keys: config.Keys{Label: "payroll-{key_id}", Disabled: []string{"old"}}},
			{Name: "archive", Blocked: true, Keys: config.Keys{Label: "{key_id}"}},
		},
	}
	return admin.Config{
		Log: log, Since: time.Now().Add(-75 * time.Hour),
		Groups:    func() []*group.Group { return nil },
		Processes: func() map[string]fleet.HSMProcess { return nil },
		Turns:     new(fleet.Turns), Reloads: &fakeReloads{answer: &api.ReloadAnswer{}},
		Kill: kill, Uses: lastuse.Open(state, time.Now(), log), Running: func() *config.Config { return c },
		KeyStores:    func() []xks.KeyStoreStatus { return nil },
		Handler:      func() xks.HandlerStatus { return xks.HandlerStatus{} },
		Ready:        func() string { return api.ReadyVerdict },
		Connections:  func() api.ConnectionCounts { return api.ConnectionCounts{} },
		Certificates: func() []certs.Status { return nil },
		LogState:     func() logging.State { return logging.State{} },
		Confinement:  func() []fleet.ConfinementStatus { return nil },
		Refused:      func() int64 { return 0 },
	}
}

// newFakeSources is what the metrics of a service are read from.
func newFakeSources(view admin.Config) metrics.Sources {
	return metrics.Sources{
		Config: view, Besides: func() map[string]int64 { return nil },
		TLS: certs.NewHolder(true, view.Log, func(string) *zap.Logger { return nil }, time.Now),
	}
}

// killPath is the file of the blocks.
func (rig *adminRig) killPath() string {
	return filepath.Join(rig.admin.Running().StateDirectory, killswitch.FileName)
}

// blocked is what the handler was last told to block.
func (rig *adminRig) blocked() xks.Blocks { return *rig.held.Load() }

// busyStores are so many key stores as a proxy has that has served for a while.
func busyStores(n int) []xks.KeyStoreStatus {
	stores := make([]xks.KeyStoreStatus, 0, n)
	for i := range n {
		k := xks.KeyStoreStatus{
			Name: fmt.Sprintf("store-%04d", i), Owner: "Agency of Numbers", URIPath: fmt.Sprintf("/store-%04d/kms/xks/v1", i), Group: "main",
			InFlight: i % 3, LastRequest: time.Now().Add(-time.Duration(i) * time.Second),
			Credentials: []xks.CredentialStatus{{AccessKeyID: fmt.Sprintf("AAAABBBBCCCCDDDD%04d", i), LastUsed: time.Now()}, {AccessKeyID: fmt.Sprintf("ZZZZBBBBCCCCDDDD%04d", i)}},
		}
		k.Requests = xks.ZeroKeyStoreStatus(k.Name, k.Owner).Requests
		for j := range k.Requests {
			k.Requests[j].Count = uint64(i * (len(k.Requests) - j))
		}
		stores = append(stores, k)
	}
	return stores
}

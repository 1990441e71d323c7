package main

// What the admin socket sees of a proxy, for tests: key stores with counts of their own, and a handler that remembers what it
// was told to block.

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/lastuse"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/xks"
)

// heldBlocks is a handler that only remembers what it was told to block.
type heldBlocks struct{ atomic.Pointer[xks.Blocks] }

func (h *heldBlocks) SetBlocks(b xks.Blocks) { h.Store(&b) }

// aliceBlocks is a block that alice set.
func aliceBlocks(keyStore, key string) block {
	return block{
		blockTarget: blockTarget{KeyStore: keyStore, Key: key}, By: "alice", UID: 1000,
		Since:  time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC),
		Reason: "case 4711",
	}
}

// newFakeView has the key stores finance, payroll and archive, of which the configuration blocks the last, and a state directory.
func newFakeView(t testing.TB, log *zap.Logger, held *heldBlocks) serviceConfig {
	t.Helper()
	state := t.TempDir()
	kill, err := openKillSwitch(state, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kill.close)
	kill.attach(held)
	c := &config{
		StateDirectory: state,
		source: &source{file: "xks-proxy.yaml", dir: "/etc/xks-proxy", origins: map[string]origin{
			"key_stores[2].blocked": {Line: 40, Column: 14}, "key_stores[1].keys.disabled": {Line: 30, Column: 16},
		}},
		KeyStores: []keyStoreConfig{
			{Name: "finance", Owner: "Agency of Finance", Keys: keysConfig{Label: "{key_id}"}},
			{Name: "payroll", Owner: "Agency of Payroll", Keys: keysConfig{Label: "payroll-{key_id}", Disabled: []string{"old"}}},
			{Name: "archive", Blocked: true, Keys: keysConfig{Label: "{key_id}"}},
		},
	}
	return serviceConfig{
		log: log, since: time.Now().Add(-75 * time.Hour),
		groups:    func() []*group.Group { return nil },
		processes: func() map[string]hsmProcess { return nil },
		turns:     new(turns), reloads: &fakeReloads{answer: &reloadAnswer{}},
		kill: kill, uses: lastuse.Open(state, time.Now(), log), config: func() *config { return c },
		keyStores:    func() []xks.KeyStoreStatus { return nil },
		handler:      func() xks.HandlerStatus { return xks.HandlerStatus{} },
		ready:        func() string { return readyVerdict },
		connections:  func() connectionCounts { return connectionCounts{} },
		certificates: func() []certificateStatus { return nil },
		logState:     func() logState { return logState{} },
		confinement:  func() []confinementStatus { return nil },
		refused:      func() int64 { return 0 },
	}
}

// newFakeSources is what the metrics of a service are read from.
func newFakeSources(view serviceConfig) metricSources {
	return metricSources{
		serviceConfig: view, besides: func() map[string]int64 { return nil },
		tls: newTLSHolder(true, view.log, func(string) *zap.Logger { return nil }),
	}
}

// killPath is the file of the blocks.
func (rig *adminRig) killPath() string {
	return filepath.Join(rig.admin.config().StateDirectory, blocksName)
}

// inForce is what the handler was told last.
func (rig *adminRig) inForce() xks.Blocks { return *rig.held.Load() }

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

package main

// When credentials were last used, across restarts.

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/pkg/xks"
)

func usedStores(at time.Time) []xks.KeyStoreStatus {
	return []xks.KeyStoreStatus{{Name: "finance", Credentials: []xks.CredentialStatus{{AccessKeyID: "OLD", LastUsed: at}, {AccessKeyID: "NEW"}}}}
}

func TestLastUsesSurviveARestart(t *testing.T) {
	directory := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now().UTC().Truncate(time.Second)
		u := openLastUses(directory, time.Now(), zap.NewNop())
		used := time.Now().Add(10 * time.Second).UTC()
		stop := u.keep(func() []xks.KeyStoreStatus { return usedStores(used) })
		time.Sleep(lastUsesInterval + time.Second)
		synctest.Wait()
		after := openLastUses(directory, time.Now(), zap.NewNop()) // as if it had crashed now
		if !after.since.Equal(began) || !after.overlay(usedStores(time.Time{}))[0].Credentials[0].LastUsed.Equal(used) {
			t.Errorf("a minute later: since %v, %v", after.since, after.uses)
		}
		used = used.Add(80 * time.Second)
		stop()
		after = openLastUses(directory, time.Now(), zap.NewNop())
		got := after.overlay(usedStores(time.Time{}))[0].Credentials
		if !got[0].LastUsed.Equal(used) || !got[1].LastUsed.IsZero() {
			t.Errorf("at the end: %+v", got)
		}
		if newer := used.Add(time.Hour); !after.overlay(usedStores(newer))[0].Credentials[0].LastUsed.Equal(newer) {
			t.Error("what this run knows gives way to what an earlier one knew")
		}
		after.remember(nil) // a proxy that ends before it has served
		if !openLastUses(directory, time.Now(), zap.NewNop()).overlay(usedStores(time.Time{}))[0].Credentials[0].LastUsed.Equal(used) {
			t.Error("a start that failed has forgotten everything")
		}
	})
}

// A damaged file keeps nobody from serving.
func TestDamagedLastUses(t *testing.T) {
	directory := t.TempDir()
	for _, text := range []string{"", "{", `{"format":2}`} {
		err := os.WriteFile(filepath.Join(directory, lastUsesName), []byte(text), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		core, logs := observer.New(zap.WarnLevel)
		now := time.Now()
		u := openLastUses(directory, now, zap.New(core))
		if logs.Len() != 1 || !u.since.Equal(now.UTC().Truncate(time.Second)) {
			t.Errorf("%q: %v, %d lines", text, u.since, logs.Len())
		}
		u.remember(usedStores(now))
		written, err := os.ReadFile(filepath.Join(directory, lastUsesName))
		if err != nil || !strings.Contains(string(written), "finance") {
			t.Errorf("%q: it is not written anew: %s, %v", text, written, err)
		}
	}
	u := openLastUses("", time.Now(), zap.NewNop())
	u.keep(func() []xks.KeyStoreStatus { return usedStores(time.Now()) })()
	if _, err := os.Stat(lastUsesName); err == nil {
		t.Error("without a state directory a file was written")
	}
}

package lastuse

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
	return []xks.KeyStoreStatus{
		{
			Name: "finance",
			Credentials: []xks.CredentialStatus{
				{AccessKeyID: "OLD", LastUsed: at},
				{AccessKeyID: "NEW"},
			},
		},
	}
}

func TestLastUsesSurviveARestart(t *testing.T) {
	directory := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now().UTC().Truncate(time.Second)
		u := Open(directory, time.Now(), zap.NewNop())
		used := time.Now().Add(10 * time.Second).UTC()
		stop := u.Keep(func() []xks.KeyStoreStatus { return usedStores(used) })
		time.Sleep(lastUsesInterval + time.Second)
		synctest.Wait()
		after := Open(directory, time.Now(), zap.NewNop()) // as if it had crashed now
		if !after.Since.Equal(began) ||
			!after.Overlay(usedStores(time.Time{}))[0].Credentials[0].LastUsed.Equal(used) {
			t.Errorf("a minute later: since %v, %v", after.Since, after.uses)
		}
		used = used.Add(80 * time.Second)
		stop()
		after = Open(directory, time.Now(), zap.NewNop())
		got := after.Overlay(usedStores(time.Time{}))[0].Credentials
		if !got[0].LastUsed.Equal(used) || !got[1].LastUsed.IsZero() {
			t.Errorf("at the end: %+v", got)
		}
		if newer := used.Add(time.Hour); !after.Overlay(usedStores(newer))[0].Credentials[0].LastUsed.Equal(
			newer,
		) {
			t.Error("what this run knows gives way to what an earlier one knew")
		}
		after.remember(nil) // a proxy that ends before it has served
		if !Open(directory, time.Now(), zap.NewNop()).Overlay(usedStores(time.Time{}))[0].Credentials[0].LastUsed.Equal(
			used,
		) {
			t.Error("a start that failed has forgotten everything")
		}
	})
}

// A damaged file keeps nobody from serving.
func TestDamagedLastUses(t *testing.T) {
	directory := t.TempDir()
	for _, text := range []string{"", "{", `{"format":2}`} {
		err := os.WriteFile(filepath.Join(directory, FileName), []byte(text), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		core, logs := observer.New(zap.WarnLevel)
		now := time.Now()
		u := Open(directory, now, zap.New(core))
		if logs.Len() != 1 || !u.Since.Equal(now.UTC().Truncate(time.Second)) {
			t.Errorf("%q: %v, %d lines", text, u.Since, logs.Len())
		}
		u.remember(usedStores(now))
		written, err := os.ReadFile(filepath.Join(directory, FileName))
		if err != nil || !strings.Contains(string(written), "finance") {
			t.Errorf("%q: it is not written anew: %s, %v", text, written, err)
		}
	}
	u := Open("", time.Now(), zap.NewNop())
	u.Keep(func() []xks.KeyStoreStatus { return usedStores(time.Now()) })()
	if _, err := os.Stat(FileName); err == nil {
		t.Error("without a state directory a file was written")
	}
}

package group_test

// Tests of which differences between the HSMs are reported, when, how often, and for how long
// (requirement R4); and of what becomes of a key that an HSM has lost.

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

// TestMissingIsReported: soon after the first HSM was seen with the key, once, and until the other
// has it.
func TestMissingIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		tokens[0].AddKey("k", 2)
		tokens[0].AddKey("only a", 1)
		tokens[1].AddKey(testKey, 7) // each HSM has its own
		var logs *observer.ObservedLogs
		g := start(t, tokens, logTo(&logs))
		time.Sleep(3 * time.Second)
		wantFound(t, g, "version missing: k 2 [b]; key missing: only a 0 [b]")
		since := g.Status().Findings[0].Since
		time.Sleep(10 * time.Minute)
		said := logs.FilterMessageSnippet("keys differ").All()
		if len(said) != 2 || said[0].Level != zapcore.ErrorLevel ||
			said[0].ContextMap()["detail"] == "" {
			t.Errorf("the log says %v", said)
		}
		tokens[1].AddKey("k", 2)
		time.Sleep(31 * time.Second)
		wantFound(t, g, "key missing: only a 0 [b]")
		tokens[1].AddKey("only a", 1)
		time.Sleep(31 * time.Second)
		wantFound(t, g, "")
		if over := logs.FilterMessageSnippet("no longer differ").All(); len(over) != 2 ||
			over[0].Level != zapcore.InfoLevel {
			t.Errorf("the log says %v", over)
		}
		if time.Since(since) < 10*time.Minute {
			t.Errorf("since %v", since)
		}
	})
}

// TestReportedSoonAfterStart: whichever HSM is listed first, a difference is known seconds after
// the start.
func TestReportedSoonAfterStart(t *testing.T) {
	for _, took := range [][2]time.Duration{{time.Millisecond, 20 * time.Millisecond}, {20 * time.Millisecond, time.Millisecond}, {9 * time.Millisecond, 9 * time.Millisecond}} {
		for _, remembered := range []bool{false, true} {
			t.Run(fmt.Sprint(took, remembered), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tokens := newTokens(2)
					dir := t.TempDir()
					if remembered {
						start(t, tokens, rememberIn(dir)).Close()
					}
					for i, token := range tokens {
						token.SetHook(on(hsmtest.OpKeys, slow(took[i])))
					}
					tokens[0].AddKey("only a", 1)
					g := start(t, tokens, rememberIn(dir))
					time.Sleep(2200 * time.Millisecond)
					wantFound(t, g, "key missing: only a 0 [b]")
				})
			})
		}
	}
}

// TestNoFalseAlarm: that HSMs are listed one after the other is not a difference.
func TestNoFalseAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		tokens[1].SetHook(on(hsmtest.OpKeys, slow(7*time.Second))) // so that they are out of step
		dir := t.TempDir()
		var logs *observer.ObservedLogs
		g := start(t, tokens, rememberIn(dir), logTo(&logs))
		for version := range uint32(10) {
			for _, token := range tokens {
				token.AddKey("k", 100+version)
				token.AddKey(fmt.Sprint("key-", version), 1)
			}
			time.Sleep(53 * time.Second)
			wantFound(t, g, "")
		}
		g.Close()
		for _, token := range tokens { // while the proxy is stopped
			token.AddKey("k", 200)
			token.RemoveKey("key-3")
		}
		g = start(t, tokens, rememberIn(dir))
		time.Sleep(time.Minute)
		wantFound(t, g, "")
		if said := logs.FilterMessageSnippet("differ").All(); len(said) != 0 {
			t.Errorf("the log says %v", said)
		}
	})
}

// TestAwayCountsAsLastSeen: what an HSM that is away held when it was last seen is compared, and
// said to be old.
func TestAwayCountsAsLastSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		tokens[1].SetHook(down)
		time.Sleep(31 * time.Second)
		tokens[0].AddKey("new", 1)
		time.Sleep(35 * time.Second)
		wantFound(t, g, "key missing: new 0 [b]")
		if detail := g.Status().Findings[0].Detail; !strings.Contains(detail, "away") {
			t.Errorf("the detail is %q", detail)
		}
		tokens[1].SetHook(nil)
		time.Sleep(time.Minute)
		if detail := g.Status().Findings[0].Detail; strings.Contains(detail, "away") {
			t.Errorf("it is back, and the detail is %q", detail)
		}
	})
}

// TestSameForManyIsOneLine: an HSM that has lost everything is one line of the log.
func TestSameForManyIsOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		for i := range 1000 {
			tokens[0].AddKey(fmt.Sprintf("key-%04d", i), 1)
		}
		var logs *observer.ObservedLogs
		g := start(t, tokens, logTo(&logs))
		time.Sleep(3 * time.Second)
		if n := len(g.Status().Findings); n != 1000 {
			t.Fatalf("%d findings", n)
		}
		said := logs.FilterMessage("the HSMs' keys differ").All()
		if len(said) != 1 || said[0].ContextMap()["keys"] != int64(1000) ||
			len(said[0].ContextMap()["labels"].([]any)) != 10 {
			t.Errorf("the log says %v", said)
		}
	})
}

// TestLogIsBounded: many different findings do not fill the log.
func TestLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		for i := range uint32(1000) {
			tokens[0].AddKey("k", i+2)
		}
		var logs *observer.ObservedLogs
		g := start(t, tokens, logTo(&logs))
		time.Sleep(3 * time.Second)
		if n := len(g.Status().Findings); n != 1000 {
			t.Fatalf("%d findings", n)
		}
		if n := logs.FilterMessage("the HSMs' keys differ").Len(); n < 20 || n > 21 {
			t.Errorf("%d lines", n)
		}
		rest := logs.FilterMessageSnippet("more key findings").All()
		if len(rest) != 1 || rest[0].ContextMap()["findings"] != int64(1000) {
			t.Errorf("the log says %v", rest)
		}
	})
}

// TestGoneFromAll: a key that is on no HSM any more is said to be gone, and is not a difference.
func TestGoneFromAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		var logs *observer.ObservedLogs
		g := start(t, tokens, logTo(&logs))
		for _, token := range tokens {
			token.RemoveKey("k")
		}
		time.Sleep(time.Minute)
		wantFound(t, g, "")
		if said := logs.FilterMessageSnippet("gone from every HSM").All(); len(said) != 1 {
			t.Errorf("the log says %v", said)
		}
		_, err := g.Key(inBudget(t), "k")
		wantError(t, err, hsm.ErrKeyNotFound)
		tokens[0].AddKey("k", 1) // another key of that name, which was never on both
		time.Sleep(31 * time.Second)
		_, err = encryptVersion(t, g, "k")
		wantError(t, err, catalogue.ErrIncomplete)
	})
}

// TestLostKey: a version that was on both continues to encrypt, over restarts too, loudly; one that
// never was does not; and none does if the operator says so.
func TestLostKey(t *testing.T) {
	for _, policy := range []catalogue.LostKey{"", catalogue.LostKeyEncrypt, catalogue.LostKeyRefuse} {
		t.Run(string("policy "+policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				refused := policy == catalogue.LostKeyRefuse
				withPolicy := func(c *group.Config) { c.LostKey = policy }
				dir := t.TempDir()
				tokens := newTokens(2)
				tokens[0].AddKey("never", 1)
				g := start(t, tokens, rememberIn(dir), withPolicy)
				tokens[1].RemoveKey("k")
				time.Sleep(35 * time.Second)
				for range 2 { // before and after a restart
					wantFound(t, g, "key missing: k 0 [b]; key missing: never 0 [b]")
					if detail := g.Status().Findings[0].Detail; !strings.Contains(
						detail,
						"was on every HSM",
					) {
						t.Errorf("the detail is %q", detail)
					}
					version, err := encryptVersion(t, g, "k")
					if refused != (err != nil) || err == nil && version != 1 {
						t.Errorf("got %d, %v", version, err)
					}
					key, err := g.Key(inBudget(t), "k")
					if err != nil || key.Complete() {
						t.Errorf("it counts as complete: %v", err)
					}
					_, err = encryptVersion(t, g, "never")
					wantError(t, err, catalogue.ErrIncomplete)
					g.Close()
					g = start(t, tokens, rememberIn(dir), withPolicy)
					time.Sleep(2 * time.Second)
				}
			})
		})
	}
}

// TestLostKeyOfAnotherGroup: what was on every HSM before one joined was never on that one.
func TestNewMemberHasLostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		tokens := newTokens(3)
		tokens[2].RemoveKey("k")
		start(t, tokens[:2], rememberIn(dir)).Close()
		g := start(t, tokens, rememberIn(dir))
		_, err := encryptVersion(t, g, "k")
		wantError(t, err, catalogue.ErrIncomplete)
	})
}

// TestParityFile: what it is, and that one that cannot be used is reported and written anew.
func TestParityFile(t *testing.T) {
	for name, content := range map[string]string{
		"empty": ``, "cut off": `{"format":1,"group":"pair","complete":{"k"`, "a later format": `{"format":2,"group":"pair"}`,
		"of another group": `{"format":1,"group":"other","complete":{}}`, "trailing garbage": `{"format":1,"group":"pair"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "complete-pair.json")
				tokens := newTokens(2)
				start(t, tokens, rememberIn(dir)).Close()
				data, err := os.ReadFile(path)
				const want = `{"format":1,"group":"pair","hsms":["a","b"],"complete":{"k":[1]}}`
				if err != nil || string(data) != want {
					t.Fatalf("got %s, %v", data, err)
				}
				if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("got %v, %v", info.Mode(), err)
				}
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
				var logs *observer.ObservedLogs
				start(t, tokens, rememberIn(dir), logTo(&logs)).Close()
				said := logs.FilterMessageSnippet("cannot read which keys were on every HSM").All()
				if len(said) != 1 ||
					!strings.Contains(said[0].ContextMap()["error"].(string), path) {
					t.Errorf("the log says %v", said)
				}
				if data, err := os.ReadFile(path); err != nil || string(data) != want {
					t.Errorf("not fixed: %s, %v", data, err)
				}
			})
		})
	}
}

// TestLeftoversAreRemoved: what a run that was killed began to write, its own only.
func TestLeftoversAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		for _, name := range []string{".catalogue-pair@123", ".catalogue-pair2@123", "catalogue-x@y.json"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		start(t, newTokens(1), rememberIn(dir)).Close()
		var left []string
		entries, err := os.ReadDir(dir)
		for _, entry := range entries {
			left = append(left, entry.Name())
		}
		if err != nil ||
			fmt.Sprint(left) != "[.catalogue-pair2@123 catalogue-pair@a.json catalogue-x@y.json]" {
			t.Errorf("got %v, %v", left, err)
		}
	})
}

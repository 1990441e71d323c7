package group_test

// Tests of a group's configuration and life (requirements H1, H2, R3).

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name   string
		change option
		want   string
	}{
		{"good", func(*group.Config) {}, ""},
		{"ten HSMs", func(c *group.Config) { c.Members = configOf(newTokens(10)).Members }, ""},
		{"longest probes", func(c *group.Config) { c.ProbeInterval, c.ProbeTimeout = 30*time.Second, 20*time.Second }, ""},
		{"no name", func(c *group.Config) { c.Name = "" }, "no name"},
		{"no HSM", func(c *group.Config) { c.Members = nil }, "has 0 HSMs"},
		{"eleven HSMs", func(c *group.Config) { c.Members = configOf(newTokens(11)).Members }, "has 11 HSMs; it takes 1 to 10"},
		{"one HSM twice", func(c *group.Config) { c.Members[1].Name = "a" }, `names HSM "a" twice`},
		{"an HSM without a name", func(c *group.Config) { c.Members[1].Name = "" }, "needs a name"},
		{"an HSM without a token", func(c *group.Config) { c.Members[1].Token = nil }, `"b" lacks one`},
		{"no test key", func(c *group.Config) { c.TestKey = "" }, "no test key"},
		{"probes too rare for requirement H2", func(c *group.Config) { c.ProbeInterval = 31 * time.Second }, "probe interval 31s"},
		{"probes too long for requirement H2", func(c *group.Config) { c.ProbeTimeout = 21 * time.Second }, "probe timeout 21s"},
		{"negative", func(c *group.Config) { c.AttemptTimeout = -1 }, "negative"},
		{"no time for another HSM", func(c *group.Config) { c.AttemptTimeout = 200 * time.Millisecond }, "no time would be left for another HSM"},
		{"no time for another HSM in a shorter budget", func(c *group.Config) { c.Budget = 60 * time.Millisecond }, "no time would be left for another HSM"},
		{"a negative floor of hedging", func(c *group.Config) { c.HedgeAfter = -1 }, "negative"},
		{"no hedging", func(c *group.Config) { c.HedgePercent = 0 }, ""},
		{"fewer hedges than none", func(c *group.Config) { c.HedgePercent = -1 }, "-1 %"},
		{"more hedges than requests", func(c *group.Config) { c.HedgePercent = 101 }, "101 %"},
		{"the other way with a lost key", func(c *group.Config) { c.LostKey = catalogue.LostKeyRefuse }, ""},
		{"no way with a lost key", func(c *group.Config) { c.LostKey = "guess" }, `"guess" is not a way`},
		{"two at once", func(c *group.Config) { c.Name, c.TestKey = "", "" }, "no test key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := configOf(newTokens(2), test.change)
			err := c.Validate()
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			g, err := group.New(c)
			if err == nil {
				g.Close()
				t.Error("NewGroup took it")
			}
		})
	}
}

func TestNames(t *testing.T) {
	g := start(t, newTokens(1))
	if g.Name() != "pair" || g.TestKey() != testKey {
		t.Errorf("got %q, %q", g.Name(), g.TestKey())
	}
}

// TestClose: nothing of a group outlives it, whatever its HSMs are doing, and
// its tokens stay open. Goroutines left in the bubble would fail the test on their own.
func TestClose(t *testing.T) {
	for name, hook := range map[string]hsmtest.Hook{"idle": nil, "hanging": hang, "down": down} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(3)
				g := start(t, tokens, rememberIn(t.TempDir()))
				for _, token := range tokens {
					token.SetHook(hook)
				}
				time.Sleep(5500 * time.Millisecond)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				defer cancel()
				_, _ = g.Key(ctx, "new") // leaves a look behind, if they hang
				began := time.Now()
				g.Close()
				synctest.Wait()
				if time.Since(began) != 0 {
					t.Errorf("closing took %v", time.Since(began))
				}
				stacks := make([]byte, 1<<20)
				stacks = stacks[:runtime.Stack(stacks, true)]
				if bytes.Contains(stacks, []byte("xks-proxy/pkg/hsm.(")) {
					t.Errorf("a goroutine of the group is left:\n%s", stacks)
				}
				tokens[0].SetHook(nil)
				_, err := tokens[0].Encrypt(t.Context(), ref, aad, text)
				if err != nil {
					t.Errorf("the token was closed: %v", err)
				}
				g.Close() // twice is harmless
			})
		})
	}
}

// TestCloseAtOnce: a group that is closed before it ever saw its HSMs.
func TestCloseAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		tokens[0].SetHook(hang)
		g, err := group.New(configOf(tokens))
		if err != nil {
			t.Fatal(err)
		}
		g.Close()
		_, err = g.Key(inBudget(t), "k") // still answers, with an error or not
		_ = err
		_, _, _ = request(t, g)
	})
}

// TestTenMembers: every place in the group works alone.
func TestTenMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(group.MaxMembers)
		g := start(t, tokens, inOrder)
		for i := range tokens {
			served(t, g, string(rune('a'+i)))
			tokens[i].SetHook(all(down))
			time.Sleep(6 * time.Second)
		}
		_, trace, err := request(t, g)
		wantError(t, err, hsm.ErrUnavailable)
		if trace.Attempts != group.MaxMembers || len(trace.Faults) != group.MaxMembers {
			t.Errorf("got %+v", trace)
		}
		tokens[6].SetHook(nil)
		time.Sleep(time.Second)
		served(t, g, "g")
	})
}

func TestErrorText(t *testing.T) {
	for want, err := range map[string]error{
		"hsm-a: encrypt: the HSM is not available (C_Encrypt: CKR_DEVICE_ERROR (0x30)): slot 3": &hsm.Error{HSM: "hsm-a", Op: "encrypt", Function: "C_Encrypt", Code: 0x30, Kind: hsm.ErrUnavailable, Detail: "slot 3"},
		"the HSM did not answer in time": &hsm.Error{Kind: hsm.Timeout(context.DeadlineExceeded)},
		"decrypt: the ciphertext does not authenticate (C_Decrypt: CKR_VENDOR_DEFINED+0x4 (0x80000004))": &hsm.Error{Op: "decrypt", Function: "C_Decrypt", Code: 0x80000004, Kind: hsm.ErrInvalidCiphertext},
		"the HSM is not available (C_Encrypt: CKR_0x208)":                                                &hsm.Error{Function: "C_Encrypt", Code: 0x208, Kind: hsm.ErrUnavailable},
	} {
		if err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
	wrapped := fmt.Errorf("serving: %w", &hsm.Error{Kind: hsm.Timeout(context.Canceled)})
	wantError(t, wrapped, hsm.ErrTimeout, context.Canceled)
}

// TestKinds: who is to blame for what (see Token).
func TestKinds(t *testing.T) {
	for _, test := range []struct {
		err           error
		fault, config bool
	}{
		{nil, false, false},
		{hsm.ErrInvalidCiphertext, false, false}, {hsm.ErrKeyUsage, false, false}, {hsm.ErrKeyNotFound, false, false},
		{hsm.ErrDuplicateKey, false, false}, {hsm.ErrTooLarge, false, false},
		{hsm.ErrUnavailable, true, false}, {hsm.ErrTimeout, true, false}, {hsm.ErrBusy, true, false},
		{hsm.Timeout(context.Canceled), true, false}, {fmt.Errorf("unknown"), true, false},
		{hsm.ErrPINIncorrect, true, true}, {hsm.ErrPINLocked, true, true}, {hsm.ErrTokenNotFound, true, true}, {hsm.ErrModule, true, true},
		{fmt.Errorf("wrapped: %w", &hsm.Error{Kind: hsm.ErrModule}), true, true},
	} {
		if hsm.IsFault(test.err) != test.fault || hsm.IsConfig(test.err) != test.config {
			t.Errorf(
				"%v: fault %v, config %v",
				test.err,
				hsm.IsFault(test.err),
				hsm.IsConfig(test.err),
			)
		}
	}
}

// TestVersionID: CKA_ID and version are each other's inverse.
func TestVersionID(t *testing.T) {
	for _, version := range []uint32{0, 1, 255, 256, 1 << 31, 1<<32 - 1} {
		id := hsm.VersionID(version)
		if got := (hsm.Object{ID: id}).Version(); len(id) != 4 || got != version {
			t.Errorf("%d became %x became %d", version, id, got)
		}
	}
}

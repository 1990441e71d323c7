package group_test

// What the tests of Group share: HSMs in memory, and the ways in which they fail.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

const (
	testKey = "xks-proxy-test"
	budget  = 200 * time.Millisecond // of one request (requirement U13)
)

var (
	ref  = hsm.KeyRef{Label: "k", Version: 1}
	text = []byte("attack at dawn")
	aad  = []byte("aad")
)

// newToken is an HSM with the test key and version 1 of key "k".
func newToken(name string) *hsmtest.Token {
	token := hsmtest.New(name)
	token.AddKey(testKey, 0)
	token.AddKey(ref.Label, ref.Version)
	return token
}

func newTokens(n int) []*hsmtest.Token {
	var tokens []*hsmtest.Token
	for i := range n {
		tokens = append(tokens, newToken(string(rune('a'+i))))
	}
	return tokens
}

// option changes the configuration of a group before it starts.
type option func(*group.Config)

// inOrder makes the first HSM serve first, the others stand by.
func inOrder(c *group.Config) {
	for i := range c.Members {
		c.Members[i].Priority = i
	}
}

func priorities(p ...int) option {
	return func(c *group.Config) {
		for i := range c.Members {
			c.Members[i].Priority = p[i]
		}
	}
}

func logTo(logs **observer.ObservedLogs) option {
	return func(c *group.Config) {
		core, observed := observer.New(zapcore.DebugLevel)
		c.Log, *logs = zap.New(core), observed
	}
}

func configOf(tokens []*hsmtest.Token, options ...option) group.Config {
	c := group.Config{Name: "pair", TestKey: testKey, HedgePercent: 5}
	for _, token := range tokens {
		c.Members = append(c.Members, group.MemberConfig{Name: token.Info().Label, Token: token})
	}
	for _, o := range options {
		o(&c)
	}
	return c
}

// start makes a group whose HSMs have all been listed and probed once.
func start(t testing.TB, tokens []*hsmtest.Token, options ...option) *group.Group {
	t.Helper()
	g, err := group.New(configOf(tokens, options...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = g.WaitFirstProbes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// inBudget is the context of one request.
func inBudget(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), budget)
	t.Cleanup(cancel)
	return ctx
}

// request makes one Encrypt as a request does.
func request(t testing.TB, g *group.Group) (hsm.Sealed, group.Trace, error) {
	ctx, cancel := context.WithTimeout(t.Context(), budget)
	defer cancel()
	return g.Encrypt(ctx, ref, aad, text)
}

// served makes one Encrypt that must succeed on the HSM named.
func served(t testing.TB, g *group.Group, by string) {
	t.Helper()
	_, trace, err := request(t, g)
	if err != nil || trace.HSM != by {
		t.Fatalf("served by %q: %v (%+v); want by %q", trace.HSM, err, trace, by)
	}
}

// opens asserts that a token decrypts what a group answered (requirement R1).
func opens(t testing.TB, token hsm.Token, ref hsm.KeyRef, sealed hsm.Sealed) {
	t.Helper()
	plaintext, err := token.Decrypt(t.Context(), ref, aad, sealed)
	if err != nil || !bytes.Equal(plaintext, text) {
		t.Fatalf("on %s: %q, %v", token.Info().Label, plaintext, err)
	}
}

// onRequests lets a hook see what requests do, and nothing of probes, listings and looks.
func onRequests(h hsmtest.Hook) hsmtest.Hook {
	return func(ctx context.Context, op hsmtest.Op, key hsm.KeyRef) error {
		if key.Label == testKey || op != hsmtest.OpEncrypt && op != hsmtest.OpDecrypt {
			return nil
		}
		return h(ctx, op, key)
	}
}

func on(op hsmtest.Op, h hsmtest.Hook) hsmtest.Hook {
	return func(ctx context.Context, o hsmtest.Op, key hsm.KeyRef) error {
		if o != op {
			return nil
		}
		return h(ctx, o, key)
	}
}

func failWith(kind error) hsmtest.Hook {
	return func(_ context.Context, op hsmtest.Op, _ hsm.KeyRef) error {
		return &hsm.Error{Op: string(op), Function: "C_Test", Code: 0x30, Kind: kind}
	}
}

func hang(ctx context.Context, _ hsmtest.Op, _ hsm.KeyRef) error {
	<-ctx.Done()
	return ctx.Err()
}

func slow(d time.Duration) hsmtest.Hook {
	return func(ctx context.Context, _ hsmtest.Op, _ hsm.KeyRef) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
			return nil
		}
	}
}

var down = failWith(hsm.ErrUnavailable)

// statuses are the health of all HSMs in one string, for comparison.
func statuses(g *group.Group) string {
	var s string
	for _, h := range g.Health() {
		s += fmt.Sprintf("%s=%s ", h.HSM, h.Status)
	}
	return s
}

func wantError(t testing.TB, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Fatalf("got %v, want %v", err, w)
		}
	}
}

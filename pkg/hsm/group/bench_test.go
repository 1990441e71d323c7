package group_test

// What the group itself costs, above an HSM that costs nothing.

import (
	"context"
	"testing"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

// idle is an HSM that answers at once and computes nothing. Listings and probes
// go to the token inside.
type idle struct{ *hsmtest.Token }

var idleAnswer = hsm.Sealed{
	IV:         make([]byte, hsm.IVSize),
	Ciphertext: make([]byte, 48),
	Tag:        make([]byte, hsm.TagSize),
}

func (i idle) Encrypt(
	ctx context.Context,
	key hsm.KeyRef,
	aad, plaintext []byte,
) (hsm.Sealed, error) {
	if key.Label == testKey {
		return i.Token.Encrypt(ctx, key, aad, plaintext)
	}
	return idleAnswer, nil
}

func (i idle) Decrypt(
	ctx context.Context,
	key hsm.KeyRef,
	aad []byte,
	sealed hsm.Sealed,
) ([]byte, error) {
	if key.Label == testKey {
		return i.Token.Decrypt(ctx, key, aad, sealed)
	}
	return sealed.Ciphertext, nil
}

func idlePair(b testing.TB, n int) *group.Group {
	tokens := newTokens(n)
	return start(b, tokens, func(c *group.Config) {
		for i := range c.Members {
			c.Members[i].Token = idle{tokens[i]}
		}
	})
}

func BenchmarkEncrypt(b *testing.B) {
	plaintext := make([]byte, 48)
	for name, n := range map[string]int{"one HSM": 1, "a pair": 2, "ten HSMs": 10} {
		b.Run(name, func(b *testing.B) {
			g := idlePair(b, n)
			ctx, cancel := context.WithTimeout(b.Context(), budget*1e6)
			defer cancel()
			b.ReportAllocs()
			for b.Loop() {
				_, _, err := g.Encrypt(ctx, ref, aad, plaintext)
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncryptParallel(b *testing.B) {
	plaintext := make([]byte, 48)
	g := idlePair(b, 2)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		ctx, cancel := context.WithTimeout(b.Context(), budget*1e6)
		defer cancel()
		for pb.Next() {
			_, _, err := g.Encrypt(ctx, ref, aad, plaintext)
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkDecrypt(b *testing.B) {
	g := idlePair(b, 2)
	ctx, cancel := context.WithTimeout(b.Context(), budget*1e6)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		_, _, err := g.Decrypt(ctx, ref, aad, idleAnswer)
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncryptOneOut is Encrypt while the first of two HSMs is out of service.
func BenchmarkEncryptOneOut(b *testing.B) {
	tokens := newTokens(2)
	tokens[0].SetHook(down)
	g := start(b, tokens, inOrder, func(c *group.Config) { c.Members[1].Token = idle{tokens[1]} })
	plaintext := make([]byte, 48)
	ctx, cancel := context.WithTimeout(b.Context(), budget*1e6)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		_, _, err := g.Encrypt(ctx, ref, aad, plaintext)
		if err != nil {
			b.Fatal(err)
		}
	}
}

package pkcs11

// What an operation costs on SoftHSM, beside the same through miekg alone, and what
// a listing costs.

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

const (
	benchAAD   = 300
	benchPlain = 48
)

// reportCPU adds the CPU time of the whole process for one operation: on a busy
// machine it says more than the clock.
func reportCPU(b *testing.B) {
	start := cpuTime(b)
	b.Cleanup(func() { b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N), "cpu-ns/op") })
}

func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func benchToken(b *testing.B) (*Token, []byte, []byte) {
	return openWith(b, NewKey{Label: "k"}, NewKey{Label: "canary-key"}), random(b, benchAAD), random(b, benchPlain)
}

func BenchmarkEncrypt(b *testing.B) {
	token, aad, plain := benchToken(b)
	b.ReportAllocs()
	reportCPU(b)
	for b.Loop() {
		_, err := token.Encrypt(b.Context(), ref("k", 0), aad, plain)
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncryptParallel(b *testing.B) {
	token, aad, plain := benchToken(b)
	b.ReportAllocs()
	reportCPU(b)
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, err := token.Encrypt(b.Context(), ref("k", 0), aad, plain)
			if err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkDecrypt(b *testing.B) {
	token, aad, plain := benchToken(b)
	sealed, err := token.Encrypt(b.Context(), ref("k", 0), aad, plain)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	reportCPU(b)
	for b.Loop() {
		_, err := token.Decrypt(b.Context(), ref("k", 0), aad, sealed)
		if err != nil {
			b.Fatal(err)
		}
	}
}

// A refused decrypt includes the canary, since SoftHSM's answer is vague.
func BenchmarkDecryptTampered(b *testing.B) {
	token, aad, plain := benchToken(b)
	sealed, err := token.Encrypt(b.Context(), ref("k", 0), aad, plain)
	if err != nil {
		b.Fatal(err)
	}
	sealed.Tag[0] ^= 1
	b.ReportAllocs()
	reportCPU(b)
	for b.Loop() {
		_, err := token.Decrypt(b.Context(), ref("k", 0), aad, sealed)
		if err == nil {
			b.Fatal("opened")
		}
	}
}

func BenchmarkMiekgEncrypt(b *testing.B) {
	token, aad, plain := benchToken(b)
	session := rawSession(b, token)
	e, _ := token.keys.get(ref("k", 0))
	iv := random(b, hsm.IVSize)
	b.ReportAllocs()
	reportCPU(b)
	for b.Loop() {
		params := p11.NewGCMParams(iv, aad, hsm.TagSize*8)
		err := token.module.ctx.EncryptInit(session, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}, p11.ObjectHandle(e.handle))
		if err != nil {
			b.Fatal(err)
		}
		_, err = token.module.ctx.Encrypt(session, plain)
		if err != nil {
			b.Fatal(err)
		}
		params.Free()
	}
}

func BenchmarkKeys(b *testing.B) {
	for _, count := range []int{1, 1000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			token := openWith(b, manyKeys(count)...)
			b.ReportAllocs()
			reportCPU(b)
			for b.Loop() {
				keys, err := token.Keys(b.Context())
				if err != nil || len(keys) != count {
					b.Fatal(len(keys), err)
				}
			}
		})
	}
}

// Encrypt must not know how many keys there are.
func BenchmarkEncryptAmongKeys(b *testing.B) {
	for _, count := range []int{1, 1000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			token := openWith(b, manyKeys(count)...)
			aad, plain := random(b, benchAAD), random(b, benchPlain)
			for b.Loop() {
				_, err := token.Encrypt(b.Context(), ref("key-0", 0), aad, plain)
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCreateKeys(b *testing.B) {
	c, _ := newTestToken(b)
	token := openTest(b, c)
	n := 0
	reportCPU(b)
	for b.Loop() {
		keys := make([]NewKey, 100)
		for i := range keys {
			keys[i] = NewKey{Label: fmt.Sprintf("key-%d", n)}
			n++
		}
		err := token.CreateKeys(b.Context(), keys)
		if err != nil {
			b.Fatal(err)
		}
	}
}

func manyKeys(count int) []NewKey {
	keys := make([]NewKey, count)
	for i := range keys {
		keys[i] = NewKey{Label: fmt.Sprintf("key-%d", i)}
	}
	return keys
}

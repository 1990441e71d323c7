package xks

// What a request costs in this package: everything but the network and the HSM.

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"

	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

// idleHSM is an HSM that does nothing, at once.
type idleHSM struct{ hsm.Token }

func (idleHSM) Encrypt(_ context.Context, _ hsm.KeyRef, _, plaintext []byte) (hsm.Sealed, error) {
	return hsm.Sealed{IV: make([]byte, 12), Ciphertext: plaintext, Tag: make([]byte, 16)}, nil
}

func (idleHSM) Decrypt(
	_ context.Context, _ hsm.KeyRef, _ []byte, sealed hsm.Sealed,
) ([]byte, error) {
	return bytes.Clone(sealed.Ciphertext), nil
}

// discard is a ResponseWriter that costs nothing.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header { return d.header }

func (d *discard) WriteHeader(status int) { d.status = status }

func (d *discard) Write(b []byte) (int, error) { return len(b), nil }

type noSync struct{}

func (noSync) Write(b []byte) (int, error) { return len(b), nil }

func (noSync) Sync() error { return nil }

func BenchmarkHandler(b *testing.B) {
	r := newRig(b, func(c *Config, g *group.Config) {
		c.Log = zap.New(
			zapcore.NewCore(
				zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), noSync{},
				zapcore.InfoLevel,
			),
		)
		for i := range g.Members {
			g.Members[i].Token = idleHSM{g.Members[i].Token}
		}
	})
	encrypted := encryptFields(pattern(64)).with("additionalAuthenticatedData", b64(pattern(200)))
	for _, c := range []struct {
		name, path string
		body       fields
	}{
		{"Encrypt", keyURI(goodKey, "encrypt"), encrypted},
		{"EncryptCDIV", keyURI(goodKey, "encrypt"), encrypted.with("ciphertextDataIntegrityValueAlgorithm", "SHA_256")},
		{"Encrypt4300", keyURI(goodKey, "encrypt"), encryptFields(pattern(4300)).with("additionalAuthenticatedData", b64(pattern(8192)))},
		{"Decrypt", keyURI(goodKey, "decrypt"), fields{
			"requestMetadata": metadataFields("Decrypt"), "encryptionAlgorithm": "AES_GCM", "additionalAuthenticatedData": b64(pattern(200)), "ciphertext": b64(pattern(64)),
			"authenticationTag": b64(make([]byte, 16)), "initializationVector": b64(make([]byte, 12)), "ciphertextMetadata": "AQAAAAI=",
		}},
		{"GetKeyMetadata", keyURI(goodKey, "metadata"), metadataOnly("CreateKey")},
		{"GetHealthStatus", prefixURI + "/health", metadataOnly("KmsHealthCheck")},
	} {
		b.Run(c.name, func(b *testing.B) {
			data := encode(b, c.body)
			reader := bytes.NewReader(data)
			request := httptest.NewRequest(http.MethodPost, "https://xks.example.com/", reader)
			request.RequestURI = c.path
			request.Header.Set("Content-Type", "application/json")
			sign(request, c.path, data, testCredential, "us-east-1", time.Now())
			w := &discard{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				reader.Reset(data)
				r.handler.ServeHTTP(w, request)
				if w.status != http.StatusOK {
					b.Fatal(w.status)
				}
			}
		})
	}
}

// BenchmarkPolicies is an Encrypt without policies, with two, and with a hundred.
func BenchmarkPolicies(b *testing.B) {
	var hundred strings.Builder
	for i := range 100 {
		fmt.Fprintf(
			&hundred,
			"permit (principal in Account::\"%012d\", action, resource) when { context has viaService && context.viaService == \"ebs\" };\n",
			123456789012-i,
		)
	}
	for _, c := range []struct{ name, policies string }{{"off", ""}, {"2", notMallory}, {"100", hundred.String()}} {
		b.Run(c.name, func(b *testing.B) {
			changes := []change{func(c *Config, g *group.Config) {
				c.Log = zap.New(
					zapcore.NewCore(
						zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), noSync{},
						zapcore.InfoLevel,
					),
				)
				for i := range g.Members {
					g.Members[i].Token = idleHSM{g.Members[i].Token}
				}
			}}
			if c.policies != "" {
				changes = append(changes, withPolicies(b, c.policies, authz.ModeEnforce))
			}
			r := newRig(b, changes...)
			data := encode(b, encryptFields(pattern(64)))
			reader := bytes.NewReader(data)
			path := keyURI(goodKey, "encrypt")
			request := httptest.NewRequest(http.MethodPost, "https://xks.example.com/", reader)
			request.RequestURI = path
			request.Header.Set("Content-Type", "application/json")
			sign(request, path, data, testCredential, "us-east-1", time.Now())
			w := &discard{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				reader.Reset(data)
				r.handler.ServeHTTP(w, request)
				if w.status != http.StatusOK {
					b.Fatal(w.status)
				}
			}
		})
	}
}

// BenchmarkTenants is an Encrypt with one key store, and with 1,000 that have 10 keys each: it must
// cost the same.
func BenchmarkTenants(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := newTenantsRig(b, n)
			var calls []call
			for i := range min(n, 100) {
				i = i * n / min(n, 100)
				calls = append(
					calls,
					newCall(
						b, testCredential,
						fmt.Sprintf("/agencies/%04d%s/keys/agency-%04d-3/encrypt", i, apiPath, i),
						encryptFields(pattern(64)),
					),
				)
			}
			reader := bytes.NewReader(nil)
			w := &discard{header: http.Header{}}
			request := calls[0].request()
			request.Body = io.NopCloser(reader)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				c := &calls[i%len(calls)]
				i++
				reader.Reset(c.body)
				request.RequestURI, request.Header = c.path, c.header
				r.handler.ServeHTTP(w, request)
				if w.status != http.StatusOK {
					b.Fatal(w.status)
				}
			}
		})
	}
}

// newTenantsRig is a rig of agencies with 10 keys each, on HSMs that cost nothing.
func newTenantsRig(b testing.TB, n int) *rig {
	r := &rig{t: b, a: hsmtest.New("hsm-a"), b: hsmtest.New("hsm-b")}
	config := Config{
		KeyStores: manyStores(n, 10), Budget: 10 * time.Second, MaxQueueTime: 10 * time.Second,
		Log: zap.New(
			zapcore.NewCore(
				zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), noSync{},
				zapcore.InfoLevel,
			),
		),
	}
	groupConfig := group.Config{
		Name: "pair", TestKey: testKey, HedgePercent: 5, AttemptTimeout: 2 * time.Second,
		Budget: 20 * time.Second,
	}
	for _, token := range []*hsmtest.Token{r.a, r.b} {
		token.AddKey(testKey, 0)
		for _, store := range config.KeyStores {
			for _, label := range store.Labels {
				token.AddKey(label, 1)
			}
		}
		groupConfig.Members = append(
			groupConfig.Members,
			group.MemberConfig{Name: token.Info().Label, Token: idleHSM{token}},
		)
	}
	group, err := group.New(groupConfig)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(group.Close)
	if err := group.WaitFirstProbes(b.Context()); err != nil {
		b.Fatal(err)
	}
	for i := range config.KeyStores {
		config.KeyStores[i].Group = group
	}
	r.config = config
	r.handler, err = NewHandler(config)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// BenchmarkReplace is a reload of 1,000 key stores with 10,000 keys, and what they take of memory.
func BenchmarkReplace(b *testing.B) {
	r := newTenantsRig(b, 1000)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fresh, err := NewHandler(r.config)
	if err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(fresh)
	for b.Loop() {
		if err := r.handler.Replace(r.config); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1000, "B/keystore")
}

// BenchmarkQuota is what the limits of a request cost: counted in, a token of the key store's
// bucket and one of the key's.
func BenchmarkQuota(b *testing.B) {
	l := newRateLimit(1_000_000, 0)
	var all, group sharedLoad
	load := &storeLoad{all: &all, group: &group}
	b.Run("in flight", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				load.enter()
				load.leave()
			}
		})
	})
	b.Run("bucket", func(b *testing.B) {
		var shared bucket
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				shared.allow(l, sinceEpoch)
			}
		})
	})
	b.Run("key bucket", func(b *testing.B) {
		var shared keyBuckets
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				shared.allow(l, goodKey, sinceEpoch)
			}
		})
	})
	b.Run("x/time/rate", func(b *testing.B) {
		shared := rate.NewLimiter(1_000_000, 1_000_000)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				shared.Allow()
			}
		})
	})
	b.Run("usage", func(b *testing.B) {
		var shared usage
		var times histogram
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				shared.requests[1].add(nil)
				times.add(3 * time.Millisecond)
			}
		})
	})
}

package xks

// What a request costs in this package: everything but the network and the HSM.

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/hsm"
)

// idleHSM is an HSM that does nothing, at once.
type idleHSM struct{ hsm.Token }

func (idleHSM) Encrypt(_ context.Context, _ hsm.KeyRef, _, plaintext []byte) (hsm.Sealed, error) {
	return hsm.Sealed{IV: make([]byte, 12), Ciphertext: plaintext, Tag: make([]byte, 16)}, nil
}

func (idleHSM) Decrypt(_ context.Context, _ hsm.KeyRef, _ []byte, sealed hsm.Sealed) ([]byte, error) {
	return bytes.Clone(sealed.Ciphertext), nil
}

// discard is a ResponseWriter that costs nothing.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }

type noSync struct{}

func (noSync) Write(b []byte) (int, error) { return len(b), nil }
func (noSync) Sync() error                 { return nil }

func BenchmarkHandler(b *testing.B) {
	r := newRig(b, func(c *Config, g *hsm.GroupConfig) {
		c.Log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), noSync{}, zapcore.InfoLevel))
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
		fmt.Fprintf(&hundred, "permit (principal in Account::\"%012d\", action, resource) when { context has viaService && context.viaService == \"ebs\" };\n", 123456789012-i)
	}
	for _, c := range []struct{ name, policies string }{{"off", ""}, {"2", notMallory}, {"100", hundred.String()}} {
		b.Run(c.name, func(b *testing.B) {
			changes := []change{func(c *Config, g *hsm.GroupConfig) {
				c.Log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), noSync{}, zapcore.InfoLevel))
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

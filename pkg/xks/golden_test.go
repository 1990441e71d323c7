package xks

// Golden files: status, headers and body of every error row of requirement X2, with every message
// the package has, and of each success. `go test -update` writes them anew.

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

var update = flag.Bool("update", false, "write the golden files anew")

const goldenDir = "testdata/golden"

// randomFields differ each time; only their sizes are fixed.
var randomFields = regexp.MustCompile(
	`"(authenticationTag|ciphertext|ciphertextDataIntegrityValue|initializationVector)":"([^"]*)"`,
)

func goldenText(p reply) string {
	body := randomFields.ReplaceAllStringFunc(string(p.body), func(field string) string {
		parts := randomFields.FindStringSubmatch(field)
		data, err := base64.StdEncoding.DecodeString(parts[2])
		if err != nil {
			return field
		}
		return fmt.Sprintf(`"%s":"<%d bytes>"`, parts[1], len(data))
	})
	var text strings.Builder
	fmt.Fprintf(&text, "%d\n", p.status)
	p.header.Write(&text) // sorted by name
	return strings.ReplaceAll(text.String(), "\r\n", "\n") + "\n" + body + "\n"
}

func compareGolden(t *testing.T, name string, p reply) {
	t.Helper()
	file := filepath.Join(goldenDir, name+".golden")
	got := goldenText(p)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil || len(want) == 0 {
		t.Fatalf("no golden file for %s (%v); the reply is\n%s", name, err, got)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func fails(kind error) hsmtest.Hook {
	return func(context.Context, hsmtest.Op, hsm.KeyRef) error {
		return &hsm.Error{
			Op: "test", Function: "C_Encrypt", Code: 0x30, Kind: kind,
			Detail: "slot 7 of hsm-a, serial 4711",
		}
	}
}

func (r *rig) waitForLook() { time.Sleep(110 * time.Millisecond) } // the limiter of package hsm gives one look in 100 ms

func hangs(ctx context.Context, _ hsmtest.Op, _ hsm.KeyRef) error {
	<-ctx.Done()
	return ctx.Err()
}

func (r *rig) setHooks(h hsmtest.Hook) {
	r.a.SetHook(h)
	r.b.SetHook(h)
}

// hooked serves a request while both HSMs do something else.
func hooked(h hsmtest.Hook, serve func(*rig) reply) func(*rig) reply {
	return func(r *rig) reply {
		r.setHooks(func(ctx context.Context, op hsmtest.Op, key hsm.KeyRef) error {
			if key.Label == testKey {
				return nil // probes go on
			}
			return h(ctx, op, key)
		})
		defer r.setHooks(nil)
		return serve(r)
	}
}

func encryptGood(r *rig) reply { return r.encrypt(goodKey, encryptFields([]byte("Hello World!"))) }

var goldens = map[string]func(*rig) reply{
	// Successes.
	"ok-encrypt": encryptGood,
	"ok-encrypt-empty": func(r *rig) reply {
		return r.encrypt(goodKey, encryptFields(nil))
	},
	"ok-encrypt-cdiv": func(r *rig) reply {
		return r.encrypt(
			goodKey,
			encryptFields(
				[]byte("Hello World!"),
			).with("ciphertextDataIntegrityValueAlgorithm", "SHA_256"),
		)
	},
	"ok-decrypt":             func(r *rig) reply { return r.decrypt(goodKey, encryptGood(r).decryptFields()) },
	"ok-decrypt-empty":       func(r *rig) reply { return r.decrypt(goodKey, r.encrypt(goodKey, encryptFields(nil)).decryptFields()) },
	"ok-metadata":            func(r *rig) reply { return r.metadata(goodKey) },
	"ok-metadata-disabled":   func(r *rig) reply { return r.metadata("disabled") },
	"ok-metadata-impotent":   func(r *rig) reply { return r.metadata("impotent") },
	"ok-metadata-incomplete": func(r *rig) reply { return r.metadata("on-a-only") },
	"ok-metadata-rsa":        func(r *rig) reply { return r.metadata("rsa") },
	"ok-metadata-wraps-too":  func(r *rig) reply { return r.metadata("wraps-too") },
	"ok-health":              (*rig).health,

	// ValidationException.
	"validation-missing-metadata":  func(r *rig) reply { return r.encrypt(goodKey, encryptFields(nil).without("requestMetadata")) },
	"validation-missing-plaintext": func(r *rig) reply { return r.encrypt(goodKey, encryptFields(nil).without("plaintext")) },
	"validation-field":             func(r *rig) reply { return r.encrypt(goodKey, encryptFields(nil).with("plaintext", "=")) },
	"validation-json":              func(r *rig) reply { return r.encrypt(goodKey, `{"requestMetadata":`) },
	"validation-object":            func(r *rig) reply { return r.encrypt(goodKey, `[]`) },
	"validation-content-type": func(r *rig) reply {
		return r.send(
			keyURI(goodKey, "encrypt"), encryptFields(nil),
			func(q *http.Request) { q.Header.Del("Content-Type") },
		)
	},
	"validation-body-cut": func(r *rig) reply {
		q := httptest.NewRequest(http.MethodPost, prefixURI+"/health", brokenBody{})
		return r.serve(q)
	},

	// InvalidStateException, InvalidCiphertextException, InvalidKeyUsageException.
	"invalid-state-disabled":   func(r *rig) reply { return r.encrypt("disabled", encryptFields(nil)) },
	"invalid-state-incomplete": func(r *rig) reply { return r.encrypt("on-a-only", encryptFields(nil)) },
	"invalid-state-blocked": func(r *rig) reply {
		blocked := newRig(r.t, func(c *Config, _ *group.Config) { c.KeyStores[0].Blocked = true })
		return blocked.health()
	},
	"invalid-ciphertext": func(r *rig) reply {
		return r.decrypt(
			goodKey,
			encryptGood(r).decryptFields().with("authenticationTag", b64(make([]byte, 16))),
		)
	},
	"invalid-key-usage": func(r *rig) reply { return r.encrypt("decrypt-only", encryptFields(nil)) },

	// 401, 403, 404, 405.
	"authentication-failed": func(r *rig) reply {
		return r.send(
			prefixURI+"/health", metadataOnly("x"),
			func(q *http.Request) { q.Header.Del("Authorization") },
		)
	},
	"access-denied": func(r *rig) reply {
		return encryptGood(
			newRig(
				r.t,
				withPolicies(
					r.t,
					onlyAccount+`@id("secret-name") forbid (principal is User, action, resource);`,
					authz.ModeEnforce,
				),
			),
		)
	},
	"key-not-found":    func(r *rig) reply { return r.metadata("no-such-key") },
	"invalid-uri-path": func(r *rig) reply { return r.send("/kms/xks/v2/health", "") },
	"method-not-allowed": func(r *rig) reply {
		return r.send(prefixURI+"/health", "", func(q *http.Request) { q.Method = http.MethodGet })
	},

	// 429, 500, 501, 503.
	"throttling": func(r *rig) reply {
		full := newRig(r.t, func(c *Config, _ *group.Config) { c.MaxInFlight = 1 })
		full.handler.all.inFlight.Add(1)
		defer full.handler.all.inFlight.Add(-1)
		return encryptGood(full)
	},
	"throttling-busy": hooked(fails(hsm.ErrBusy), encryptGood),
	"internal":        hooked(fails(hsm.ErrUnavailable), encryptGood),
	"internal-panic": hooked(
		func(context.Context, hsmtest.Op, hsm.KeyRef) error { panic("boom") }, encryptGood,
	),
	"internal-not-allowed": hooked(
		fails(hsm.ErrInvalidCiphertext), encryptGood,
	), // X4: no answer of Encrypt
	"internal-duplicate-key": func(r *rig) reply { return r.encrypt("twice", encryptFields(nil)) },
	"internal-cdiv": hooked(func(_ context.Context, op hsmtest.Op, _ hsm.KeyRef) error {
		if op == hsmtest.OpEncrypt {
			return hsmtest.ErrFlipBit
		}
		return nil
	}, func(r *rig) reply {
		return r.encrypt(
			goodKey,
			encryptFields([]byte("x")).with("ciphertextDataIntegrityValueAlgorithm", "SHA_256"),
		)
	}),
	"unsupported-algorithm": func(r *rig) reply {
		return r.encrypt(goodKey, encryptFields(nil).with("encryptionAlgorithm", "AES_CBC"))
	},
	"unsupported-cdiv-algorithm": func(r *rig) reply {
		return r.encrypt(
			goodKey, encryptFields(nil).with("ciphertextDataIntegrityValueAlgorithm", "SHA_512"),
		)
	},
	"unsupported-data": func(r *rig) reply { return r.encrypt(goodKey, encryptFields(make([]byte, defaultMaxData+1))) },
	"unsupported-aad": func(r *rig) reply {
		return r.encrypt(
			goodKey,
			encryptFields(nil).with("additionalAuthenticatedData", b64(make([]byte, MaxAAD+1))),
		)
	},
	"unsupported-body": func(r *rig) reply { return r.encrypt(goodKey, strings.Repeat(" ", defaultMaxBody+1)) },
	"unsupported-hsm":  hooked(fails(hsm.ErrTooLarge), encryptGood),
	"dependency-timeout": func(r *rig) reply {
		hurried := newRig(
			r.t, func(c *Config, _ *group.Config) { c.Budget = 50 * time.Millisecond },
		)
		return hooked(hangs, encryptGood)(hurried)
	},
	"dependency-timeout-spent": func(r *rig) reply {
		late := newRig(r.t, func(c *Config, _ *group.Config) { c.Budget = time.Nanosecond })
		return late.health()
	},
}

type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, errors.New("connection reset by peer") }

// X1, X2, U6: the very bytes.
func TestGolden(t *testing.T) {
	r := newRig(t)
	for name, serve := range goldens {
		t.Run(name, func(t *testing.T) { compareGolden(t, name, serve(r)) })
	}
	files, err := filepath.Glob(filepath.Join(goldenDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if goldens[strings.TrimSuffix(filepath.Base(file), ".golden")] == nil {
			t.Errorf("%s belongs to no test", file)
		}
	}
	if *update {
		return
	}
	for name, status := range statusOf {
		row := fmt.Sprintf("%d\n", status)
		if !slices.ContainsFunc(files, func(file string) bool {
			text, _ := os.ReadFile(file)
			return strings.HasPrefix(string(text), row) &&
				strings.Contains(string(text), `"errorName":"`+string(name)+`"`)
		}) {
			t.Errorf("no golden file shows %s with status %d (X2)", name, status)
		}
	}
}

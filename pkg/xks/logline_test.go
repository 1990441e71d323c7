package xks

// What unauthenticated clients can make the proxy write: how long a line gets, and what it costs.

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"xks-proxy/pkg/hsm/group"
)

// maxStrangerLine is the longest line that a request may have that nobody authenticated, in bytes
// of the log.
const maxStrangerLine = 4 << 10

// hostileTexts get longer when they are written, each in another way.
var hostileTexts = map[string]string{
	"control characters":   "\x01",
	"null bytes":           "\x00",
	"quotes":               `"`,
	"backslashes":          `\`,
	"a quote and an é":     `"é`,
	"a backslash and an é": `\é`,
	"new lines":            "\n",
	"DEL":                  "\x7f",
	"C1 controls":          "\u009b",
	"marks of direction":   "\u202e",
	"tags":                 "\U000e0041",
	"snow":                 "☃",
	"beyond the BMP":       "🂡",
	"letters":              "x",
}

// The limits hold for what is written, not for what was sent (L1).
func TestLineOfAStrangerIsShort(t *testing.T) {
	for name, text := range hostileTexts {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			long := strings.Repeat(text, 4096)
			metadata := fields{
				"awsPrincipalArn": long, "kmsKeyArn": long, "kmsOperation": long, "kmsRequestId": long,
				"kmsViaService": long, "awsSourceVpc": long, "awsSourceVpce": long,
				"unknown": fields{long: long, "list": []string{long, long}}, long: long,
			}
			unsigned := func(q *http.Request) { q.Header.Del("Authorization") }
			r.send(keyURI(goodKey, "encrypt"), fields{"requestMetadata": metadata}, unsigned)
			long8k := keyURI(strings.Repeat("k", 8000), "encrypt")
			r.send(long8k, fields{"requestMetadata": metadata}, unsigned)
			r.send("/"+strings.ReplaceAll(long, "\n", "\r"), "", unsigned)
			r.send("/x", "", func(q *http.Request) { q.Method = strings.Repeat("M", 8000) })
			for line := range strings.Lines(r.logText()) {
				if !json.Valid([]byte(line)) {
					t.Errorf("not JSON: %q", line)
				}
				if len(line) > maxStrangerLine {
					t.Errorf("a line of %d bytes: %.300s…", len(line), line)
				}
			}
		})
	}
}

// What a tenant sends is bounded in the same way: each field by its own limit.
func TestFieldsAreBoundedAsWritten(t *testing.T) {
	for name, text := range hostileTexts {
		for _, limit := range []int{maxUnauthenticated, maxLoggedText, maxLoggedOther} {
			for _, prefix := range []string{"", "é", "x"} {
				written := writtenSize(t, shorten(prefix+strings.Repeat(text, 2*limit), limit))
				note := len("…(123456 bytes)")
				if written > limit+note || written < limit-16 {
					t.Errorf("%s: %d bytes are written, the limit is %d", name, written, limit)
				}
			}
		}
	}
}

// writtenSize is the length of a text in a line of the log, without its quotes.
func writtenSize(t testing.TB, text string) int {
	t.Helper()
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{SkipLineEnding: true})
	line, err := encoder.EncodeEntry(zapcore.Entry{}, []zapcore.Field{zap.String("k", text)})
	if err != nil {
		t.Fatal(err)
	}
	return line.Len() - len(`{"k":""}`)
}

func BenchmarkShorten(b *testing.B) {
	for _, c := range []struct{ name, text string }{
		{"ARN", "arn:aws:kms:us-east-2:123456789012:/key/1234abcd-12ab-34cd-56ef-1234567890ab"},
		{"2 KiB", strings.Repeat("x", 2048)},
		{"2 KiB of control characters", strings.Repeat("\x01", 2048)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				shorten(c.text, maxUnauthenticated)
			}
		})
	}
}

// Only requests that nobody authenticated go to UnauthenticatedLog, each with its reason.
func TestStrangersHaveALogOfTheirOwn(t *testing.T) {
	var reasons []string
	r := newRig(t, func(c *Config, _ *group.Config) {
		c.UnauthenticatedLog = func(reason string) *zap.Logger {
			reasons = append(reasons, reason)
			return nil
		}
	})
	r.send("/nowhere", "")
	r.send(prefixURI+"/health", "", func(q *http.Request) { q.Method = http.MethodPut })
	r.send(prefixURI+"/health", "", func(q *http.Request) { q.Header.Del("Authorization") })
	r.send(
		prefixURI+"/health", "x",
		func(q *http.Request) { q.Header.Set("X-Amz-Content-Sha256", "0") },
	)
	r.send(prefixURI+"/health", strings.Repeat("x", 1<<20))
	want := []string{
		"InvalidUriPathException", "UnsupportedOperationException", "missing_authorization",
		"payload_hash_mismatch", "UnsupportedOperationException",
	}
	if !slices.Equal(reasons, want) {
		t.Errorf("%q, want %q", reasons, want)
	}
	if r.logs.Len() != 0 {
		t.Errorf("%d lines although UnauthenticatedLog returned nil", r.logs.Len())
	}
	r.served.Store(0)
	r.health().wantOK(t)
	r.metadata("no-such-key").want(t, keyNotFound) // by somebody who may ask
	r.send(prefixURI+"/health", "not JSON").want(t, validation)
	if len(reasons) != len(want) {
		t.Errorf("a line about a tenant went to UnauthenticatedLog: %q", reasons)
	}
}

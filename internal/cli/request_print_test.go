package cli

// How requests are printed, and what is never printed.

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/cli/request"
	"xks-proxy/internal/xksclient"
)

// printedForms is a value as the verbs of package fmt print it.
func printedForms(values ...any) []string {
	var forms []string
	for _, value := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			forms = append(forms, fmt.Sprintf(verb, value))
		}
	}
	return forms
}

func TestBytesText(t *testing.T) {
	for want, value := range map[string][]byte{
		"empty":         nil,
		"1 byte  YQ==":  []byte("a"),
		"2 bytes  YWI=": []byte("ab"),
		"100 bytes  " + strings.Repeat("YWFh", 16) + "…": []byte(strings.Repeat("a", 100)),
	} {
		if got := request.BytesText(value); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestPlaintextRows: what is not text is not printed as one; a terminal would obey it.
func TestPlaintextRows(t *testing.T) {
	for value, rows := range map[string]int{"hello, wörld": 2, "\x1b[2J": 1, "\xff": 1, "": 1, "two\nlines": 1} {
		if got := request.PlaintextRows([]byte(value)); len(got) != rows {
			t.Errorf("%q gives %v", value, got)
		}
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 50, 0.99: 99, 1: 100} {
		if got := request.Quantile(hundred, q); got != want {
			t.Errorf("quantile %v of 1 to 100 is %d, want %d", q, got, want)
		}
	}
	if request.Quantile(nil, 0.5) != 0 || request.Quantile(hundred[:1], 0.99) != 1 || request.Quantile(hundred[:3], 0.5) != 2 {
		t.Error("quantile of few values")
	}
}

// TestConnectionFileHidesItsSecret: whatever prints it.
func TestConnectionFileHidesItsSecret(t *testing.T) {
	c := xksclient.ConnectionFile{Credential: xksclient.ConnectionSecret{AccessKeyID: testAccessKeyID, SecretAccessKey: testSecret}}
	for _, printed := range printedForms(c, c.Connection(), &c) {
		if strings.Contains(printed, testSecret) || strings.Contains(printed, base64.StdEncoding.EncodeToString([]byte(testSecret))) {
			t.Errorf("the secret is in %s", printed)
		}
	}
}

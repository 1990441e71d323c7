package server

// Who has to accept what a reload loosens, and what is said and counted of it.

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"xks-proxy/internal/admin"
	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/loosening"
	"xks-proxy/internal/metrics"
	"xks-proxy/internal/testkit"
)

// readRigOf is a reloader of test.yaml of testkit.ProtectedDir as it is now.
func readRigOf(t *testing.T, edits ...string) *reloader {
	t.Helper()
	testkit.ProtectedDir(t)
	if len(edits) > 0 {
		testkit.Edit(t, "test.yaml", edits...)
	}
	return newReadRig(t)
}

// accepts is what becomes of a reading.
func accepts(t *testing.T, r *reloader, accept api.Acceptance) (*reloadReading, error) {
	t.Helper()
	reading, err := r.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return reading, reading.refuses(accept)
}

func TestWhoAcceptsALoosening(t *testing.T) {
	const confirm, warn = "{loosening: confirm}", "{loosening: warn}"
	for _, test := range []struct {
		name          string
		running, next string
		refused       bool
	}{
		{"both confirm", confirm, confirm, true},
		{"the running one confirms", confirm, warn, true},
		{"the next one confirms", warn, confirm, true},
		{"both warn", warn, warn, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := readRigOf(t, confirm, test.running)
			_, err := accepts(t, r, api.AcceptNothing)
			if err != nil {
				t.Fatal(err)
			}
			testkit.Edit(t, "test.yaml", test.running, test.next, "    blocked: true\n", "")
			reading, err := accepts(t, r, api.AcceptNothing)
			var refused *looseningRefused
			if errors.As(err, &refused) != test.refused || (err != nil) != test.refused {
				t.Fatalf("%v", err)
			}
			if test.refused && (!strings.Contains(err.Error(), "\n  key_stores[archive].blocked: was true and is false\n") ||
				!strings.HasSuffix(err.Error(), "xks-proxy reload --accept-loosening="+reading.digest)) {
				t.Errorf("%v", err)
			}
			for _, accept := range []api.Acceptance{api.AcceptAny, api.Acceptance(reading.digest)} {
				if _, err := accepts(t, r, accept); err != nil {
					t.Errorf("accepting %s: %v", accept, err)
				}
			}
			_, err = accepts(t, r, "0123456789abcdef")
			if err == nil || !strings.Contains(err.Error(), `have changed since "0123456789abcdef" was shown`) {
				t.Errorf("accepting something else: %v", err)
			}
		})
	}
}

// Whatever differs has another digest; what does not has the same.
func TestDigestOfALoosening(t *testing.T) {
	r := readRigOf(t)
	testkit.Edit(t, "test.yaml", "    blocked: true\n", "")
	digests := []string{}
	note := func() {
		t.Helper()
		first, _ := accepts(t, r, api.AcceptAny)
		second, _ := accepts(t, r, api.AcceptAny)
		if first.digest != second.digest || slices.Contains(digests, first.digest) || len(first.digest) != 16 {
			t.Errorf("%q, then %s and %s", digests, first.digest, second.digest)
		}
		digests = append(digests, first.digest)
	}
	note()
	testkit.Edit(t, "test.yaml", "server:\n", "# Settings have moved.\nserver:\n")
	moved, _ := accepts(t, r, api.AcceptAny)
	if moved.digest != digests[0] {
		t.Errorf("the same settings on other lines: %s, not %s", moved.digest, digests[0])
	}
	testkit.Edit(t, "test.yaml", "- eu-west-1", "- eu-west-2")
	note()
	testkit.Edit(t, "policies/a.cedar", "user/Bob", "user/Carol")
	note()
	testkit.Edit(t, "policies/a.cedar", "user/Carol", "user/Caroline") // the same statement has changed
	note()
	next := func(labels, secret string) {
		t.Helper()
		testkit.WriteFile(t, "fourth.key", secret, 0o600)
		testkit.WriteFile(t, "key_stores.d/next.yaml", "hsm_group: main\npath_prefix: /next\n"+
			"owner: agency\nkeys: {labels: ["+labels+"]}\ncredentials: [{access_key_id: "+
			"XKSTESTACCESSKEYIDNEXTAA, secret_access_key: {file: ../fourth.key}}]\n", 0o644)
		note()
	}
	next("payroll-1", "Bk3qPw8sVt5LmZr0PdFhJ2uGbA7cTeQ1iXoWkS4yRvU9")
	next("payroll-1, payroll-2", "Bk3qPw8sVt5LmZr0PdFhJ2uGbA7cTeQ1iXoWkS4yRvU9") // one is shown
	next("payroll-1, payroll-2", "Dk3qPw8sVt5LmZr0PdFhJ2uGbA7cTeQ1iXoWkS4yRvU9")
	for _, name := range []string{"Other", "Other"} { // two CAs of one name
		testkit.WriteFile(t, "clients.pem", testkit.PEM("CERTIFICATE", testkit.NewCA(t, name).Raw), 0o644)
		note()
	}
}

// A reload without acceptance keeps the whole old configuration and says what an operator can do.
func TestRefusedLooseningChangesNothing(t *testing.T) {
	r := readRigOf(t)
	before := r.fleet.Current.Load()
	testkit.Edit(t, "test.yaml", "    blocked: true\n", "", "server:", "log: {level: debug}\nserver:")
	_, err := r.Reload(t.Context(), "a test", api.AcceptNothing)
	var refused *looseningRefused
	if !errors.As(err, &refused) || r.fleet.Current.Load() != before || len(r.gone) != 0 {
		t.Fatalf("%v", err)
	}
	s := r.State()
	if len(s.Loosening.Refused) != 1 || s.Loosening.Digest != refused.digest || len(s.Loosening.Loosens) != 0 || s.Failures != 1 {
		t.Errorf("%+v", s)
	}
	_, err = r.Reload(t.Context(), "a test", "0123456789abcdef") // still refused, by another error
	if s := r.State(); err == nil || len(s.Loosening.Refused) != 1 || s.Loosening.Digest != refused.digest {
		t.Errorf("%v, %+v", err, s)
	}
	preview, err := r.Preview(t.Context())
	if err != nil || !preview.Confirm || preview.Digest != refused.digest || len(preview.Loosens) != 1 {
		t.Errorf("%v, %+v", err, preview)
	}
	err = os.WriteFile("test.yaml", []byte("no"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Reload(t.Context(), "a test", api.AcceptNothing)
	if s := r.State(); err == nil || len(s.Loosening.Refused) != 0 || s.Loosening.Digest != "" {
		t.Errorf("a file that is bad otherwise: %v, %+v", err, s)
	}
}

// One line for each, of a bounded number; every series of the metric is there from the start.
func TestLooseningsAreLoggedAndCounted(t *testing.T) {
	r, logs := newStateRig(t)
	count := func(setting string, accepted bool) float64 {
		for _, v := range metrics.LooseningCounts(r.State().Loosening) {
			if v.Labels[0] == setting && v.Labels[1] == fmt.Sprint(accepted) {
				return v.Value
			}
		}
		return -1
	}
	const blocked, files = "key_stores.blocked", "key_stores.policy.files"
	if count(blocked, false) != 0 || count(files, true) != 0 || count("server.budget", false) != -1 {
		t.Errorf("%v", metrics.LooseningCounts(r.State().Loosening))
	}
	answer := &api.ReloadAnswer{Generation: 3}
	for i := range 200 {
		answer.Loosens = append(answer.Loosens, loosening.Loosening{
			Setting: blocked, Key: fmt.Sprintf("key_stores[%d].blocked", i), What: "was true and is false",
		})
	}
	began := time.Now()
	r.note(reloadTry{by: "SIGHUP", began: began}, answer, nil)
	lines := logs.FilterLevelExact(zapcore.WarnLevel).TakeAll()
	if len(lines) != maxLoggedChanges+1 {
		t.Fatalf("%d lines", len(lines))
	}
	if got := lines[0].ContextMap(); got["key"] != "key_stores[0].blocked" || got["loosens"] != "was true and is false" || got["accepted"] != false || got["by"] != "SIGHUP" {
		t.Errorf("%v", got)
	}
	if got := lines[len(lines)-1].ContextMap(); got["more"] != int64(170) {
		t.Errorf("%v", got)
	}
	if count(blocked, false) != 200 || count(blocked, true) != 0 {
		t.Errorf("%v", metrics.LooseningCounts(r.State().Loosening))
	}

	// Status reminds for a day, or until somebody says that it was meant.
	said := func(now time.Time) string {
		var lines []string
		for _, a := range admin.LooseningAttention(r.State().Loosening, now) {
			lines = append(lines, a.Text)
		}
		return strings.Join(lines, "\n")
	}
	if text := said(began.Add(time.Hour)); !strings.Contains(text, "by SIGHUP may let in what was refused before: key_stores[0].blocked: was true and is false; ") ||
		!strings.Contains(text, "and 197 more") {
		t.Errorf("%s", text)
	}
	if text := said(began.Add(25 * time.Hour)); text != "" {
		t.Errorf("after a day: %s", text)
	}
	r.note(reloadTry{by: "an operator", began: began, accept: api.AcceptAny}, &api.ReloadAnswer{Generation: 3}, nil)
	s := r.State()
	if text := said(began); text != "" || !s.Loosening.Accepted || len(s.Loosening.Loosens) != 200 {
		t.Errorf("%s, %t", text, s.Loosening.Accepted)
	}
	r.note(reloadTry{by: "an operator", began: began, accept: api.AcceptAny}, &api.ReloadAnswer{Generation: 3, Loosens: answer.Loosens[:2]}, nil)
	if count(blocked, false) != 200 || count(blocked, true) != 2 || said(began) != "" {
		t.Errorf("%v", metrics.LooseningCounts(r.State().Loosening))
	}
}

// The lists of the JSON are there, empty or not.
func TestLooseningsInJSON(t *testing.T) {
	r, _ := newStateRig(t)
	text, err := json.Marshal(r.State())
	if err != nil || !strings.Contains(string(text), `"loosening":{"loosens":[]}`) {
		t.Errorf("%v: %s", err, text)
	}
}

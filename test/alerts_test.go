package test

// The alert rules: promtool proves when each fires (alerts_test.yaml), and the running program has every
// series that a rule selects from the start, because a counter that is born at 500 has not increased.

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const alertRules = "../configs/alerts.yaml"

type alertRule struct{ Alert, Expr string }

func readAlertRules(t testing.TB) []alertRule {
	t.Helper()
	text, err := os.ReadFile(alertRules)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct{ Rules []alertRule }
	}
	err = yaml.Unmarshal(text, &file)
	if err != nil || len(file.Groups) != 1 || len(file.Groups[0].Rules) == 0 {
		t.Fatalf("%s: %v, %d groups", alertRules, err, len(file.Groups))
	}
	return file.Groups[0].Rules
}

func TestAlertRulesFire(t *testing.T) {
	t.Parallel()
	find := exec.Command("sh", "promtool.sh", "install")
	find.Stderr = os.Stderr
	path, err := find.Output()
	if err != nil {
		t.Fatalf("promtool: %v", err)
	}
	for _, arguments := range [][]string{{"check", "rules", alertRules}, {"test", "rules", "alerts_test.yaml"}} {
		said, err := exec.CommandContext(t.Context(), strings.TrimSpace(string(path)), arguments...).CombinedOutput()
		if err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(arguments, " "), err, said)
		}
	}
	cases, err := os.ReadFile("alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range readAlertRules(t) {
		if !strings.Contains(string(cases), `alertname="`+rule.Alert+`"`) {
			t.Errorf("no case of alerts_test.yaml has %s fire", rule.Alert)
		}
	}
}

// series are lines of /metrics without their values.
type series []string

func (p *proxy) series(t testing.TB) series {
	t.Helper()
	status, body := p.get(t, p.client(t, http1), "http://"+p.Health+"/metrics")
	if status != 200 {
		t.Fatalf("/metrics: %d", status)
	}
	var all series
	for line := range strings.Lines(body) {
		if name, _, found := cutLast(line, " "); found && !strings.HasPrefix(line, "#") {
			all = append(all, name)
		}
	}
	return all
}

func cutLast(s, separator string) (string, string, bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}

// with are the series of a metric that have all of the labels, written as name="value".
func (s series) with(metric string, labels ...string) series {
	var found series
	for _, one := range s {
		name, rest, _ := strings.Cut(one, "{")
		fits := name == metric
		for _, label := range labels {
			fits = fits && (strings.HasPrefix(rest, label) || strings.Contains(rest, ","+label))
		}
		if fits {
			found = append(found, one)
		}
	}
	return found
}

// selector is one metric of a rule. Each row of labels has to be there.
type selector struct {
	metric string
	labels [][]string
}

var (
	selectorText = regexp.MustCompile(`\b(xks_proxy_[a-z0-9_]+)(\{[^}]*\})?`)
	matcherText  = regexp.MustCompile(`([a-z_]+)(=~|!~|!=|=)"([^"]*)"`)
)

// selectors takes a rule apart: outcome=~"A|B" must find a series of A and one of B.
func selectors(expr string) []selector {
	var all []selector
	for _, match := range selectorText.FindAllStringSubmatch(expr, -1) {
		rows := [][]string{nil}
		for _, m := range matcherText.FindAllStringSubmatch(match[2], -1) {
			if strings.HasPrefix(m[2], "!") {
				continue // what is left has to be there
			}
			var longer [][]string
			for _, value := range strings.Split(m[3], "|") {
				for _, row := range rows {
					longer = append(longer, append(row[:len(row):len(row)], fmt.Sprintf("%s=%q", m[1], value)))
				}
			}
			rows = longer
		}
		all = append(all, selector{match[1], rows})
	}
	return all
}

// missing are the selectors of rules that find nothing, for each of the key stores where the metric is
// about key stores, and likewise for HSMs.
func (s series) missing(rules []alertRule, keyStores, hsms []string) []string {
	var missing []string
	for _, rule := range rules {
		for _, one := range selectors(rule.Expr) {
			for _, labels := range one.labels {
				owners := []string{""}
				switch {
				case strings.HasPrefix(one.metric, "xks_proxy_requests_"), strings.HasPrefix(one.metric, "xks_proxy_policy_"):
					owners = quoted("key_store", keyStores)
				case strings.HasPrefix(one.metric, "xks_proxy_hsm_") && !strings.HasPrefix(one.metric, "xks_proxy_hsm_group_"):
					owners = quoted("hsm", hsms)
				}
				for _, owner := range owners {
					if len(s.with(one.metric, append(labels[:len(labels):len(labels)], owner)...)) == 0 {
						missing = append(missing, fmt.Sprintf("%s: %s{%s} of %s", rule.Alert, one.metric, strings.Join(labels, ","), owner))
					}
				}
			}
		}
	}
	return missing
}

func quoted(label string, values []string) []string {
	all := make([]string, 0, len(values))
	for _, value := range values {
		all = append(all, fmt.Sprintf("%s=%q", label, value))
	}
	return all
}

// Every series that a rule selects is there when the proxy begins to serve, when a reload adds a key
// store, and not any more when a reload takes it away.
func TestSeriesOfAlertsExistFromTheStart(t *testing.T) {
	t.Parallel()
	p := newProxy(t, func(s *settings) {
		s.KeyStores = s.KeyStores[:1]
		mutualTLS(t, s)
	})
	rules := readAlertRules(t)
	if found := selectors(`rate(xks_proxy_requests_total{outcome=~"A|B"}[5m]) > 0`); fmt.Sprint(found) != `[{xks_proxy_requests_total [[outcome="A"] [outcome="B"]]}]` {
		t.Fatalf("selectors are read wrong: %v", found)
	}
	first := p.series(t)
	for _, missing := range first.missing(rules, []string{"main"}, []string{"hsm-a", "hsm-b"}) {
		t.Error(missing)
	}
	if n := len(first.with("xks_proxy_requests_total", `key_store="main"`)); n > 60 {
		t.Errorf("%d series of requests for a key store", n)
	}
	p.configure(t, func(s *settings) {
		s.KeyStores = s.KeyStores[:2]
		mutualTLS(t, s)
	})
	p.reload(t)
	for _, missing := range p.series(t).missing(rules, []string{"main", "other"}, []string{"hsm-a", "hsm-b"}) {
		t.Errorf("after a reload: %s", missing)
	}
	p.configure(t, func(s *settings) {
		s.KeyStores = s.KeyStores[:1]
		mutualTLS(t, s)
	})
	p.reload(t)
	for _, one := range p.series(t) {
		if strings.Contains(one, `key_store="other"`) {
			t.Errorf("of a key store that was removed: %s", one)
		}
	}
}

// mutualTLS adds a port that asks for client certificates, whose CA is among the certificates.
func mutualTLS(t testing.TB, s *settings) {
	t.Helper()
	file := t.TempDir() + "/clients.pem"
	writeFile(t, file, newTestCA(t, "clients' CA").pem())
	s.Server["listeners"] = []object{{"listen": "127.0.0.2:0", "client_certificates": object{"ca": file, "subjects": []string{"kms"}}}}
}

// A proxy whose HSMs are all away says so in its metrics, and has its counters already.
func TestSeriesOfAlertsWithoutHSMs(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	w.A.away(t)
	w.B.away(t)
	p := w.start(t, nil)
	all := p.series(t)
	for _, want := range [][]string{
		{"xks_proxy_requests_total", `key_store="main"`, `operation="Decrypt"`, `outcome="AuthenticationFailedException"`},
		{"xks_proxy_hsm_unproven_refusals_total", `hsm="hsm-a"`, `hsm_group="main"`},
		{"xks_proxy_hsm_process_restarts_total", `hsm="hsm-b"`},
	} {
		if len(all.with(want[0], want[1:]...)) == 0 {
			t.Errorf("no series %v", want)
		}
	}
	if ready := p.metric(t, "xks_proxy_ready"); ready != "0" {
		t.Errorf("xks_proxy_ready is %q", ready)
	}
}

// A client that does not trust the proxy's certificate, and one with an old TLS, are a line and a count.
func TestFailedHandshakesAreTold(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	for _, arguments := range [][]string{
		{"--cacert", caOf(t, newTestCA(t, "elsewhere"))},
		{"--insecure", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"},
	} {
		_ = exec.CommandContext(t.Context(), "curl", append(arguments, "--silent", "https://"+p.Listen+"/healthz/live")...).Run() // it fails
	}
	for reason, says := range map[string]string{
		"certificate_refused_by_client": "a client refused the certificate of this proxy",
		"tls_version":                   "a client speaks only versions of TLS that this proxy refuses",
	} {
		line := p.log.wait(t, startLimit, p.Exited(), func(line string) bool { return strings.Contains(line, says) })
		if !strings.Contains(line, `"level":"info"`) || !strings.Contains(line, `"remote":"127.0.0.1:`) || !strings.Contains(line, fmt.Sprintf(`"reason":%q`, reason)) {
			t.Errorf("%s", line)
		}
		if got := p.metric(t, fmt.Sprintf("xks_proxy_tls_handshake_failures_total{reason=%q}", reason)); got != "1" {
			t.Errorf("%s: %q are counted", reason, got)
		}
	}
}

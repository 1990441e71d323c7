package metrics

// docs/operations.md lists the metrics, and configs/alerts.yaml alerts on them.

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"xks-proxy/internal/admin"
	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/testkit"
	"xks-proxy/pkg/hsm/catalogue"
)

const (
	operations   = "../../docs/operations.md"
	metricsBegin = "<!-- metrics: a test of internal/metrics writes this table -->\n"
	metricsEnd   = "<!-- end of metrics -->\n"
)

func TestMetricsAreDocumented(t *testing.T) {
	text := testkit.ReadFile(t, operations)
	head, rest, begins := strings.Cut(text, metricsBegin)
	_, tail, ends := strings.Cut(rest, metricsEnd)
	if !begins || !ends {
		t.Fatalf("%s lacks the marks around the table of metrics", operations)
	}
	want := head + metricsBegin + metricsTable() + metricsEnd + tail
	if testkit.Update() && text != want {
		err := os.WriteFile(operations, []byte(want), 0o644)
		if err != nil {
			t.Fatal(err)
		}
		text = want
	}
	if text != want {
		t.Errorf(
			"%s has another table of metrics than the program (go test -update writes it):\n%s",
			operations,
			metricsTable(),
		)
	}
}

func metricsTable() string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	writeMetrics(&b, storeMetrics, keyStoreLabel)
	writeMetrics(&b, proxyMetrics)
	fmt.Fprintf(&b, "| `%s` | histogram | `%s` | %s |\n", durationName, durationLabel, durationHelp)
	writeMetrics(&b, memberMetrics, groupLabel, hsmLabel)
	writeMetrics(&b, processMetrics, hsmLabel)
	writeMetrics(&b, testKeyMetrics, hsmLabel)
	writeMetrics(&b, groupMetrics, groupLabel)
	writeMetrics(&b, reloadMetrics)
	writeMetrics(&b, certificateMetrics, keyStoreLabel, certificateLabel, useLabel)
	writeMetrics(&b, handshakeMetrics)
	writeMetrics(&b, refusalMetrics)
	fmt.Fprintf(&b, "| `%s` | gauge | `%s` | %s |\n", buildInfoName, buildInfoLabel, buildInfoHelp)
	return b.String()
}

func writeMetrics[T any](b *strings.Builder, metrics []metric[T], labels ...string) {
	for _, m := range metrics {
		names := ""
		if all := slices.Concat(labels, m.Labels); len(all) > 0 {
			names = "`" + strings.Join(all, "`, `") + "`"
		}
		kind := map[prometheus.ValueType]string{counter: "counter", gauge: "gauge"}[m.Kind]
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", m.Name, kind, names, m.Help)
	}
}

// Each kind of difference between keys has one rule, apart from those that do not matter.
func TestAlertsOnKeyFindings(t *testing.T) {
	rules := testkit.ReadFile(t, alertRules)
	grave := regexp.MustCompile(`kind=~"([a-z_|]+)"`).FindStringSubmatch(rules)
	others := regexp.MustCompile(`kind!~"([a-z_|]+)"`).FindStringSubmatch(rules)
	if grave == nil || others == nil {
		t.Fatal("the rules on findings are not found")
	}
	var dangers, minor []string
	for _, kind := range catalogue.FindingKinds() {
		switch {
		case slices.Contains(admin.DangerousFindings, kind):
			dangers = append(dangers, kindValue(kind))
		case kind.Severity() == catalogue.Minor:
			minor = append(minor, kindValue(kind))
		}
	}
	sorted := func(s []string) string { return strings.Join(slices.Sorted(slices.Values(s)), "|") }
	if got := sorted(strings.Split(grave[1], "|")); got != sorted(dangers) {
		t.Errorf("critical are %s, want %s", got, sorted(dangers))
	}
	if got, want := sorted(strings.Split(others[1], "|")), sorted(slices.Concat(dangers, minor)); got != want {
		t.Errorf("not warned of are %s, want %s", got, want)
	}
}

const alertRules = "../../configs/alerts.yaml"

// The rules can be read, say what they should, and name only metrics that there are.
func TestAlertRules(t *testing.T) {
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(testkit.ReadFile(t, alertRules)))
	decoder.KnownFields(true)
	err := decoder.Decode(&file)
	if err != nil || len(file.Groups) != 1 || len(file.Groups[0].Rules) < 5 {
		t.Fatalf("%v, %+v", err, file)
	}
	known := map[string]bool{
		durationName + "_bucket": true,
		durationName + "_sum":    true,
		durationName + "_count":  true,
	}
	labels := map[string]bool{"instance": true, "le": true, "job": true}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| (\\w+) \\| (.*?) \\|").FindAllStringSubmatch(metricsTable(), -1) {
		known[row[1]] = row[2] != "histogram"
		for _, label := range strings.Split(strings.ReplaceAll(row[3], "`", ""), ", ") {
			labels[label] = true
		}
	}
	name := regexp.MustCompile(`\bxks_[a-z0-9_]+`)
	used := regexp.MustCompile(`\bby \(([a-z_, ]+)\)|([a-z_]+)=~?"|\$labels\.([a-z_]+)`)
	manual := testkit.ReadFile(t, operations)
	seen := map[string]bool{}
	for _, rule := range file.Groups[0].Rules {
		text := fmt.Sprint(rule.Expr, rule.Annotations)
		names := name.FindAllString(text, -1)
		if len(names) == 0 && !strings.HasPrefix(rule.Expr, "up{") {
			t.Errorf("%s is about no metric of ours", rule.Alert)
		}
		for _, one := range names {
			if !known[one] {
				t.Errorf("%s: there is no metric %s", rule.Alert, one)
			}
		}
		for _, match := range used.FindAllStringSubmatch(text, -1) {
			for _, label := range strings.Split(match[1]+match[2]+match[3], ", ") {
				if !labels[label] {
					t.Errorf("%s: no metric has the label %s", rule.Alert, label)
				}
			}
		}
		if rule.For != "" {
			_, err := time.ParseDuration(rule.For)
			if err != nil {
				t.Errorf("%s: for: %v", rule.Alert, err)
			}
		}
		if seen[rule.Alert] || rule.Alert == "" || rule.Annotations["summary"] == "" ||
			!slices.Contains(api.Severities, api.Severity(rule.Labels["severity"])) ||
			strings.Count(rule.Expr, "(") != strings.Count(rule.Expr, ")") {
			t.Errorf("%+v is not complete", rule)
		}
		seen[rule.Alert] = true
		want := "docs/operations.md#" + strings.ToLower(rule.Alert)
		if rule.Annotations["runbook"] != want ||
			!strings.Contains(manual, "\n### "+rule.Alert+"\n") {
			t.Errorf(
				"%s: the runbook is %q, want %q and a section of that name",
				rule.Alert,
				rule.Annotations["runbook"],
				want,
			)
		}
	}
}

package server

// Files that were cut short: whatever is left, what is permitted then and was refused before is said
// to be loosened. What is permitted is worked out here once more, by other means than the rules.

import (
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/config"
	"xks-proxy/internal/loosening"
	"xks-proxy/internal/testkit"
	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/xks"
)

// tried is a request that may be permitted or not. It goes to the path of the key store whose
// credential signs it, whichever that is: a path is an address, and no protection.
type tried struct {
	port, subject, usage string // subject "": no client certificate
	host, region         string
	accessKey, key, user string
	action               authz.Action
	number               int // which of one second
}

// answers decides like the proxy: port by port, check by check (A8).
func answers(c loosening.Compared, r tried) bool {
	if rule := c.Rules[r.port]; rule != nil {
		usages := c.Config.Server.ClientCertificates.Usages
		for _, l := range c.Config.Server.Listeners {
			if l.Listen == r.port {
				usages = l.ClientCertificates.Usages
			}
		}
		if r.subject == "" || !slices.Contains(rule.Subjects, r.subject) || !slices.Contains(usages, r.usage) && !slices.Contains(usages, "any") {
			return false
		}
	}
	for i := range c.Config.KeyStores {
		k := &c.Config.KeyStores[i]
		known := slices.ContainsFunc(k.Credentials, func(c config.Credential) bool { return c.AccessKeyID == r.accessKey })
		if known && (len(k.Hosts) == 0 || slices.Contains(k.Hosts, r.host)) {
			return servedBy(k, c.Config.Policies[k.Name], r)
		}
	}
	return false
}

func servedBy(k *config.KeyStore, policies *authz.Policies, r tried) bool {
	label := strings.Replace(k.Keys.Label, xks.KeyIDPlaceholder, r.key, 1)
	burst := k.Quota.Burst
	if burst == 0 {
		burst = k.Quota.Rate
	}
	reached := slices.ContainsFunc(k.Keys.Labels, func(pattern string) bool {
		matched, err := path.Match(pattern, label)
		return matched && err == nil
	})
	switch {
	case len(k.Regions) > 0 && !slices.Contains(k.Regions, r.region):
		return false
	case k.Quota.Rate > 0 && r.number > burst, !reached, k.Blocked, slices.Contains(k.Keys.Disabled, r.key):
		return false
	case policies == nil:
		return true
	}
	arn := "arn:aws:kms:eu-central-1:111122223333:key/1"
	return policies.Decide(authz.Mode(k.Policy.Mode), authz.Request{
		Action: r.action, KeyStore: k.Name, KeyID: r.key, KeyLabel: label, Owner: k.Owner,
		PrincipalARN: "arn:aws:iam::111122223333:user/" + r.user, KMSOperation: "Encrypt", KMSKeyARN: &arn,
		AccessKeyID: r.accessKey, Region: r.region, Time: time.Unix(1_700_000_000, 0),
	}).Allowed
}

// worldOf are requests in which everything varies that the configurations are about.
func worldOf(configs ...loosening.Compared) []tried {
	keys := map[string]bool{}
	for _, c := range configs {
		for _, k := range c.Config.KeyStores {
			for _, id := range k.Credentials {
				keys[id.AccessKeyID] = true
			}
		}
	}
	var all []tried
	for key := range keys {
		r := tried{accessKey: key}
		for _, r.port = range []string{"127.0.0.1:8443", "127.0.0.1:9443"} {
			for _, certificate := range [][2]string{{}, {"cks.kms.eu-central-1.amazonaws.com", "serverAuth"}, {"cks.kms.eu-central-1.amazonaws.com", "clientAuth"}, {"other", "clientAuth"}, {"cks", "serverAuth"}} {
				r.subject, r.usage = certificate[0], certificate[1]
				for _, r.host = range []string{"xks.example.com", "elsewhere"} {
					for _, r.region = range []string{"eu-central-1", "eu-west-1", "us-east-1"} {
						for _, r.key = range []string{"payroll-1", "payroll-retired", "payroll-older", "pay", "tax-1", "tax-old", "archive-1"} {
							for _, r.user = range []string{"Alice", "Bob", "Carol"} {
								r.action, r.number = authz.Decrypt, 1
								all = append(all, r)
							}
							r.number = 150
							all = append(all, r)
							r.user, r.action, r.number = "Alice", authz.Encrypt, 100_000
							all = append(all, r)
						}
					}
				}
			}
		}
	}
	return all
}

// letIn is a request that now serves and before refused.
func letIn(before, now loosening.Compared) (tried, bool) {
	for _, r := range worldOf(before, now) {
		if answers(now, r) && !answers(before, r) {
			return r, true
		}
	}
	return tried{}, false
}

// Whatever file is cut, wherever, or loses lines: if it is still a good configuration and lets somebody in, that is said.
func TestCutFilesLoosen(t *testing.T) {
	for _, file := range []struct {
		name     string
		letsIn   int // cuts that let somebody in, at least
		tightens int // cuts of which nothing is said, at least
	}{
		{"test.yaml", 100, 20}, {"key_stores.d/tax.yaml", 15, 1}, {"policies/a.cedar", 2, 1}, {"more.cedar", 2, 1},
	} {
		t.Run(file.name, func(t *testing.T) {
			testkit.ProtectedDir(t)
			before := mustCompare(t)
			text, err := os.ReadFile(file.name)
			if err != nil {
				t.Fatal(err)
			}
			good, letsIn, silent := 0, 0, 0
			for _, left := range remains(string(text)) {
				testkit.WriteFile(t, file.name, left, 0o644)
				now, err := readAfter(before)
				if err != nil {
					continue
				}
				good++
				found := loosening.Of(before, now, nil)
				if len(found) == 0 {
					silent++
				}
				r, does := letIn(before, now)
				if does {
					letsIn++
				}
				if does && len(found) == 0 {
					t.Fatalf("%+v is served, and nothing is said; the file is\n%s", r, left)
				}
			}
			if letsIn < file.letsIn || silent < file.tightens {
				t.Error("the cuts test nothing")
			}
			t.Logf("%d are good configurations, %d let somebody in, of %d nothing is said", good, letsIn, silent)
		})
	}
}

// remains are what is left of a file that is cut anywhere, or has lost one to six lines.
func remains(text string) []string {
	var all []string
	for end := range len(text) {
		all = append(all, text[:end])
	}
	starts := append([]int{0}, lineEnds(text)...)
	for i, start := range starts {
		for _, end := range starts[i+1 : min(len(starts), i+7)] {
			all = append(all, text[:start]+text[end:])
		}
	}
	return all
}

// A file that grows while it is read: it is cut short, then a little longer. What only tightened at
// first may not let anybody in without a word afterwards.
func TestGrowingFilesLoosen(t *testing.T) {
	testkit.ProtectedDir(t)
	whole := mustCompare(t)
	returned, ends := 0, lineEnds(testkit.ProtectedConfig)
	for i, end := range ends {
		testkit.WriteFile(t, "test.yaml", testkit.ProtectedConfig[:end], 0o644)
		first, err := readAfter(whole)
		if err != nil || len(loosening.Of(whole, first, nil)) > 0 {
			continue // no configuration, or said, hence refused
		}
		gone := loosening.GoneStores(nil).After(whole.Config, first.Config)
		for _, end := range ends[i+1:] {
			testkit.WriteFile(t, "test.yaml", testkit.ProtectedConfig[:end], 0o644)
			second, err := readAfter(first)
			if err != nil {
				continue
			}
			found := loosening.Of(first, second, gone)
			r, does := letIn(whole, second)
			if does && len(found) == 0 {
				t.Fatalf("%d key stores, then %d: %+v is served, and nothing is said", len(first.Config.KeyStores), len(second.Config.KeyStores), r)
			}
			if does {
				returned++
			}
		}
	}
	if returned == 0 {
		t.Error("no file that grew let anybody in: the test tests nothing")
	}
}

func lineEnds(text string) []int {
	var ends []int
	for i, c := range text {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	return ends
}

// Files that are emptied or gone.
func TestEmptiedFilesLoosen(t *testing.T) {
	for _, test := range []struct {
		name, file, content string // content "gone": the file is removed
		says                string
	}{
		{"a tenant's file", "key_stores.d/tax.yaml", "gone", ""},
		{"a file of permits", "policies/b.cedar", "gone", ""},
		{"a file of permits, emptied", "policies/b.cedar", "", ""},
		{"a file of forbids", "policies/c.cedar", "gone", "the forbid"},
		{"a file of forbids, emptied", "policies/c.cedar", "// nothing\n", "the forbid"},
	} {
		t.Run(test.name, func(t *testing.T) {
			testkit.ProtectedDir(t)
			testkit.WriteFile(t, "policies/b.cedar", `@id("carol") permit (principal == User::"arn:aws:iam::111122223333:user/Carol", action, resource);`, 0o644)
			testkit.WriteFile(t, "policies/c.cedar", `@id("no-alice") forbid (principal == User::"arn:aws:iam::111122223333:user/Alice", action, resource);`, 0o644)
			before := mustCompare(t)
			if test.content == "gone" {
				err := os.Remove(test.file)
				if err != nil {
					t.Fatal(err)
				}
			} else {
				testkit.WriteFile(t, test.file, test.content, 0o644)
			}
			now := mustCompare(t)
			found := loosening.Of(before, now, nil)
			if (test.says == "") != (len(found) == 0) || test.says != "" && !strings.Contains(found[0].What, test.says) {
				t.Errorf("%v", found)
			}
			if _, does := letIn(before, now); does != (test.says != "") {
				t.Errorf("lets somebody in: %t", does)
			}
		})
	}
}

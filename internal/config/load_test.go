package config

// Loading: one bad file for each rule with its exact errors, warnings, defaults,
// paths, and the environment.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/testkit"
	"xks-proxy/pkg/hsm"
)

// mustLoad loads a configuration that has to be good.
func mustLoad(t *testing.T, text string) (*Config, []schema.Warning) {
	t.Helper()
	testkit.WriteFile(t, "test.yaml", text, 0o644)
	c, warnings, err := Load("test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return c, warnings
}

func TestBadConfigurations(t *testing.T) {
	files, err := filepath.Glob("testdata/config/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 70 {
		t.Fatalf("%d bad configurations, there were more", len(files))
	}
	dir := testkit.ConfigDir(t)
	place := regexp.MustCompile(
		`^(  )?[a-z0-9-]+\.yaml:[0-9]+(:[0-9]+)?: .|` +
			`^[a-z0-9-]+\.yaml has [0-9]+ errors:$|^  and [0-9]+ more$`,
	)
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			testkit.WriteFile(t, name, testkit.ReadFile(t, testkit.InPackage(file)), 0o644)
			_, warnings, err := Load(name)
			if err == nil {
				t.Fatal("loads without an error")
			}
			if len(warnings) > 0 {
				t.Errorf("warnings beside errors: %v", warnings)
			}
			var all *schema.Error
			if !errors.As(err, &all) || len(all.Problems) == 0 {
				t.Fatalf("%T is not a *schema.Error with problems", err)
			}
			got := strings.ReplaceAll(err.Error(), dir, "DIR") + "\n"
			for line := range strings.Lines(got) {
				if !place.MatchString(strings.TrimSuffix(line, "\n")) {
					t.Errorf("a line without its place: %s", line)
				}
			}
			if strings.Contains(got, "hunter") {
				t.Errorf("quotes a secret: %s", got)
			}
			testkit.CheckGolden(t, strings.TrimSuffix(file, ".yaml")+".err", []byte(got))
		})
	}
}

func TestUnreadableConfiguration(t *testing.T) {
	testkit.ConfigDir(t)
	_, _, err := Load("nowhere.yaml")
	const want = "the configuration file cannot be read: nowhere.yaml does not exist"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	testkit.WriteFile(
		t, "large.yaml", strings.Repeat("# a comment\n", schema.MaxConfigSize/12+1), 0o644,
	)
	_, _, err = Load("large.yaml")
	if err == nil || !strings.HasPrefix(err.Error(), "large.yaml:1:1: the file is larger than 1 "+
		"MiB") {
		t.Errorf("a file that is too large: %v", err)
	}
}

func TestWarnings(t *testing.T) {
	dir := testkit.ConfigDir(t)
	for _, test := range []struct {
		name string
		old  string
		new  string
		want string // "" is none
	}{
		{"none", "", "", ""},
		{"budget", "server: {", "server: {budget: 300ms, ", "test.yaml:1:18: server.budget: AWS " +
			"KMS gives up after 250ms, network included"},
		{"first request", "server: {", "server: {first_request_budget: 201ms, ",
			"test.yaml:1:32: server.first_request_budget: is longer than server.budget, which " +
				"ends first"},
		{"idle timeout", "server: {", "server: {idle_timeout: 350s, ", "test.yaml:1:24: " +
			"server.idle_timeout: a network load balancer keeps idle connections for 5m50s; " +
			"close them later than that, or requests fail now and then"},
		{"keep-alive", "server: {", "server: {tcp_keep_alive: 350s, ", "test.yaml:1:26: " +
			"server.tcp_keep_alive: a network load balancer forgets idle connections after " +
			"5m50s; probe more often"},
		{"body", "server: {", "server: {max_body: 100000, ", "test.yaml:1:20: server.max_body: " +
			"max_plaintext and max_aad together need up to 106496 bytes of Base64 and JSON"},
		{"module", "hsm-b, module: module.so", "hsm-b, module: none.so", "test.yaml:4:27: " +
			"hsms[1].module: DIR/none.so does not exist"},
		{"one HSM", "[{hsm: hsm-a}, {hsm: hsm-b}]", "[{hsm: hsm-a}]", "test.yaml:7:11: " +
			"hsm_groups[0].hsms: one HSM has nobody to stand in for it; give the group a second " +
			"one\ntest.yaml:4:5: hsms[1]: no HSM group uses the HSM \"hsm-b\""},
		{"unused group", "key_stores:", "  - {name: spare, hsms: [{hsm: hsm-a}, {hsm: " +
			"hsm-b}]}\nkey_stores:", "test.yaml:8:5: hsm_groups[1]: no key store uses the HSM " +
			"group \"spare\""},
		{"probe", "  - name: main", "  - name: main\n    probe_timeout: 6s", "test.yaml:7:20: " +
			"hsm_groups[0].probe_timeout: is longer than probe_interval; probes of a slow HSM " +
			"come less often than that"},
		{"hedge", "  - name: main", "  - name: main\n    hedge_after: 60ms", "test.yaml:7:18: " +
			"hsm_groups[0].hedge_after: is not below attempt_timeout (60ms), by which time a " +
			"second HSM is asked anyway"},
		{"no hedge", "  - name: main", "  - name: main\n    hedge_after: 60ms\n    " +
			"hedge_percent: 0", ""},
		{"admin group", "server: {", "admin: {socket: \"\", group: staff}\nserver: {",
			"test.yaml:1:28: admin.group: has no effect without admin.socket"},
		{"shared keys", "key_stores:", "key_stores:\n  - {name: other, path_prefix: /other, " +
			"hsm_group: main, keys: {labels: [a]}, credentials: [{access_key_id: " +
			"XKSTESTACCESSKEYID222222, secret_access_key: {file: demo.key}}]}",
			"test.yaml:9:51: key_stores[0].hsm_group: key_stores[1] reaches every key of " +
				"this HSM group, those of this key store too; give each its own keys.labels"},
		{"shared keys of one owner's template", "key_stores:", "key_stores:\n  - {name: other, " +
			"path_prefix: /other, hsm_group: main, keys: {label: \"a-{key_id}\"}, credentials: " +
			"[{access_key_id: XKSTESTACCESSKEYID222222, secret_access_key: {file: " +
			"demo.key}}]}", "test.yaml:9:51: key_stores[0].hsm_group: key_stores[1] " +
			"reaches every key of this HSM group, those of this key store too; give " +
			"each its own keys.labels"},
		{"quota", "hsm_group: main", "hsm_group: main\n    quota: {burst: 5, key_burst: 6, " +
			"max_in_flight: 2000}", "test.yaml:12:20: key_stores[0].quota.burst: does nothing " +
			"without requests_per_second\ntest.yaml:12:34: key_stores[0].quota.key_burst: " +
			"does nothing without key_requests_per_second\ntest.yaml:12:52: " +
			"key_stores[0].quota.max_in_flight: is above server.max_in_flight " +
			"(1024), which all key stores share"},
		{"key quota", "hsm_group: main", "hsm_group: main\n    quota: {requests_per_second: 5, " +
			"key_requests_per_second: 6}", "test.yaml:12:62: " +
			"key_stores[0].quota.key_requests_per_second: is above requests_per_second (5), " +
			"which all keys share"},
		{"good hosts", "hsm_group: main", "hsm_group: main\n    environment: test\n    hosts: " +
			"[xks.example.com, \"{environment}.xks.example.com\", xn--bcher-kva.example, " +
			"localhost, 1a.2b]", ""},
		{"good listeners", "server: {", "server: {listeners: [{listen: \"127.0.0.1:0\"}, " +
			"{listen: \"127.0.0.1:0\", client_certificates: {ca: server.crt, subjects: [a], " +
			"usages: [serverAuth, clientAuth]}}], ", ""},
		{"test key", "hsm_group: main", "hsm_group: main\n    keys: {labels: [xks-proxy-test]}",
			"test.yaml:12:21: key_stores[0].keys.labels[0]: \"xks-proxy-test\" is the test key " +
				"of the HSM group, which no key store can reach"},
		{"one small HSM", "pin: {file: hsm-b.pin}", "pin: {file: hsm-b.pin}, overrides: " +
			"{max_aad: 512, max_data: 512}", ""},
		{"small HSMs", "hsm-a.pin}}\n  - {name: hsm-b, module: module.so, token: hsm-b, pin: " +
			"{file: hsm-b.pin}", "hsm-a.pin}, overrides: {max_aad: 8214, max_data: 4299}}\n  - " +
			"{name: hsm-b, module: module.so, token: hsm-b, pin: {file: hsm-b.pin}, " +
			"overrides: {max_aad: 512, max_data: 512}",
			"test.yaml:7:11: hsm_groups[0].hsms: no HSM of the group takes the 8192 bytes of AAD " +
				"that AWS KMS may send (max_aad: 8215 with the proxy's framing); longer requests " +
				"are answered UnsupportedOperationException\n" +
				"test.yaml:7:11: hsm_groups[0].hsms: no HSM of the group takes the 4300 bytes of " +
				"plaintext that AWS KMS may send (max_data); longer requests are answered " +
				"UnsupportedOperationException"},
		{"empty list", "pin: {file: hsm-b.pin}", "pin: {file: hsm-b.pin}, overrides: {ambiguous: " +
			"[]}", "test.yaml:4:99: hsms[1].overrides.ambiguous: is empty, which leaves the " +
			"profile's list"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, warnings := mustLoad(
				t, strings.Replace(testkit.ValidConfig(t), test.old, test.new, 1),
			)
			lines := make([]string, 0, len(warnings))
			for _, w := range warnings {
				lines = append(lines, w.String())
			}
			got := strings.ReplaceAll(strings.Join(lines, "\n"), dir, "DIR")
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestDefaultsAndValues(t *testing.T) {
	dir := testkit.ConfigDir(t)
	c, _ := mustLoad(t, testkit.ValidConfig(t, "token: hsm-b, ", "token: hsm-b, sessions: 0x10, "+
		"overrides: {iv_size: 16, mechanism: 0x80000001, ambiguous: [5, 0x6], "+
		"read_only_sessions: false}, "))
	if c.Server.Listen != "127.0.0.1:8443" || c.Server.Budget != 200*time.Millisecond ||
		c.Server.MaxAAD != 65535 ||
		!c.Server.HTTP2 {
		t.Errorf("defaults of server: %+v", c.Server)
	}
	if c.Server.TLS.Certificate != filepath.Join(dir, "server.crt") ||
		c.StateDirectory != filepath.Join(dir, "state") {
		t.Errorf("relative paths: %q %q", c.Server.TLS.Certificate, c.StateDirectory)
	}
	if c.Log.Output != "stderr" {
		t.Errorf("log.output: %q", c.Log.Output)
	}
	a, b := c.HSMs[0], c.HSMs[1]
	if a.Sessions != 32 || a.Profile != "generic" || a.HangTimeout != 2*time.Second ||
		a.PIN.File != filepath.Join(dir, "hsm-a.pin") {
		t.Errorf("defaults of an HSM: %+v", a)
	}
	if a.Overrides.ReadOnlySessions != nil || a.Overrides.Ambiguous != nil ||
		a.Overrides.IVSource != "" {
		t.Errorf("overrides that are not given: %+v", a.Overrides)
	}
	o := b.Overrides
	if b.Sessions != 16 || o.IVSize != 16 || o.Mechanism != 0x80000001 || *o.ReadOnlySessions ||
		len(o.Ambiguous) != 2 ||
		o.Ambiguous[1] != hsm.CKR(6) {
		t.Errorf("overrides: %+v", o)
	}
	k := c.KeyStores[0]
	if len(k.Keys.Labels) != 1 || k.Keys.Labels[0] != "*" || k.Keys.Label != "{key_id}" ||
		k.LegacyFormat != "" {
		t.Errorf("defaults of a key store: %+v", k)
	}
	if c.HSMGroups[0].TestKey != (TestKey{Label: "xks-proxy-test"}) ||
		c.HSMGroups[0].AttemptTimeout != 60*time.Millisecond {
		t.Errorf("defaults of a group: %+v", c.HSMGroups[0])
	}
}

// Paths start at the directory of the file, wherever the program was started.
func TestPathsStartAtTheFile(t *testing.T) {
	dir := testkit.ConfigDir(t)
	err := os.Mkdir("logs", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, "test.yaml", testkit.ValidConfig(t)+"log: {output: "+
		"logs/proxy.log}\nstate_directory: \"\"\n", 0o644)
	t.Chdir("/")
	c, _, err := Load(filepath.Join(dir, "test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if c.HSMs[0].Module != filepath.Join(dir, "module.so") ||
		c.Log.Output != filepath.Join(dir, "logs/proxy.log") ||
		c.StateDirectory != "" {
		t.Errorf("paths: %q %q %q", c.HSMs[0].Module, c.Log.Output, c.StateDirectory)
	}
}

// The bound on expanded aliases is far from what an operator writes.
func TestThousandKeyStores(t *testing.T) {
	var b strings.Builder
	b.WriteString(testkit.ValidConfig(t))
	for i := range 1000 {
		fmt.Fprintf(&b, "  - name: tenant-%d\n    path_prefix: /tenant-%d\n    hsm_group: main\n "+
			"   regions: [eu-central-1]\n    credentials:\n"+
			"      - {access_key_id: %s, secret_access_key: {file: demo.key}}\n    keys: "+
			"{labels: [\"tenant-%d-*\"]}\n", i, i, testkit.NumberedAccessKey(i), i)
	}
	l := Parse("test.yaml", "/etc/xks", []byte(b.String()), nil)
	err := l.Report.Err()
	if err != nil || len(l.Config.KeyStores) != 1001 {
		t.Errorf("%d key stores, %v", len(l.Config.KeyStores), err)
	}
}

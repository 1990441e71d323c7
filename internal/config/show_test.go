package config

// `config show`: what it prints loads to the same configuration, from anywhere and without the
// environment that it was made in; and it is what is in use, defaults included.

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/testkit"
)

// shownCase is a configuration and the environment that it is shown in.
type shownCase struct {
	name    string
	text    string
	environ []string
	stores  map[string]string // of key_stores.d
}

func shownCases(t *testing.T) []shownCase {
	t.Helper()
	commented := testkit.ReadCommented()
	return []shownCase{
		{"valid.yaml", testkit.ValidConfig(t), nil, nil},
		{"the commented configuration", commented, nil, nil},
		{"with every setting in it", strings.Replace(
			testkit.CommentedSetting.ReplaceAllString(commented, "$1$2"),
			"key_store_directory: key_stores.d", "key_store_directory: .", 1), nil, nil},
		{"texts that look like something else",
			testkit.ValidConfig(t, "token: hsm-b", `token: "0123"`,
				"{file: hsm-b.pin}", `{command: [./pin, "true", "a: b"]}, environment: ["A=#1"], `+
					"overrides: {mechanism: 0x80000001, ambiguous: [5], "+
					"read_only_sessions: false}"), nil, nil},
		{"a small budget",
			testkit.ValidConfig(t, "server: {", "server: {budget: 90ms, "), nil, nil},
		{"an odd budget",
			testkit.ValidConfig(t, "server: {", "server: {budget: 90.5ms, "), nil, nil},
		{"a small budget of the environment",
			testkit.ValidConfig(t), []string{"XKS_SERVER_BUDGET=80ms"}, nil},
		{"a test key's label alone",
			testkit.ValidConfig(t, "  - name: main\n", "  - name: main\n    test_key: own-key\n"),
			nil, nil},
		{"a test key to be made",
			testkit.ValidConfig(t, "  - name: main\n", "  - name: main\n    test_key: {create: "+
				"true}\n"), nil, nil},
		{"a test key of the environment",
			testkit.ValidConfig(t), []string{"XKS_HSM_GROUPS_0_TEST_KEY=own-key"}, nil},
		{"nothing optional", testkit.ValidConfig(t) + "state_directory: " +
			"\"\"\nkey_store_directory: \"\"\n" +
			"health: {listen: \"\"}\nadmin: {socket: \"\"}\n", nil, nil},
		{"overrides from the environment", testkit.ValidConfig(t), []string{
			"XKS_LOG_LEVEL=debug", "XKS_LOG_OUTPUT=log/proxy.log", "XKS_HSMS_1_PIN_ENV=XKS_PIN_B",
			"XKS_HSMS_0_PIN_COMMAND=bin/pin,a", "XKS_HSMS_0_ENVIRONMENT=A=1,B=2",
			"XKS_HSMS_0_SLOT=0",
			"XKS_HSMS_0_OVERRIDES_AMBIGUOUS=0x5,6",
			"XKS_KEY_STORES_0_REGIONS=eu-central-1,eu-west-1",
		}, nil},
		{"metrics on their own port",
			testkit.ValidConfig(t) + "metrics: {listen: \"127.0.0.1:9443\"}\n", nil, nil},
		{"templates", testkit.ValidConfig(
			t,
			"path_prefix: /demo",
			"path_prefix: \"/{owner}/{name}\"\n    owner: office\n    application: payroll",
		), nil, nil},
		{"a directory",
			testkit.ValidConfig(t, "hsm_group: main", "hsm_group: main\n    keys: {labels: "+
				"[demo]}"),
			nil,
			map[string]string{
				"tax.yaml": "owner: tax\npath_prefix: /{owner}/{name}\nhsm_group: main\n" +
					"keys: {labels: [\"{owner}-*\"]}\nquota: {requests_per_second: 10}\npolicy: " +
					"{files: [\"p/{owner}\"]}\n" +
					"credentials: [{access_key_id: XKSTESTACCESSKEYID222222, secret_access_key: " +
					"{command: [bin/key, x]}}]\n",
			},
		},
	}
}

func TestShowLoadsToTheSame(t *testing.T) {
	for _, test := range shownCases(t) {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.stores {
				err := os.MkdirAll(filepath.Join(dir, "key_stores.d"), 0o755)
				if err != nil {
					t.Fatal(err)
				}
				testkit.WriteFile(t, filepath.Join(dir, "key_stores.d", name), text, 0o644)
			}
			l := parseTree("test.yaml", dir, []byte(test.text), test.environ, os.DirFS)
			err := l.Report.Err()
			if err != nil {
				t.Fatal(err)
			}
			var shown strings.Builder
			err = Show(&shown, l)
			if err != nil {
				t.Fatal(err)
			}
			again := parseTree("shown.yaml", t.TempDir(), []byte(shown.String()), nil, os.DirFS)
			err = again.Report.Err()
			if err != nil {
				t.Fatalf("does not load: %v\n%s", err, shown.String())
			}
			c, other := l.Config, again.Config
			c.Source, other.Source = nil, nil
			if len(test.stores) > 0 || !l.Report.Found { // its key stores are in the file now
				c.KeyStoreDirectory = ""
			}
			if !reflect.DeepEqual(c, other) {
				t.Errorf("shown:\n%s\nloads to\n%+v\ninstead of\n%+v", shown.String(), other, c)
			}
			if len(again.Report.Warnings) > len(l.Report.Warnings) {
				t.Errorf("draws warnings of its own: %v", again.Report.Warnings)
			}
		})
	}
}

// A default that depends on another setting is shown as it is in use.
func TestShowDerivedDefaults(t *testing.T) {
	l := parseWith(t, testkit.ValidConfig(t, "server: {", "server: {budget: 90ms, "))
	var shown strings.Builder
	err := Show(&shown, l)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"max_queue_time: 45ms # default\n", "first_request_budget: " +
		"90ms # default\n"} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("%q is not in\n%s", want, shown.String())
		}
	}
	if s := l.Config.Server; s.MaxQueueTime != 45*time.Millisecond ||
		s.FirstRequestBudget != 90*time.Millisecond {
		t.Errorf("%+v", s)
	}
}

// A section with a short form: the text alone, the section, and the variables of both.
func TestShortForm(t *testing.T) {
	for _, test := range []struct {
		text, variable string
		want           TestKey
		problem        string
	}{
		{"", "", TestKey{Label: "xks-proxy-test"}, ""},
		{"test_key: own", "", TestKey{Label: "own"}, ""},
		{"test_key: {label: own}", "", TestKey{Label: "own"}, ""},
		{"test_key: {create: true}", "", TestKey{Label: "xks-proxy-test", Create: true}, ""},
		{"test_key:", "", TestKey{Label: "xks-proxy-test"}, ""},
		{"test_key: own", "XKS_HSM_GROUPS_0_TEST_KEY=other", TestKey{Label: "other"}, ""},
		{"test_key: {create: true}", "XKS_HSM_GROUPS_0_TEST_KEY=other", TestKey{Label: "other",
			Create: true}, ""},
		{"test_key: own", "XKS_HSM_GROUPS_0_TEST_KEY_LABEL=other", TestKey{Label: "other"}, ""},
		{"test_key: own", "XKS_HSM_GROUPS_0_TEST_KEY_CREATE=true", TestKey{Label: "own",
			Create: true}, ""},
		{"test_key: 5", "", TestKey{}, "test.yaml:7:15: hsm_groups[0].test_key.label: must be " +
			"text; put quotes around the value"},
		{"test_key: \"\"", "", TestKey{}, "test.yaml:7:15: hsm_groups[0].test_key.label: must " +
			"not be empty (CKA_LABEL of the key)"},
		{"test_key: [own]", "", TestKey{}, "test.yaml:7:15: hsm_groups[0].test_key: must have " +
			"keys of its own: label, create"},
		{"test_key: {create: maybe}", "", TestKey{}, "test.yaml:7:24: " +
			"hsm_groups[0].test_key.create: must be true or false"},
		{"", "XKS_HSM_GROUPS_0_TEST_KEY=", TestKey{}, "environment variable " +
			"XKS_HSM_GROUPS_0_TEST_KEY: hsm_groups[0].test_key.label: must not be empty " +
			"(CKA_LABEL of the key)"},
	} {
		l := parseWith(
			t,
			testkit.ValidConfig(t, "  - name: main\n", "  - name: main\n    "+test.text+"\n"),
			test.variable,
		)
		err := l.Report.Err()
		switch {
		case test.problem != "":
			if err == nil || err.Error() != test.problem {
				t.Errorf("%q %s: %v, want %s", test.text, test.variable, err, test.problem)
			}
		case err != nil || l.Config.HSMGroups[0].TestKey != test.want:
			t.Errorf(
				"%q %s: %+v %v, want %+v",
				test.text,
				test.variable,
				l.Config.HSMGroups[0].TestKey,
				err,
				test.want,
			)
		}
	}
}

// What an HSM's profile says is in use, too.
func TestShowProfile(t *testing.T) {
	l := parseWith(
		t,
		testkit.ValidConfig(
			t,
			"token: hsm-b, ",
			"token: hsm-b, profile: cloudhsm, overrides: {max_aad: 600}, ",
		),
	)
	var shown strings.Builder
	err := Show(&shown, l)
	if err != nil {
		t.Fatal(err)
	}
	_, second, _ := strings.Cut(shown.String(), "name: hsm-b")
	for _, want := range []string{"# from the profile cloudhsm:\n", "#   iv_source: " +
		"written-back\n", "      max_aad: 600\n"} {
		if !strings.Contains(second, want) {
			t.Errorf("%q is not in\n%s", want, second)
		}
	}
	if strings.Contains(second, "#   max_aad") {
		t.Errorf("shows what is overridden:\n%s", second)
	}
}

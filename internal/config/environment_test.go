package config

// Overrides from the environment, and the variables that name nothing.

import (
	"reflect"
	"testing"
	"time"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/secret"
	"xks-proxy/internal/testkit"
	"xks-proxy/pkg/hsm"
)

// parseWith parses a configuration in an environment of its own.
func parseWith(t *testing.T, text string, environ ...string) *Loaded {
	t.Helper()
	return Parse("test.yaml", "/etc/xks", []byte(text), environ)
}

func TestEnvironmentOverrides(t *testing.T) {
	l := parseWith(t, testkit.ValidConfig(t, "hsm-b.pin}}", "hsm-b.pin}, overrides: {ambiguous: "+
		"[5]}}"),
		"XKS_SERVER_LISTEN=0.0.0.0:443",
		"XKS_SERVER_BUDGET=150ms",
		"XKS_SERVER_HTTP2=false",
		"XKS_SERVER_MAX_AAD=0x2000",
		"XKS_LOG_LEVEL=debug",
		"XKS_HEALTH_LISTEN=",
		"XKS_HSMS_0_TOKEN=other",
		"XKS_HSMS_0_MODULE=lib/other.so",
		"XKS_HSMS_0_ENVIRONMENT=A=1, B=2",
		"XKS_HSMS_1_OVERRIDES_AMBIGUOUS=0x5,6",
		"XKS_HSMS_1_PIN_CREDENTIAL=pin-b",
		"XKS_HSM_GROUPS_0_HSMS_1_PRIORITY=1",
		"XKS_KEY_STORES_0_PATH_PREFIX=/a/b",
		"XKS_KEY_STORES_0_REGIONS=eu-central-1,eu-west-1",
		"HOME=/root",
	)
	err := l.Report.Err()
	if err != nil {
		t.Fatal(err)
	}
	c := l.Config
	for _, check := range []struct{ key, got, want any }{
		{"server.listen", c.Server.Listen, "0.0.0.0:443"},
		{"server.budget", c.Server.Budget, 150 * time.Millisecond},
		{"server.http2", c.Server.HTTP2, false},
		{"server.max_aad", c.Server.MaxAAD, 8192},
		{"log.level", c.Log.Level, "debug"},
		{"health.listen", c.Health.Listen, ""},
		{"hsms[0].token", c.HSMs[0].Token, "other"},
		{"hsms[0].module", c.HSMs[0].Module, "/etc/xks/lib/other.so"},
		{"hsms[0].environment", c.HSMs[0].Environment, []string{"A=1", "B=2"}},
		{"hsms[1].overrides.ambiguous", c.HSMs[1].Overrides.Ambiguous, []hsm.CKR{5, 6}},
		{"hsms[1].pin", c.HSMs[1].PIN, secret.Ref{Credential: "pin-b"}},
		{"hsm_groups[0].hsms[1].priority", c.HSMGroups[0].HSMs[1].Priority, 1},
		{"key_stores[0].path_prefix", c.KeyStores[0].PathPrefix, "/a/b"},
		{"key_stores[0].regions", c.KeyStores[0].Regions, []string{"eu-central-1", "eu-west-1"}},
	} {
		if !reflect.DeepEqual(check.got, check.want) {
			t.Errorf("%s: got %#v, want %#v", check.key, check.got, check.want)
		}
	}
}

func TestEnvironmentErrors(t *testing.T) {
	for _, test := range []struct{ variable, want string }{
		{"XKS_LOG_LEVL=debug", "environment variable XKS_LOG_LEVL: names no key of this file; " +
			"did you mean XKS_LOG_LEVEL?"},
		{"XKS_HSMS_2_TOKEN=x", "environment variable XKS_HSMS_2_TOKEN: names no key of this " +
			"file; did you mean XKS_HSMS_0_TOKEN?"},
		{"XKS_COMPLETELY_DIFFERENT_THING=x", "environment variable " +
			"XKS_COMPLETELY_DIFFERENT_THING: names no key of this file; XKS_ variables override " +
			"keys of the file, such as XKS_SERVER_LISTEN (docs/configuration.md lists them); " +
			"unset it"},
		{"XKS_LOG_LEVEL=verbose", "environment variable XKS_LOG_LEVEL: log.level: \"verbose\" is " +
			"not one of debug, info, warn, error"},
		{"XKS_SERVER_BUDGET=200", "environment variable XKS_SERVER_BUDGET: server.budget: 200 " +
			"has no unit; write 200ms or 200s"},
		{"XKS_SERVER_MAX_AAD=many", "environment variable XKS_SERVER_MAX_AAD: server.max_aad: " +
			"\"many\" is not a number; write it like 4096 or 0x1000"},
		{"XKS_SERVER_HTTP2=yes", "environment variable XKS_SERVER_HTTP2: server.http2: must be " +
			"true or false"},
		{"XKS_SERVER_LISTEN=", "environment variable XKS_SERVER_LISTEN: server.listen: must not " +
			"be empty (Address and port of the HTTPS listener)"},
		{"XKS_HSMS_0_TOKEN=a\xff", "environment variable XKS_HSMS_0_TOKEN: hsms[0].token: holds " +
			"a control character or invalid UTF-8"},
		{"XKS_HSMS_0_PIN=hunter2", "environment variable XKS_HSMS_0_PIN: hsms[0].pin: a secret " +
			"is never given itself; set XKS_HSMS_0_PIN_FILE, or set XKS_HSMS_0_PIN_ENV to the " +
			"name of the variable that holds it"},
		{"XKS_HSMS_0_PIN_FILE=", "environment variable XKS_HSMS_0_PIN_FILE: hsms[0].pin.file: " +
			"must not be empty"},
		{"XKS_KEY_STORES_0_HSM_GROUP=mian", "environment variable XKS_KEY_STORES_0_HSM_GROUP: " +
			"key_stores[0].hsm_group: there is no HSM group named \"mian\"; did you mean " +
			"\"main\"?"},
		{"XKS_KEY_STORES_0_REGIONS=eu-central-1,here", "environment variable " +
			"XKS_KEY_STORES_0_REGIONS: key_stores[0].regions[1]: \"here\" is not an AWS region, " +
			"such as eu-central-1"},
	} {
		t.Run(test.variable, func(t *testing.T) {
			err := parseWith(t, testkit.ValidConfig(t), test.variable).Report.Err()
			if err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// Variables that are no overrides and no mistakes.
func TestEnvironmentExceptions(t *testing.T) {
	text := testkit.ValidConfig(t, "{file: hsm-b.pin}", "{env: XKS_PIN_OF_B}")
	err := parseWith(t, text,
		"XKS_CONFIG=/etc/xks/proxy.yaml",
		"XKS_PIN_OF_B=1234",
		"XKS_PROXY_SERVICE_HOST=10.0.0.1",
		"XKS_PROXY_SERVICE_PORT=443",
		"XKS_PROXY_SERVICE_PORT_HTTPS=443",
		"XKS_PROXY_PORT=tcp://10.0.0.1:443",
		"XKS_PROXY_PORT_443_TCP=tcp://10.0.0.1:443",
		"XKS_PROXY_PORT_443_TCP_PROTO=tcp",
		"XKS_PROXY_PORT_443_TCP_PORT=443",
		"XKS_PROXY_PORT_443_TCP_ADDR=10.0.0.1",
	).Report.Err()
	if err != nil {
		t.Error(err)
	}
}

// No variable stands for two keys, and no key's variable looks like what
// Kubernetes sets.
func TestVariableNamesAreUnique(t *testing.T) {
	paths := map[string]string{}
	walkSchema(Schema, "", func(s *schema.Setting, path string) {
		if s.Kind == schema.Section {
			return
		}
		name := schema.EnvironmentName(path)
		if other, ok := paths[name]; ok {
			t.Errorf("%s stands for %s and %s", name, other, path)
		}
		if schema.ServiceVariable.MatchString(name) || name == schema.ConfigVariable {
			t.Errorf("%s of %s is one of the exceptions", name, path)
		}
		paths[name] = path
	})
	if len(paths) < 60 {
		t.Errorf("%d variables, there were more", len(paths))
	}
}

// walkSchema visits every key, in lists the one of the first element.
func walkSchema(s *schema.Setting, path string, visit func(*schema.Setting, string)) {
	for _, f := range s.Fields {
		at := schema.JoinPath(path, f.Name)
		visit(f, at)
		if f.List && f.IsMapping() {
			at += "[0]"
		}
		walkSchema(f, at, visit)
	}
}

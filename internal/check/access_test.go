package check

// Every path that a configuration can hold is among the files that --as-user looks at.

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/testkit"
)

func TestAccessNeedsHoldEveryPath(t *testing.T) {
	all := testkit.CommentedSetting.ReplaceAllString(testkit.ReadCommented(), "$1$2")
	l := config.Parse("xks-proxy.yaml", "/etc/xks-proxy", []byte(all), nil)
	err := l.Report.Err()
	if err != nil {
		t.Fatal(err)
	}
	check := &Result{Report: l.Report, Config: l.Config}
	var needed []string
	for _, need := range check.accessNeeds() {
		needed = append(needed, need.Path)
	}
	seen := 0
	visitPaths(config.Schema, l.Settings, "", func(key, path string) {
		seen++
		if key == "admin.socket" {
			path = filepath.Dir(path) // in which the socket is made
		}
		if key != config.DirectoryKey && filepath.IsAbs(path) && !slices.Contains(needed, path) {
			t.Errorf("%s: nobody looks at %s", key, path)
		}
	})
	if seen < 15 {
		t.Errorf("only %d paths in the commented configuration", seen)
	}
}

// visitPaths visits the values of all settings that are paths.
func visitPaths(
	s *schema.Setting,
	settings map[string]any,
	at string,
	visit func(key, path string),
) {
	for _, f := range s.Fields {
		key := strings.TrimPrefix(at+"."+f.Name, ".")
		switch value := settings[f.Name].(type) {
		case map[string]any:
			visitPaths(f, value, key, visit)
		case string:
			if f.Path != "" && value != "" {
				visit(key, value)
			}
		case []any:
			for _, element := range value {
				section, isSection := element.(map[string]any)
				path, isText := element.(string)
				switch {
				case isSection:
					visitPaths(f, section, key, visit)
				case isText && f.Path != "":
					visit(key, path)
				}
			}
		}
	}
}

// The certificate and key of the metrics listener stand in a file of their own.
func TestAccessNeedsOfTheWebConfig(t *testing.T) {
	testkit.StoreDir(t)
	testkit.WriteFile(t, "web.yaml", "tls_server_config: {cert_file: web.crt, key_file: web.key, "+
		"client_ca_file: /etc/clients.crt}\n", 0o600)
	testkit.WriteFile(t, "test.yaml", testkit.ValidConfig(t)+
		"metrics: {listen: \"127.0.0.1:9443\", web_config: web.yaml}\n", 0o644)
	l, err := config.LoadFile("test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	check := &Result{Report: l.Report, Config: l.Config}
	var needed []string
	for _, need := range check.accessNeeds() {
		if need.key == config.WebConfigKey {
			needed = append(needed, filepath.Base(need.Path))
		}
	}
	want := []string{"web.yaml", "web.crt", "web.key", "clients.crt"}
	if !slices.Equal(needed, want) {
		t.Errorf("%v, want %v", needed, want)
	}
}

package test

// Configuration files for the proxy under test. YAML is a superset of JSON, which is
// what is written here.

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"xks-proxy/pkg/sigv4"
	"xks-proxy/test/faulty"
)

type object = map[string]any

// settings is what tests change of a configuration.
type settings struct {
	Server    object
	Health    object
	Log       object
	Admin     object // without a socket: one beside the configuration file
	Metrics   object // nil: the defaults
	Reload    object // likewise
	State     string
	Without   string // start_without_hsms; "": the default
	HSMs      []object
	Group     object
	Second    object // another group; nil: none
	KeyStores []object
}

// world is a pair of HSMs and what a proxy in front of it needs.
type world struct {
	*pair
	CA       *x509.CertPool
	Main     sigv4.Credential
	Second   sigv4.Credential // of the same key store
	Other    sigv4.Credential // of another key store
	Regional sigv4.Credential // of the one that accepts eu-central-1 only
	Blocked  sigv4.Credential // of the blocked one
}

// The path prefixes of a world's key stores.
const (
	mainPrefix     = "/demo"
	otherPrefix    = ""
	regionalPrefix = "/tenants/a-1/b_2"
	blockedPrefix  = "/blocked"
)

func newWorld(t testing.TB, dir string, keys *pair) *world {
	t.Helper()
	w := &world{pair: keys}
	w.CA = newCertificates(t, dir)
	for _, credential := range []*sigv4.Credential{&w.Main, &w.Second, &w.Other, &w.Regional, &w.Blocked} {
		*credential = w.newCredential(t)
	}
	return w
}

func (w *world) file(name string) string { return filepath.Join(w.Dir, name) }

// credential is an access key as the configuration names it; its secret is in a file.
func (w *world) credential(c sigv4.Credential) object {
	return object{"access_key_id": c.AccessKeyID, "secret_access_key": object{"file": filepath.Join(w.Dir, c.AccessKeyID)}}
}

// newCredential is one that no key store has yet.
func (w *world) newCredential(t testing.TB) sigv4.Credential {
	t.Helper()
	made, err := sigv4.GenerateCredential()
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(w.Dir, made.AccessKeyID), made.SecretAccessKey+"\n")
	return made
}

// settings is a configuration that serves the world. Times are long, so that a busy
// machine fails no test that is not about time.
func (w *world) settings() *settings {
	return &settings{
		Server: object{
			"listen": "127.0.0.1:0", "budget": "20s", "first_request_budget": "20s", "max_queue_time": "10s",
			"tls": object{"certificate": filepath.Join(w.Dir, "server.crt"), "key": filepath.Join(w.Dir, "server.key")},
		},
		Health: object{"listen": "127.0.0.2:0"},                                // the program refuses twice the same, and takes port 0 for one
		Log:    object{"level": "debug", "unauthenticated_per_second": 10_000}, // tests look for lines about what is refused
		Admin:  object{},
		State:  filepath.Join(w.Dir, "state"),
		HSMs:   []object{w.A.settings(), w.B.settings()},
		Group: object{"name": "main", "test_key": testKey, "probe_interval": "1s", "catalogue_interval": "1s", "attempt_timeout": "5s", "hedge_after": "4s",
			"hsms": []object{{"hsm": w.A.Label}, {"hsm": w.B.Label}}},
		KeyStores: []object{
			{"name": "main", "path_prefix": mainPrefix, "hsm_group": "main", "credentials": []object{w.credential(w.Main), w.credential(w.Second)},
				"keys": object{"labels": []string{"*"}, "disabled": []string{"disabled-key"}}},
			{"name": "other", "path_prefix": otherPrefix, "hsm_group": "main", "credentials": []object{w.credential(w.Other)},
				"keys": object{"labels": []string{"other-*"}}},
			{"name": "regional", "path_prefix": regionalPrefix, "hsm_group": "main", "credentials": []object{w.credential(w.Regional)},
				"regions": []string{"eu-central-1"}, "keys": object{"labels": []string{"key-1"}, "label": "{key_id}-1"}},
			{"name": "blocked", "path_prefix": blockedPrefix, "hsm_group": "main", "credentials": []object{w.credential(w.Blocked)},
				"keys": object{"labels": []string{"key-1"}}, "blocked": true},
		},
	}
}

// settings is the token as an HSM of a configuration.
func (k *token) settings() object {
	return object{"name": k.Label, "profile": "softhsm", "module": module, "token": k.Label,
		"pin": object{"file": k.pinFile()}, "environment": []string{k.environment()}}
}

// withoutLeisure gives the times that the program has by default.
func (s *settings) withoutLeisure() {
	delete(s.Server, "budget")
	delete(s.Server, "first_request_budget")
	delete(s.Server, "max_queue_time")
	delete(s.Group, "attempt_timeout")
	delete(s.Group, "hedge_after")
}

// withSomeLeisure has faults of HSMs noticed as soon as by default, and gives a request the time that it may take on a busy machine.
func (s *settings) withSomeLeisure() {
	s.withoutLeisure()
	s.Server["budget"], s.Server["first_request_budget"], s.Server["max_queue_time"] = "5s", "5s", "4s"
}

// only keeps one HSM.
func (s *settings) only(k *token) {
	for _, h := range s.HSMs {
		if h["name"] == k.Label {
			s.HSMs = []object{h}
			break
		}
	}
	s.Group["hsms"] = []object{{"hsm": k.Label}}
}

func (s *settings) text(t testing.TB) string {
	t.Helper()
	all := object{
		"server": s.Server, "health": s.Health, "log": s.Log, "admin": s.Admin, "state_directory": s.State,
		"hsms": s.HSMs, "hsm_groups": []object{s.Group}, "key_stores": s.KeyStores,
	}
	if s.Second != nil {
		all["hsm_groups"] = []object{s.Group, s.Second}
	}
	if s.Metrics != nil {
		all["metrics"] = s.Metrics
	}
	if s.Reload != nil {
		all["reload"] = s.Reload
	}
	if s.Without != "" {
		all["start_without_hsms"] = s.Without
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// misbehave puts the module that fails on command (test/faulty) before each HSM.
func (s *settings) misbehave(t testing.TB) []*faulty.Control {
	t.Helper()
	dir := t.TempDir()
	module, err := faulty.Build(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var controls []*faulty.Control
	for i, h := range s.HSMs {
		control, err := faulty.New(filepath.Join(dir, fmt.Sprint("control-", i)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { control.Close() })
		h["module"] = module
		h["environment"] = append(h["environment"].([]string), control.Env())
		controls = append(controls, control)
	}
	return controls
}

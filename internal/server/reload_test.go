package server

// What a reload keeps until a restart, what it says, what it counts.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/certs"
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/filewatch"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/logging"
	"xks-proxy/internal/testkit"
)

// Every setting that takes a restart is kept as it runs, is named, and is marked by the difference of the two; every
// other comes through.
func TestKeepRunning(t *testing.T) {
	for _, s := range restartSettings {
		running, next := &config.Config{}, &config.Config{}
		field := fieldOf(t, next, s.key)
		change(t, field)
		wanted := reflect.ValueOf(*next)
		changes := config.Diff(running, next, &config.Secrets{}, &config.Secrets{})
		if len(changes) == 0 {
			t.Errorf("%s: no difference is seen", s.key)
		}
		for _, c := range changes {
			if !c.Restart || !strings.HasPrefix(c.Key, s.key) {
				t.Errorf("%s: the difference is %+v", s.key, c)
			}
		}
		if waits := keepRunning(next, running); !slices.Equal(waits, []string{s.key}) {
			t.Errorf("%s: %q wait for a restart", s.key, waits)
		}
		if reflect.DeepEqual(wanted.Interface(), *next) || !reflect.DeepEqual(*next, *running) {
			t.Errorf("%s: %+v is not as it runs", s.key, field.Interface())
		}
	}
	running, next := &config.Config{}, &config.Config{Log: config.Log{Level: "error"}, Server: config.Server{Budget: 1, DrainDelay: 2}}
	if waits := keepRunning(next, running); len(waits) != 0 || next.Log.Level != "error" || next.Server.DrainDelay != 2 {
		t.Errorf("%q wait; %+v", waits, next)
	}
}

// Every key that the schema marks is one that a reload keeps.
func TestEveryRestartKeyIsKept(t *testing.T) {
	kept := map[string]bool{}
	for _, s := range restartSettings {
		kept[s.key] = true
	}
	marked := 0
	var walk func(s *schema.Setting, path string, restart bool)
	walk = func(s *schema.Setting, path string, restart bool) {
		for _, f := range s.Fields {
			at := schema.JoinPath(path, f.Name)
			switch {
			case f.Kind == schema.Section:
				walk(f, at, restart || f.Restart)
			case restart || f.Restart:
				marked++
				if !kept[at] && !kept[path] {
					t.Errorf("%s takes a restart, and a reload would change it", at)
				}
			}
		}
	}
	walk(config.Schema, "", false)
	if marked < 10 {
		t.Errorf("only %d keys are marked", marked)
	}
}

// The rules about client certificates of a listener do not wait, its address does.
func TestKeepListeners(t *testing.T) {
	with := func(address, ca string) *config.Config {
		return &config.Config{Server: config.Server{Listeners: []config.Listener{{Listen: address, ClientCertificates: config.ClientCertificates{CA: ca}}}}}
	}
	next := with("a:1", "new")
	if waits := keepRunning(next, with("a:1", "old")); len(waits) != 0 || next.Server.Listeners[0].ClientCertificates.CA != "new" {
		t.Errorf("%q wait: %+v", waits, next.Server.Listeners)
	}
	next = with("a:1", "")
	next.Server.Listeners = append(next.Server.Listeners, config.Listener{Listen: "a:3"})
	if waits := keepRunning(next, with("a:1", "old")); !slices.Equal(waits, []string{"server.listeners"}) || len(next.Server.Listeners) != 1 || next.Server.Listeners[0].ClientCertificates.CA != "" {
		t.Errorf("with another port: %q wait: %+v", waits, next.Server.Listeners)
	}
	next = with("a:2", "new")
	if waits := keepRunning(next, with("a:1", "old")); !slices.Equal(waits, []string{"server.listeners"}) || next.Server.Listeners[0].Listen != "a:1" {
		t.Errorf("%q wait: %+v", waits, next.Server.Listeners)
	}
}

// fieldOf is the field of a key such as server.listen.
func fieldOf(t *testing.T, c *config.Config, key string) reflect.Value {
	t.Helper()
	v := reflect.ValueOf(c).Elem()
	for name := range strings.SplitSeq(key, ".") {
		found := false
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("mapstructure") == name {
				v, found = v.Field(i), true
				break
			}
		}
		if !found {
			t.Fatalf("there is no key %s", key)
		}
	}
	return v
}

func change(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString("changed")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Slice:
		v.Set(reflect.ValueOf([]config.Listener{{Listen: "127.0.0.1:1"}}))
	default:
		t.Fatalf("a %s", v.Kind())
	}
}

// newStateRig is a reloader that has a generation and a log, and nothing to reload.
func newStateRig(t *testing.T) (*reloader, *observer.ObservedLogs) {
	t.Helper()
	opened, err := logging.New(config.Log{Level: "info", Format: "json", Output: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(opened.Flush)
	core, logs := observer.New(opened.Level)
	opened.Logger = zap.New(core)
	f := fleet.New(zap.NewNop())
	f.Current.Store(&fleet.Generation{Number: 3, LoadedAt: time.Unix(1000, 0), Waits: []string{"server.listen"}, Config: &config.Config{Log: config.Log{Level: "error"}}})
	return newReloader(t.Context(), reloaderConfig{
		file: "test.yaml", log: opened, fleet: f, files: new(filewatch.Watcher),
		tls: certs.NewHolder(true, zap.NewNop(), func(string) *zap.Logger { return nil }, time.Now),
	}), logs
}

// A reload is one line of the log, of bounded length, which is there also if the new level would hide it.
func TestReloadLine(t *testing.T) {
	r, logs := newStateRig(t)
	answer := &api.ReloadAnswer{Generation: 3}
	for i := range 200 {
		answer.Changes = append(answer.Changes, config.Change{Key: fmt.Sprintf("key_stores[%d]", i), Kind: config.Added})
	}
	r.note(reloadTry{by: "SIGHUP", began: time.Now()}, answer, nil)
	lines := logs.TakeAll()
	if len(lines) != 1 || lines[0].Level != zapcore.InfoLevel {
		t.Fatalf("%+v", lines)
	}
	changes, _ := lines[0].ContextMap()["changes"].([]any)
	if len(changes) != maxLoggedChanges+1 || changes[0] != "+ key_stores[0]" || changes[maxLoggedChanges] != "and 170 more" {
		t.Errorf("%q", changes)
	}
	if r.log.Level.Level() != zapcore.ErrorLevel {
		t.Errorf("the level is %s", r.log.Level.Level())
	}
	r.note(reloadTry{by: "SIGHUP", began: time.Now()}, nil, errors.New("test.yaml:1:2: wrong"))
	if got := r.State(); got.Attempts != 2 || got.Failures != 1 || got.LastError != "test.yaml:1:2: wrong" || got.LastBy != "SIGHUP" || got.Generation != 3 ||
		!got.LoadedAt.Equal(time.Unix(1000, 0)) || !slices.Equal(got.WaitsForRestart, []string{"server.listen"}) {
		t.Errorf("%+v", got)
	}
}

// One at a time: a second waits, gives up when its caller does, and none begins after the end.
func TestReloadTakesTurns(t *testing.T) {
	r, _ := newStateRig(t)
	_, release, err := r.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	impatient, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, _, err = r.take(impatient)
	if !errors.Is(err, fleet.ErrUnderWay) {
		t.Errorf("a second one: %v", err)
	}
	stopped := make(chan struct{})
	go func() {
		r.stop()
		close(stopped)
	}()
	select {
	case <-stopped:
		t.Error("it stopped while a reload was under way")
	case <-time.After(50 * time.Millisecond):
	}
	release()
	<-stopped
	_, _, err = r.take(t.Context())
	if !errors.Is(err, fleet.ErrStopped) {
		t.Errorf("after the end: %v", err)
	}
}

// newReadRig is a reloader of test.yaml as it is now.
func newReadRig(t *testing.T) *reloader {
	t.Helper()
	r, _ := newStateRig(t)
	c, _, err := config.Load("test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	secrets, _, err := config.ResolveSecrets(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	material, _, err := certs.Prepare(c)
	if err != nil {
		t.Fatal(err)
	}
	r.tls.Use(material)
	r.fleet.Current.Store(&fleet.Generation{Number: 1, Config: c, Secrets: secrets})
	return r
}

// A port that was taken away stays open until the restart; its CA bundle may go with it.
func TestReloadWithoutAListener(t *testing.T) {
	testkit.ConfigDir(t)
	text := testkit.ValidConfig(t)
	testkit.WriteFile(t, "ca.pem", testkit.PEM("CERTIFICATE", testkit.NewCA(t, "AWS").Raw), 0o644)
	with := testkit.ValidConfig(t, "server: {", "server: {listeners: [{listen: \"127.0.0.1:1\", client_certificates: {ca: ca.pem, subjects: [a]}}], ")
	testkit.WriteFile(t, "test.yaml", with, 0o644)
	r := newReadRig(t)
	testkit.WriteFile(t, "test.yaml", text, 0o644)
	testkit.WriteFile(t, "ca.pem", "", 0o644)
	reading, err := r.read(t.Context())
	if err != nil || !slices.Equal(reading.waits, []string{"server.listeners"}) {
		t.Fatalf("%v, %+v", err, reading)
	}
	r.tls.Use(reading.tls)
	if r.tls.Current.Load().Rules["127.0.0.1:1"] == nil {
		t.Error("the port asks for no client certificate any more")
	}
	testkit.WriteFile(t, "test.yaml", with, 0o644)
	_, err = r.read(t.Context())
	if err == nil || !strings.Contains(err.Error(), "ca.pem holds no certificate") {
		t.Errorf("a port that is wanted, with an empty bundle: %v", err)
	}
}

// The end of the program is not a fault of the configuration.
func TestReloadAtTheEnd(t *testing.T) {
	testkit.ConfigDir(t)
	testkit.WriteFile(t, "test.yaml", testkit.ValidConfig(t), 0o644)
	r := newReadRig(t)
	testkit.WriteFile(t, "test.yaml", testkit.ValidConfig(t, "{file: demo.key}", "{command: [sh, -c, 'touch begun; exec sleep 60']}"), 0o644)
	go func() {
		for range 1000 {
			if _, err := os.Stat("begun"); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		r.end()
	}()
	_, err := r.Reload(t.Context(), "a test", api.AcceptNothing)
	if err == nil || err.Error() != "the proxy is ending: nothing was reloaded" || r.State().Failures != 0 {
		t.Errorf("%v, %+v", err, r.State())
	}
}

package main

// What a reload keeps until a restart, what it says, what it counts.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/internal/filewatch"
	"xks-proxy/internal/peer"
	"xks-proxy/pkg/hsm"
)

// Every setting that takes a restart is kept as it runs, is named, and is marked by the difference of the two; every
// other comes through.
func TestKeepRunning(t *testing.T) {
	for _, s := range restartSettings {
		running, next := &config{}, &config{}
		field := fieldOf(t, next, s.key)
		change(t, field)
		wanted := reflect.ValueOf(*next)
		changes := diffConfigs(running, next, &secrets{}, &secrets{})
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
	running, next := &config{}, &config{Log: logConfig{Level: "error"}, Server: serverConfig{Budget: 1, DrainDelay: 2}}
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
	var walk func(s *setting, path string, restart bool)
	walk = func(s *setting, path string, restart bool) {
		for _, f := range s.Fields {
			at := joinPath(path, f.Name)
			switch {
			case f.Kind == section:
				walk(f, at, restart || f.Restart)
			case restart || f.Restart:
				marked++
				if !kept[at] && !kept[path] {
					t.Errorf("%s takes a restart, and a reload would change it", at)
				}
			}
		}
	}
	walk(schema, "", false)
	if marked < 10 {
		t.Errorf("only %d keys are marked", marked)
	}
}

// The rules about client certificates of a listener do not wait, its address does.
func TestKeepListeners(t *testing.T) {
	with := func(address, ca string) *config {
		return &config{Server: serverConfig{Listeners: []listenerConfig{{Listen: address, ClientCertificates: clientCertificatesConfig{CA: ca}}}}}
	}
	next := with("a:1", "new")
	if waits := keepRunning(next, with("a:1", "old")); len(waits) != 0 || next.Server.Listeners[0].ClientCertificates.CA != "new" {
		t.Errorf("%q wait: %+v", waits, next.Server.Listeners)
	}
	next = with("a:1", "")
	next.Server.Listeners = append(next.Server.Listeners, listenerConfig{Listen: "a:3"})
	if waits := keepRunning(next, with("a:1", "old")); !slices.Equal(waits, []string{"server.listeners"}) || len(next.Server.Listeners) != 1 || next.Server.Listeners[0].ClientCertificates.CA != "" {
		t.Errorf("with another port: %q wait: %+v", waits, next.Server.Listeners)
	}
	next = with("a:2", "new")
	if waits := keepRunning(next, with("a:1", "old")); !slices.Equal(waits, []string{"server.listeners"}) || next.Server.Listeners[0].Listen != "a:1" {
		t.Errorf("%q wait: %+v", waits, next.Server.Listeners)
	}
}

// fieldOf is the field of a key such as server.listen.
func fieldOf(t *testing.T, c *config, key string) reflect.Value {
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
		v.Set(reflect.ValueOf([]listenerConfig{{Listen: "127.0.0.1:1"}}))
	default:
		t.Fatalf("a %s", v.Kind())
	}
}

// newStateRig is a reloader that has a generation and a log, and nothing to reload.
func newStateRig(t *testing.T) (*reloader, *observer.ObservedLogs) {
	t.Helper()
	level := zap.NewAtomicLevel()
	core, logs := observer.New(level)
	f := newFleet(zap.NewNop())
	f.current.Store(&generation{number: 3, loadedAt: time.Unix(1000, 0), waits: []string{"server.listen"}, config: &config{Log: logConfig{Level: "error"}}})
	return newReloader(t.Context(), "test.yaml", testLog(t, core, level), f, newTLSHolder(true, zap.NewNop(), noStrangers), new(filewatch.Watcher)), logs
}

// A reload is one line of the log, of bounded length, which is there also if the new level would hide it.
func TestReloadLine(t *testing.T) {
	r, logs := newStateRig(t)
	answer := &reloadAnswer{Generation: 3}
	for i := range 200 {
		answer.Changes = append(answer.Changes, configChange{Key: fmt.Sprintf("key_stores[%d]", i), Kind: added})
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
	if r.log.level.Level() != zapcore.ErrorLevel {
		t.Errorf("the level is %s", r.log.level.Level())
	}
	r.note(reloadTry{by: "SIGHUP", began: time.Now()}, nil, errors.New("test.yaml:1:2: wrong"))
	if got := r.state(); got.Attempts != 2 || got.Failures != 1 || got.LastError != "test.yaml:1:2: wrong" || got.LastBy != "SIGHUP" || got.Generation != 3 {
		t.Errorf("%+v", got)
	}
}

func TestReloadMetrics(t *testing.T) {
	r, _ := newStateRig(t)
	r.note(reloadTry{by: "x", began: time.Now()}, &reloadAnswer{}, nil)
	r.note(reloadTry{by: "x", began: time.Now()}, nil, errors.New("wrong"))
	rig := newAdminRig(t)
	rig.admin.reloads = r
	text := scrape(t, newMetrics(newFakeSources(rig.admin.serviceConfig)))
	for _, want := range []string{
		"xks_proxy_config_generation 3", "xks_proxy_config_last_reload_success 0", "xks_proxy_config_last_load_timestamp_seconds 1000",
		`xks_proxy_config_reloads_total{result="failure"} 1`, `xks_proxy_config_reloads_total{result="success"} 1`, "xks_proxy_config_waits_for_restart 1",
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
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
	if !errors.Is(err, errUnderWay) {
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
	if !errors.Is(err, errStopped) {
		t.Errorf("after the end: %v", err)
	}
}

// newReadRig is a reloader of test.yaml as it is now.
func newReadRig(t *testing.T) *reloader {
	t.Helper()
	r, _ := newStateRig(t)
	c, _, err := loadConfig("test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	secrets, _, err := resolveSecrets(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	material, _, err := prepareTLS(c)
	if err != nil {
		t.Fatal(err)
	}
	r.tls.use(material)
	r.file = "test.yaml"
	r.fleet.current.Store(&generation{number: 1, config: c, secrets: secrets})
	return r
}

// A port that was taken away stays open until the restart; its CA bundle may go with it.
func TestReloadWithoutAListener(t *testing.T) {
	configDir(t)
	text := validConfig(t)
	writeFile(t, "ca.pem", string(encodePEM("CERTIFICATE", newCA(t, "AWS").Raw)), 0o644)
	with := validConfig(t, "server: {", "server: {listeners: [{listen: \"127.0.0.1:1\", client_certificates: {ca: ca.pem, subjects: [a]}}], ")
	writeFile(t, "test.yaml", with, 0o644)
	r := newReadRig(t)
	writeFile(t, "test.yaml", text, 0o644)
	writeFile(t, "ca.pem", "", 0o644)
	reading, err := r.read(t.Context())
	if err != nil || !slices.Equal(reading.waits, []string{"server.listeners"}) {
		t.Fatalf("%v, %+v", err, reading)
	}
	r.tls.use(reading.tls)
	if r.tls.current.Load().rules["127.0.0.1:1"] == nil {
		t.Error("the port asks for no client certificate any more")
	}
	writeFile(t, "test.yaml", with, 0o644)
	_, err = r.read(t.Context())
	if err == nil || !strings.Contains(err.Error(), "ca.pem holds no certificate") {
		t.Errorf("a port that is wanted, with an empty bundle: %v", err)
	}
}

// The end of the program is not a fault of the configuration.
func TestReloadAtTheEnd(t *testing.T) {
	configDir(t)
	writeFile(t, "test.yaml", validConfig(t), 0o644)
	r := newReadRig(t)
	writeFile(t, "test.yaml", validConfig(t, "{file: demo.key}", "{command: [sh, -c, 'touch begun; exec sleep 60']}"), 0o644)
	go func() {
		for range 1000 {
			if _, err := os.Stat("begun"); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		r.end()
	}()
	_, err := r.reload(t.Context(), "a test", acceptNothing)
	if err == nil || err.Error() != "the proxy is ending: nothing was reloaded" || r.state().Failures != 0 {
		t.Errorf("%v, %+v", err, r.state())
	}
}

// fakeReloads answers what a test wants.
type fakeReloads struct {
	answer *reloadAnswer
	err    error
	by     string
	accept acceptance
	now    reloadState
}

func (f *fakeReloads) reload(_ context.Context, by string, accept acceptance) (*reloadAnswer, error) {
	f.by, f.accept = by, accept
	return f.answer, f.err
}

func (f *fakeReloads) preview(context.Context) (*reloadAnswer, error) { return f.answer, f.err }

func (f *fakeReloads) state() reloadState { return f.now }

// The commands print what the proxy says.
func TestReloadCommands(t *testing.T) {
	rig := newAdminRig(t)
	fake := &fakeReloads{}
	rig.admin.reloads = fake
	handler := adminRoutes{rig.admin}.handler() // the rig's server has been made without
	server := httptest.NewUnstartedServer(handler)
	l, err := listenAdmin(t.Context(), adminConfig{Socket: rig.socket + "2"}, "", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	server.Listener = l
	server.Config.ConnContext = peer.Context(rig.names)
	server.Start()
	defer server.Close()
	run := func(args ...string) (string, string, int) {
		return execute(t, append(args, "--socket", rig.socket+"2")...)
	}
	fake.answer = &reloadAnswer{File: "/etc/x.yaml", Generation: 7, Took: hsm.Milliseconds(12 * time.Millisecond), WaitsForRestart: []string{"server.listen"}, Warnings: []string{"x.yaml:1:1: careful"},
		Changes: []configChange{{Key: "key_stores[finance]", Kind: added}, {Key: "hsms[a].sessions", Old: "32", New: "64", Kind: changed},
			{Key: "server.listen", Old: "a:1", New: "a:2", Restart: true, Kind: changed}, {Key: "key_stores[old]", Kind: removed}}}
	list := `  + key_stores[finance]
  ~ hsms[a].sessions: 32 -> 64
  ~ server.listen: a:1 -> a:2 (takes a restart)
  - key_stores[old]
A restart is needed for: server.listen
`
	stdout, stderr, code := run("reload")
	if want := "/etc/x.yaml is in use, as generation 7, after 12ms.\n" + list; stdout != want || stderr != "warning: x.yaml:1:1: careful\n" || code != 0 {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	if !strings.HasSuffix(fake.by, " over the admin socket") {
		t.Errorf("by %q", fake.by)
	}
	stdout, stderr, code = run("config", "diff", "/etc/y.yaml")
	if stdout != list || code != 0 || !strings.HasPrefix(stderr, "note: the running proxy reads /etc/x.yaml, not /etc/y.yaml;") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	fake.answer.Loosens = []loosening{{Key: "key_stores[payroll].policy.files", What: `the forbid "not-mallory" (payroll.cedar:9) is gone`}}
	fake.answer.Digest, fake.answer.Confirm = "a197f1acc340053b", true
	const loosens = `
Loosens (this may let in what was refused before):
  ! key_stores[payroll].policy.files: the forbid "not-mallory" (payroll.cedar:9) is gone
`
	stdout, _, code = run("reload", "--accept-loosening")
	if !strings.HasSuffix(stdout, list+loosens) || code != 0 || fake.accept != acceptAny {
		t.Errorf("%d\n%s, accepts %q", code, stdout, fake.accept)
	}
	_, _, code = run("reload", "--accept-loosening=a197f1acc340053b")
	if code != 0 || fake.accept != "a197f1acc340053b" {
		t.Errorf("%d, accepts %q", code, fake.accept)
	}
	_, stderr, code = run("reload", "--accept-loosening", "a197f1acc340053b")
	if code != exitUsage || !strings.Contains(stderr, "--accept-loosening=DIGEST") {
		t.Errorf("%d %s", code, stderr)
	}
	_, _, _ = run("reload")
	if fake.accept != acceptNothing {
		t.Errorf("accepts %q", fake.accept)
	}
	fake.answer.Generation = 0 // of a preview
	stdout, _, code = run("config", "diff", "/etc/x.yaml")
	const confirm = `
reload.loosening is confirm: a reload refuses this until you accept it:
  xks-proxy reload --accept-loosening=a197f1acc340053b
`
	if stdout != list+loosens+confirm || code != exitFailed {
		t.Errorf("%d\n%s", code, stdout)
	}
	fake.answer = &reloadAnswer{File: "/etc/x.yaml"}
	stdout, _, code = run("config", "diff", "/etc/x.yaml")
	if stdout != "A reload would change nothing.\n" || code != 0 {
		t.Errorf("%d %s", code, stdout)
	}
	fake.answer, fake.err = nil, errors.New("/etc/x.yaml:3:1: wrong")
	for _, command := range [][]string{{"reload"}, {"config", "diff"}, {"reload", "--json"}} {
		stdout, stderr, code = run(command...)
		if stdout != "" || stderr != "xks-proxy: /etc/x.yaml:3:1: wrong\n" || code != exitFailed {
			t.Errorf("%d %s%s", code, stdout, stderr)
		}
	}
	for want, err := range map[int]error{http.StatusConflict: errNotStarted, http.StatusUnprocessableEntity: errors.New("wrong")} {
		fake.err = err
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, adminReloadPath, nil))
		if w.Code != want {
			t.Errorf("%v: %d, want %d", err, w.Code, want)
		}
	}
}

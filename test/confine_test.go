package test

// A hostile library of one HSM against the proxy (test/hostile): what it tries, and that it gets
// nothing of what is the proxy's own.

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"xks-proxy/test/hostile"
)

// attacker is a proxy whose hsm-a has the hostile library.
type attacker struct {
	*proxy
	dir string // of the library
}

// attacked starts a proxy of which hsm-a is hostile. orders are attacks, "PHASE VERB TARGET" each.
func attacked(t *testing.T, w *world, confine object, orders []string, edit func(*settings)) *attacker {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "hostile-") // of one file system with the world
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	library, err := hostile.Build(context.Background(), module, dir)
	if err != nil {
		t.Fatal(err)
	}
	// What an earlier process of the library may have left: links where its settings name files.
	lures := map[string]string{"LURE_STATE": w.file("state"), "LURE_KEY": w.file("server.key"), "LURE_B": w.B.Conf}
	variables := []string{hostile.DirectoryVariable + "=" + dir}
	for name, target := range lures {
		err = os.Symlink(target, filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		variables = append(variables, name+"="+filepath.Join(dir, name))
	}
	writeFile(t, filepath.Join(dir, "orders"), strings.Join(orders, "\n")+"\n")
	p := w.start(t, func(s *settings) {
		s.HSMs[0]["module"] = library
		s.HSMs[0]["confine"] = confine
		s.HSMs[0]["environment"] = append(s.HSMs[0]["environment"].([]string), variables...)
		s.Admin["socket"] = w.file("admin.sock")
		s.Log["output"] = "stderr"
		edit(s)
	})
	return &attacker{p, dir}
}

// report waits for the end of a phase and for as many lines of it as there are orders.
func (a *attacker) report(t *testing.T, phase string, orders []string) map[string]string {
	t.Helper()
	outcomes := map[string]string{}
	eventually(t, 20*time.Second, func() error {
		text, err := os.ReadFile(filepath.Join(a.dir, "report"))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			attack, outcome, _ := strings.Cut(strings.TrimSpace(line), " = ")
			outcomes[attack] = outcome
		}
		for _, order := range append(orders, phase+" end -") {
			if _, there := outcomes[order]; !there && strings.HasPrefix(order, phase+" ") {
				return fmt.Errorf("nothing was reported of %q:\n%s", order, text)
			}
		}
		return nil
	})
	return outcomes
}

// secretFiles are the proxy's own.
func secretFiles(w *world, p string) []string {
	return []string{
		w.B.pinFile(), w.A.pinFile(), w.file("server.key"), w.file(w.Main.AccessKeyID), p,
		w.file("state/blocks.json"), w.file("key_stores.d/tenant.yaml"), w.file("deny.cedar"),
	}
}

// attacksOn are all attacks of a phase that do no harm where they succeed.
func attacksOn(w *world, phase, config string) []string {
	var orders []string
	add := func(verb string, targets ...string) {
		for _, target := range targets {
			orders = append(orders, phase+" "+verb+" "+target)
		}
	}
	add("read", secretFiles(w, config)...)
	add("read", w.B.Conf, w.file("log-of-the-proxy"))
	for _, file := range []string{"environ", "mem", "maps", "root" + w.file("server.key"), "cwd/server.key", "fd/3"} {
		add("read", "/proc/PARENT/"+file)
	}
	add("list", w.Dir, w.file("state"), filepath.Dir(w.B.Conf))
	add("write", w.file("server.key"), config, w.file("state/blocks.json"))
	add("create", w.Dir, w.file("state"), w.file("key_stores.d"))
	add("symlink", w.file("server.key"), w.B.pinFile())
	add("link", w.file("server.key"), w.file("state/blocks.json"))
	add("move", w.file("server.key"))
	add("mount", w.Dir)
	add("peek", "PARENT")
	add("trace", "PARENT")
	add("gain-privileges", "-")
	add("limit", "PARENT")
	add("handle", w.file("server.key"))
	add("write", "/sys/fs/cgroup/unified/cgroup.procs", w.B.Conf, "/proc/sys/kernel/core_pattern")
	return orders
}

// prepareOwn makes the files that a world does not have.
func prepareOwn(t *testing.T, w *world) {
	t.Helper()
	err := os.Mkdir(w.file("key_stores.d"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	own := w.newCredential(t).AccessKeyID
	writeFile(t, w.file("key_stores.d/tenant.yaml"), "hsm_group: main\npath_prefix: /tenant\n"+
		"credentials: [{access_key_id: "+own+", secret_access_key: {file: "+w.file(own)+"}}]\n"+
		"keys: {labels: [\"tenant-*\"]}\n")
	writeFile(t, w.file("deny.cedar"), "permit (principal, action, resource);\n")
	writeFile(t, w.file("log-of-the-proxy"), "")
	writeFile(t, w.file("main.yaml"), "{}")
}

// refused are the outcomes of an attack that has failed, by verb; others end with an error of files.
var refused = map[string][]string{
	"default":          {"Permission denied", "Operation not permitted"},
	"link":             {"Permission denied", "Operation not permitted", "Invalid cross-device link"},
	"move":             {"Permission denied", "Operation not permitted", "Invalid cross-device link"},
	"unblock":          {"HTTP/1.1 403 Forbidden"},
	"unblock-orphaned": {"HTTP/1.1 403 Forbidden"},
	"unblock-gone":     {"HTTP/1.1 403 Forbidden"},
}

func wasRefused(attack, outcome string) bool {
	verb := strings.Fields(attack)[1]
	want, special := refused[verb]
	if !special {
		want = refused["default"]
	}
	return slices.Contains(want, outcome)
}

// TestHostileLibrary: a library of one HSM reads nothing of the proxy's own, of the other HSM's and
// of tenants', takes no block back, and harms neither the proxy nor the other HSM's process.
func TestHostileLibrary(t *testing.T) {
	t.Parallel()
	w := blockWorld(t)
	prepareOwn(t, w)
	before := w.start(t, nil)
	before.says(t, 0, "The key store regional is blocked", "block", "key-store", "regional")
	before.stop(t)
	listener, err := net.Listen("unix", "@hostile-"+filepath.Base(w.Dir))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var orders []string
	for _, phase := range []string{"initialize", "encrypt"} {
		orders = append(orders, attacksOn(w, phase, w.file("main.yaml"))...)
		for _, verb := range []string{"unblock", "unblock-orphaned", "unblock-gone"} {
			orders = append(orders, phase+" "+verb+" "+w.file("admin.sock"))
		}
		orders = append(orders,
			phase+" truncate "+w.file("server.key"),
			phase+" remove "+w.file("server.key"),
			phase+" abstract hostile-"+filepath.Base(w.Dir),
			phase+" kill PARENT",
			phase+" kill 1")
	}
	orders = append(orders, "encrypt peek-sibling -", "encrypt kill-sibling -")
	for _, mode := range []string{"default", "strict"} {
		t.Run(mode, func(t *testing.T) {
			var p *attacker
			confine := object{"mode": mode, "required": true}
			p = attacked(t, w, confine, orders, func(s *settings) {
				s.KeyStores[0]["policy"] = object{"files": []string{w.file("deny.cedar")}}
			})
			p.waitActive(t, "hsm-a", "hsm-b")
			other := p.worker(t, "hsm-b")
			// By these the next proxy knows what is left of this one (see internal/admin/socket/descent.go).
			if of, own := seccompFilters(t, p.worker(t, "hsm-a")), seccompFilters(t, p.PID); of <= own {
				t.Errorf("the process of hsm-a has %d seccomp filters, the proxy %d", of, own)
			}
			outcomes := p.report(t, "initialize", orders)
			for attack, outcome := range p.report(t, "encrypt", orders) {
				outcomes[attack] = outcome
			}
			for _, order := range orders {
				if !wasRefused(order, outcomes[order]) {
					t.Errorf("%s: %s", order, outcomes[order])
				}
			}
			c := p.client(t, http1)
			c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
			if list := p.says(t, 0, "", "block", "list"); !strings.Contains(list, "key store regional") {
				t.Errorf("the block is gone: %s", list)
			}
			if now := p.worker(t, "hsm-b"); now != other {
				t.Errorf("the process of hsm-b was %d and is %d", other, now)
			}
			if got := p.metric(t, `xks_proxy_hsm_confined{hsm="hsm-a"}`); got != "1" {
				t.Errorf("xks_proxy_hsm_confined is %q", got)
			}
			if got := p.metric(t, "xks_proxy_admin_refused_total"); got < "4" || len(got) > 1 {
				t.Errorf("xks_proxy_admin_refused_total is %q", got)
			}
			p.log.wait(t, 5*time.Second, p.Exited(), func(line string) bool {
				return strings.Contains(line, "refused at the admin socket") && strings.Contains(line, `"level":"error"`)
			})
			status := strings.Join(strings.Fields(p.says(t, 4, "", "status")), " ")
			for _, want := range []string{"the library of an HSM may be hostile", "Confinement", "confined, Landlock ABI"} {
				if !strings.Contains(status, want) {
					t.Errorf("status does not say %q:\n%s", want, status)
				}
			}
			t.Logf("%d attacks were refused", len(orders))
		})
	}
}

func seccompFilters(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "Seccomp_filters:")
	line, _, _ := strings.Cut(after, "\n")
	number, err := strconv.Atoi(strings.TrimSpace(line))
	if !found || err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return number
}

// TestHostileLibraryUnconfined: the module of these tests can do what it tries. Switched off, the
// confinement keeps it from nothing, and its orders are refused nevertheless, because it descends
// from the proxy.
func TestHostileLibraryUnconfined(t *testing.T) {
	t.Parallel()
	w := blockWorld(t)
	prepareOwn(t, w)
	writeFile(t, w.file("victim"), "")
	var files, orders []string
	for _, file := range secretFiles(w, w.file("main.yaml")) {
		if _, err := os.Stat(file); err == nil {
			files = append(files, "initialize read "+file)
		}
	}
	files = append(files, "initialize list "+w.Dir, "initialize write "+w.file("server.key"),
		"initialize symlink "+w.file("server.key"), "initialize link "+w.file("server.key"), "initialize move "+w.file("server.key"),
		"initialize truncate "+w.file("victim"), "initialize remove "+w.file("victim"),
		"initialize gain-privileges -")
	for _, verb := range []string{"unblock", "unblock-orphaned", "unblock-gone"} {
		orders = append(orders, "initialize "+verb+" "+w.file("admin.sock"))
	}
	p := attacked(t, w, object{"mode": "off"}, append(files, orders...), func(*settings) {})
	outcomes := p.report(t, "initialize", append(files, orders...))
	for _, order := range files {
		if outcomes[order] != "done" {
			t.Errorf("%s: %s: the module cannot even do this unconfined", order, outcomes[order])
		}
	}
	for _, order := range orders {
		if !wasRefused(order, outcomes[order]) {
			t.Errorf("%s: %s", order, outcomes[order])
		}
	}
	p.client(t, http1).encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	if got := p.metric(t, `xks_proxy_hsm_confined{hsm="hsm-a"}`); got != "0" {
		t.Errorf("xks_proxy_hsm_confined is %q", got)
	}
	if status := p.says(t, 4, "", "status"); !strings.Contains(status, "hsm-a: not confined (confine.mode: off)") {
		t.Errorf("status does not say that hsm-a is not confined:\n%s", status)
	}
}

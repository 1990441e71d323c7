package test

// The version of the program: every place that reports it reports the one that the build was given.

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestVersionEverywhere(t *testing.T) {
	t.Parallel()
	const want = "v9.8.7"
	dir := t.TempDir()
	stamped := filepath.Join(dir, "xks-proxy")
	build := exec.Command("make", "-s", "-C", "..", "build", "BIN="+stamped, "VERSION="+want)
	said, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("make build: %v\n%s", err, said)
	}
	run := func(arguments ...string) string {
		t.Helper()
		said, err := exec.Command(stamped, arguments...).Output()
		if err != nil {
			t.Fatalf("%v: %v\n%s", arguments, err, said)
		}
		return string(said)
	}
	versionIn := func(name, body string) {
		t.Helper()
		var answer struct{ Version string }
		err := json.Unmarshal([]byte(body), &answer)
		if err != nil || answer.Version != want {
			t.Errorf("%s reports version %q, %v: %.300s", name, answer.Version, err, body)
		}
	}
	contains := func(name, body, part string) {
		t.Helper()
		if !strings.Contains(body, part) {
			t.Errorf("%s lacks %q: %.300s", name, part, body)
		}
	}
	contains("--version", run("--version"), "xks-proxy "+want+"\n")
	contains("version", run("version"), "xks-proxy   "+want+"\n")
	versionIn("version --json", run("version", "--json"))
	run("man", dir)
	contains("the manual page", readText(t, filepath.Join(dir, "xks-proxy.8")), `"xks-proxy `+want+`"`)

	w := newTestWorld(t)
	file := filepath.Join(w.Dir, "stamped.yaml")
	s := w.settings()
	s.Admin["socket"] = file + ".sock"
	writeFile(t, file, s.text(t))
	p, err := launchCommand(w, file, stamped, "serve", "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(t) })
	p.waitServing(t)
	versionIn("the line about starting", p.log.find(func(line string) bool {
		return strings.Contains(line, `"msg":"starting"`)
	}))
	versionIn("the line about serving", p.log.find(isServing))
	var health struct {
		Model string `json:"xksProxyModel"`
	}
	c := p.client(t, http1)
	c.post(t, healthURI, healthBody()).wantOK(t, &health)
	if health.Model != "xks-proxy "+want {
		t.Errorf("xksProxyModel %q", health.Model)
	}
	status, metrics := p.get(t, c, "http://"+p.Health+"/metrics")
	if status != http.StatusOK {
		t.Errorf("/metrics: %d", status)
	}
	contains("build_info", metrics, `xks_proxy_build_info{version="`+want+`"} 1`)
	contains("status", run("status", "--config", file), want)
	versionIn("status --json", run("status", "--json", "--config", file))
}

func TestVersionOfOddCharacters(t *testing.T) {
	build := exec.Command("make", "-s", "-C", "..", "build", "BIN="+filepath.Join(t.TempDir(), "xks-proxy"),
		"VERSION=v1 -X main.x=y")
	said, err := build.CombinedOutput()
	if err == nil || !strings.Contains(string(said), "VERSION: use letters, digits") {
		t.Errorf("%v: %s", err, said)
	}
}

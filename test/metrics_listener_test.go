package test

// The listener of the metrics: TLS, passwords and client certificates, as monitoring sees them.

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// webConfig writes the file of metrics.web_config beside the certificates of the world.
func (w *world) webConfig(t testing.TB, password, more string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	path := w.file("metrics-web.yaml")
	replaceFile(t, path, fmt.Sprintf(`basic_auth_users: {prometheus: %s}
rate_limit: {burst: 1000, interval: 1ms}
tls_server_config:
  cert_file: server.crt
  key_file: server.key
%s`, hash, more))
	return path
}

// guarded has the metrics on a listener of their own.
func (w *world) guarded(t testing.TB) func(*settings) {
	path := w.webConfig(t, "first", "")
	return func(s *settings) {
		s.Metrics = object{"listen": "127.0.0.4:0", "web_config": path}
	}
}

// scraper asks for /metrics as a monitoring system does.
type scraper struct {
	proxy    *proxy
	user     string
	password string
	shows    *tls.Certificate
}

// get is for a path of the listener, on a connection of its own.
func (s scraper) get(t testing.TB, url string) (int, string, error) {
	t.Helper()
	config := http1.tlsConfig(s.proxy)
	if s.shows != nil {
		config.Certificates = []tls.Certificate{*s.shows}
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	client := &http.Client{Timeout: clientLimit, Transport: transport}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.user != "" {
		request.SetBasicAuth(s.user, s.password)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// want is for the status of /metrics; 0: there is no answer.
func (s scraper) want(t testing.TB, status int) string {
	t.Helper()
	got, body, err := s.get(t, "https://"+s.proxy.Metrics+"/metrics")
	if got != status || status != 0 && err != nil {
		t.Errorf("%s with %q: %d, %v, want %d", s.user, s.password, got, err, status)
	}
	if status != http.StatusOK && strings.Contains(body, "xks_proxy_") {
		t.Errorf("metrics in an answer of %d", got)
	}
	return body
}

func TestMetricsWithPassword(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	p := w.start(t, w.guarded(t))
	good := scraper{proxy: p, user: "prometheus", password: "first"}
	body := good.want(t, http.StatusOK)
	for _, name := range []string{
		"xks_proxy_build_info", `xks_proxy_other_connections_closed_total{listener="metrics"} 0`,
	} {
		if !strings.Contains(body, "\n"+name) {
			t.Errorf("%s is missing", name)
		}
	}
	scraper{proxy: p}.want(t, http.StatusUnauthorized)
	scraper{proxy: p, user: "prometheus", password: "second"}.want(t, http.StatusUnauthorized)
	scraper{proxy: p, user: "nobody", password: "first"}.want(t, http.StatusUnauthorized)
	status, _, err := good.get(t, "https://"+p.Metrics+"/healthz/live")
	if status != http.StatusNotFound {
		t.Errorf("another path: %d, %v", status, err)
	}
	status, body, err = good.get(t, "http://"+p.Metrics+"/metrics")
	if status == http.StatusOK || strings.Contains(body, "xks_proxy_") {
		t.Errorf("plain HTTP: %d, %v", status, err)
	}
	status, _, err = scraper{proxy: p}.get(t, "http://"+p.Health+"/metrics")
	if status != http.StatusNotFound {
		t.Errorf("the health port serves the metrics beside: %d, %v", status, err)
	}
	if status := p.ready(t); status != http.StatusOK {
		t.Errorf("a health check: %d", status)
	}
}

// The file is in use as soon as it has changed; one that cannot be read serves nobody, and is said.
func TestMetricsPasswordChanges(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	p := w.start(t, func(s *settings) {
		byHand(s)
		w.guarded(t)(s)
	})
	first := scraper{proxy: p, user: "prometheus", password: "first"}
	second := scraper{proxy: p, user: "prometheus", password: "second"}
	first.want(t, http.StatusOK)
	w.webConfig(t, "second", "")
	second.want(t, http.StatusOK)
	first.want(t, http.StatusUnauthorized)

	replaceFile(t, w.file("metrics-web.yaml"), "basic_auth_users: [\n")
	second.want(t, 0)
	p.reloadFails(t, "metrics-web.yaml:1: ", "did not find expected node content")
	replaceFile(t, w.file("metrics-web.yaml"), "") // cut short
	second.want(t, 0)
	scraper{proxy: p}.want(t, 0)
	p.reloadFails(t, "metrics-web.yaml: tls_server_config is missing")
	if status := p.ready(t); status != http.StatusOK {
		t.Errorf("a health check meanwhile: %d", status)
	}
	w.webConfig(t, "first", "")
	first.want(t, http.StatusOK)
	p.reload(t)
}

func TestMetricsWithClientCertificate(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	p := w.start(t, w.guarded(t))
	ca, other := newTestCA(t, "monitoring"), newTestCA(t, "somebody else's")
	writeFile(t, w.file("monitoring.crt"), ca.pem())
	w.webConfig(t, "first", "  client_auth_type: RequireAndVerifyClientCert\n"+
		"  client_ca_file: monitoring.crt\n")
	shows := func(ca testCA) *tls.Certificate {
		files := ca.client(t, filepath.Join(t.TempDir(), "client"), "prometheus")
		pair, err := tls.LoadX509KeyPair(files["certificate"].(string), files["key"].(string))
		if err != nil {
			t.Fatal(err)
		}
		return &pair
	}
	good := scraper{proxy: p, user: "prometheus", password: "first", shows: shows(ca)}
	good.want(t, http.StatusOK)
	scraper{proxy: p, shows: shows(ca)}.want(t, http.StatusUnauthorized)
	scraper{proxy: p, user: "prometheus", password: "first"}.want(t, 0)
	scraper{proxy: p, user: "prometheus", password: "first", shows: shows(other)}.want(t, 0)
}

// Idle connections, before the handshake and after it, keep monitoring out as little as they do
// load balancers.
func TestMetricsIdleConnections(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	p := w.start(t, w.guarded(t))
	for i := range 100 {
		conn, err := net.DialTimeout("tcp", p.Metrics, rawLimit)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%2 == 0 {
			err := conn.SetDeadline(time.Now().Add(rawLimit))
			if err != nil {
				t.Fatal(err)
			}
			err = tls.Client(conn, http1.tlsConfig(p)).Handshake()
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	body := scraper{proxy: p, user: "prometheus", password: "first"}.want(t, http.StatusOK)
	const closed = `xks_proxy_other_connections_closed_total{listener="metrics"} `
	_, after, _ := strings.Cut(body, closed)
	count, _, _ := strings.Cut(after, "\n")
	if count == "" || count == "0" {
		t.Errorf("%s%q", closed, count)
	}
}

// A wrong file is found by config check and ends the start, with its place.
func TestMetricsWrongWebConfig(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	path := w.webConfig(t, "first", "  key_flie: server.key\n")
	s := w.settings()
	s.Metrics = object{"listen": "127.0.0.4:0", "web_config": path}
	file := w.file("wrong.yaml")
	writeFile(t, file, s.text(t))
	want := path + `:6: unknown key "key_flie"`
	for _, arguments := range [][]string{{"config", "check", file}, {"serve", "--config", file}} {
		_, stderr, code := command(t, arguments...)
		if code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d: %s\nwant %s", arguments[0], code, stderr, want)
		}
	}
}

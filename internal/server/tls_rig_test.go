package server

// Certificates, ports and clients for the tests of TLS: the program's own listeners and HTTP
// server on loopback, with a CA that signs whatever a test wants.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/internal/certs"
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/logging"
	"xks-proxy/internal/testkit"
	"xks-proxy/pkg/xks"
)

// The addresses of a rig as its configuration has them.
const (
	plainPort  = "127.0.0.1:0"
	mutualPort = "127.0.0.2:0"
)

const kmsSubject = "cks.kms.eu-central-1.amazonaws.com"

// tlsRig is the HTTPS side of the program.
type tlsRig struct {
	t          *testing.T
	dir        string
	serverRoot *testkit.Issued // signed the intermediate
	serverCA   *testkit.Issued // signs servers
	clientCA   *testkit.Issued
	config     *config.Config
	holder     *certs.Holder
	log        *observer.ObservedLogs
	servers    *servers
	served     atomic.Int64 // HTTP requests
	ahead      atomic.Int64 // of the holder's clock before the real one, nanoseconds
}

// newTLSRig has a default certificate for xks.example.com and a second port on which only
// kmsSubject may connect. Nothing is served before start.
func newTLSRig(t *testing.T) *tlsRig {
	t.Helper()
	r := &tlsRig{t: t, dir: t.TempDir(), serverRoot: testkit.NewCA(t, "server root"), clientCA: testkit.NewCA(t, "client CA")}
	r.serverCA = testkit.Issue(t, r.serverRoot, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "server CA"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign})
	standard := r.pair("server", r.serverCA.ForServer(t, nil, "xks.example.com"))
	r.bundle("clients.pem", r.clientCA)
	r.config = &config.Config{
		Source: &schema.Source{File: "xks-proxy.yaml", Dir: r.dir, Origins: map[string]schema.Origin{}},
		Server: config.Server{
			Listen: plainPort, TLS: config.TLS{Certificate: standard.Certificate, Key: standard.Key}, HTTP2: true, MaxConnections: 1000,
			IdleTimeout: time.Minute, TCPKeepAlive: time.Minute, ReadHeaderTimeout: time.Minute, ReadTimeout: time.Minute, DrainTimeout: time.Minute,
			Listeners: []config.Listener{{Listen: mutualPort, ClientCertificates: config.ClientCertificates{
				CA: filepath.Join(r.dir, "clients.pem"), Subjects: []string{"cks.kms.us-east-1.amazonaws.com", kmsSubject}, Usages: []string{"clientAuth"},
			}}},
		},
	}
	return r
}

// pair writes a certificate and its key.
func (r *tlsRig) pair(name string, c *testkit.Issued) config.CertificateFiles {
	r.t.Helper()
	files := config.CertificateFiles{Certificate: filepath.Join(r.dir, name+".crt"), Key: filepath.Join(r.dir, name+".key")}
	testkit.WriteFile(r.t, files.Certificate, c.PEM(), 0o644)
	testkit.WriteFile(r.t, files.Key, c.KeyPEM(r.t), 0o600)
	return files
}

func (r *tlsRig) bundle(name string, cas ...*testkit.Issued) {
	r.t.Helper()
	text := ""
	for _, ca := range cas {
		text += testkit.PEM("CERTIFICATE", ca.Raw)
	}
	testkit.WriteFile(r.t, filepath.Join(r.dir, name), text, 0o644)
}

// prepare wants a good configuration.
func (r *tlsRig) prepare() *certs.Material {
	r.t.Helper()
	m, _, err := certs.Prepare(r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// Reload puts the configuration as it is now into effect.
func (r *tlsRig) Reload() {
	r.t.Helper()
	r.holder.Use(r.prepare())
}

// start serves. Requests to the health paths are answered, as the program does.
func (r *tlsRig) start() *tlsRig {
	t := r.t
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	r.log = logs
	log := zap.New(core)
	r.holder = certs.NewHolder(
		r.config.Server.HTTP2, log, func(string) *zap.Logger { return log },
		func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) },
	)
	r.Reload()
	l, err := listen(context.Background(), r.config, log)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := logging.New(config.Log{
		Level: "info", Format: "json", Output: filepath.Join(t.TempDir(), "log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(opened.Flush)
	p := &parts{config: r.config, log: log, opened: opened, fleet: fleet.New(log), tls: r.holder, served: new(atomic.Pointer[xks.Handler])}
	p.fleet.Current.Store(&fleet.Generation{Config: r.config})
	r.servers = newServers(p, l)
	api := r.servers.newAPI()
	handler := api.Handler
	api.Handler = http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.served.Add(1)
		handler.ServeHTTP(w, request)
	})
	r.servers.serveAPI(api)
	t.Cleanup(func() {
		err := r.servers.drain(api)
		if err != nil {
			t.Error(err)
		}
		for range l.ports {
			if err := <-r.servers.broken; !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("a port ended with %v", err)
			}
		}
		l.close()
	})
	return r
}

// address is where a port really listens.
func (r *tlsRig) address(port string) string {
	for _, p := range r.servers.listeners.ports {
		if p.address == port {
			return p.Addr().String()
		}
	}
	r.t.Fatalf("no port %s", port)
	return ""
}

// clientTLS trusts the rig's servers.
func (r *tlsRig) clientTLS(version uint16) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(r.serverRoot.Certificate)
	return &tls.Config{RootCAs: roots, ServerName: "xks.example.com", MinVersion: version, MaxVersion: version}
}

// presents has a client send c, whatever CAs the server names.
func presents(config *tls.Config, c *testkit.Issued) *tls.Config {
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		chain := c.ForTLS()
		return &chain, nil
	}
	return config
}

// get asks for the health path over a new connection, and says how its handshake was.
func (r *tlsRig) get(port string, config *tls.Config) (tls.ConnectionState, error) {
	client, done := r.client(port, config)
	defer done()
	return getLive(client)
}

// client keeps its connection until done.
func (r *tlsRig) client(port string, config *tls.Config) (*http.Client, func()) {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	transport := &http.Transport{TLSClientConfig: config, Protocols: &protocols, DialContext: dialTo(r.address(port))}
	return &http.Client{Transport: transport, Timeout: time.Minute}, transport.CloseIdleConnections
}

func getLive(client *http.Client) (tls.ConnectionState, error) {
	response, err := client.Get("https://xks.example.com" + livePath)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	if err != nil {
		return tls.ConnectionState{}, err
	}
	return *response.TLS, nil
}

// refused is how many client certificates were, for a reason.
func (r *tlsRig) refused(reason certs.RefusalReason) int64 {
	return r.holder.Handshakes.Refusals.ByReason[reason].All.Load()
}

// versions are the two that requirement U8 asks for.
var versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

// dialTo connects to one address, whatever the URL says.
func dialTo(address string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
}

// noStrangers has all lines of strangers counted only.
func noStrangers(string) *zap.Logger { return nil }

package main

// What is measured: the program on a pair of demo tokens with two key stores, and a bare HTTPS
// server.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"xks-proxy/pkg/sigv4"
	"xks-proxy/test/harness"
)

// world is everything that runs.
type world struct {
	directory    string
	machine      *harness.Machine
	program      *harness.Program // nil until it serves
	noisy, quiet *server          // one proxy, two key stores
	bare         *server
	listener     net.Listener
}

// server is where requests go, with a request that is good there.
type server struct {
	address string
	roots   *x509.CertPool
	request []byte
}

const quietPrefix = "/quiet"

func newWorld(o *options) (*world, error) {
	directory, err := os.MkdirTemp(harness.FastDirectory(), "xks-noisy-")
	if err != nil {
		return nil, err
	}
	w := &world{directory: directory, machine: harness.WatchMachine(time.Second)}
	err = w.start(o)
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// start prepares tokens, adds a key store for the quiet one, and serves.
func (w *world) start(o *options) error {
	d, err := harness.Prepare(context.Background(), o.proxy, filepath.Join(w.directory, "demo"), 2)
	if err != nil {
		return err
	}
	quiet, err := addQuietStore(d)
	if err != nil {
		return err
	}
	request := func(c *harness.Client) *server {
		return &server{
			address: d.Address(), roots: d.Roots,
			request: c.Request(harness.EncryptPath(d.Keys[0]), harness.DataKeyBody(false)),
		}
	}
	w.noisy = request(d.Client(d.Address()))
	w.quiet = request(harness.NewClient(d.Address(), quietPrefix+"/kms/xks/v1", d.Region, quiet))
	err = w.startBare(d)
	if err != nil {
		return err
	}
	return w.serve(o, d.File("xks-proxy.yaml"))
}

// addQuietStore gives the demo a second key store, with a credential of its own.
func addQuietStore(d *harness.Demo) (sigv4.Credential, error) {
	made, err := sigv4.GenerateCredential()
	if err != nil {
		return sigv4.Credential{}, err
	}
	err = os.WriteFile(d.File("quiet.secret"), []byte(made.SecretAccessKey+"\n"), 0o600)
	if err != nil {
		return sigv4.Credential{}, err
	}
	file, err := os.OpenFile(d.File("xks-proxy.yaml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return sigv4.Credential{}, err
	}
	defer file.Close()
	_, err = fmt.Fprintf(file, `
  - name: quiet
    path_prefix: %s
    hsm_group: main
    credentials:
      - access_key_id: %s
        secret_access_key: {file: quiet.secret}
`, quietPrefix, made.AccessKeyID)
	return made, err
}

func (w *world) serve(o *options, config string) error {
	var err error
	w.program, err = harness.Serve(o.proxy, config, []string{
		"XKS_LOG_OUTPUT=stderr", "XKS_HEALTH_LISTEN=",
		fmt.Sprintf("XKS_KEY_STORES_0_QUOTA_REQUESTS_PER_SECOND=%d", o.quota),
	}, func([]byte) {})
	return err
}

// startBare serves HTTPS in this process that answers everything with a body of an Encrypt's size.
func (w *world) startBare(d *harness.Demo) error {
	certificate, err := tls.LoadX509KeyPair(d.File("server.crt"), d.File("server.key"))
	if err != nil {
		return err
	}
	w.listener, err = tls.Listen(
		"tcp", "127.0.0.1:0",
		&tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
	)
	if err != nil {
		return err
	}
	answer := []byte(strings.Repeat("x", 250))
	go func() {
		_ = http.Serve(
			w.listener,
			http.HandlerFunc(
				func(rw http.ResponseWriter, r *http.Request) { // it ends with the listener
					_, _ = io.Copy(io.Discard, r.Body) // the client will notice
					_, _ = rw.Write(answer)
				},
			),
		)
	}()
	w.bare = &server{address: w.listener.Addr().String(), roots: d.Roots, request: w.noisy.request}
	return nil
}

func (w *world) close() {
	if w.program != nil {
		w.program.Stop()
	}
	if w.listener != nil {
		_ = w.listener.Close() // nobody is left
	}
	_ = os.RemoveAll(w.directory) // a temporary directory
}

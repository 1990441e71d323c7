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
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"xks-proxy/pkg/sigv4"
	"xks-proxy/test/demo"
)

// world is everything that runs.
type world struct {
	directory    string
	machine      *demo.Machine
	command      *exec.Cmd
	noisy, quiet *server // one proxy, two key stores
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
	directory, err := os.MkdirTemp(demo.FastDirectory(), "xks-noisy-")
	if err != nil {
		return nil, err
	}
	w := &world{directory: directory, machine: demo.WatchMachine(time.Second)}
	err = w.start(o)
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// start prepares tokens, adds a key store for the quiet one, and serves.
func (w *world) start(o *options) error {
	d, err := demo.Prepare(context.Background(), o.proxy, filepath.Join(w.directory, "demo"), 2)
	if err != nil {
		return err
	}
	quiet, err := addQuietStore(d)
	if err != nil {
		return err
	}
	for _, s := range []struct {
		server **server
		path   string
		by     sigv4.Credential
	}{
		{&w.noisy, d.Path, sigv4.Credential{
			AccessKeyID: d.Credential.AccessKeyID, SecretAccessKey: d.Credential.SecretAccessKey,
		}},
		{&w.quiet, quietPrefix + "/kms/xks/v1", quiet},
	} {
		request, err := sign(d, s.path+"/keys/"+d.Keys[0]+"/encrypt", s.by)
		if err != nil {
			return err
		}
		*s.server = &server{address: d.Address(), roots: d.Roots, request: request}
	}
	err = w.startBare(d)
	if err != nil {
		return err
	}
	return w.serve(o, d.File("xks-proxy.yaml"))
}

// addQuietStore gives the demo a second key store, with a credential of its own.
func addQuietStore(d *demo.Demo) (sigv4.Credential, error) {
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
	log, err := os.Create(filepath.Join(w.directory, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	w.command = exec.Command(o.proxy, "serve", "--config", config)
	w.command.Env = append(
		os.Environ(), "XKS_LOG_OUTPUT=stderr", "XKS_HEALTH_LISTEN=",
		fmt.Sprintf("XKS_KEY_STORES_0_QUOTA_REQUESTS_PER_SECOND=%d", o.quota),
	)
	w.command.Stdout, w.command.Stderr = log, log
	w.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	err = w.command.Start()
	if err != nil {
		return err
	}
	for range 300 {
		c, err := w.quiet.dial()
		if err == nil {
			return c.tls.Close()
		}
		time.Sleep(100 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name()) // it is for the message only
	return fmt.Errorf("%s does not serve:\n%s", w.quiet.address, text)
}

// startBare serves HTTPS in this process that answers everything with a body of an Encrypt's size.
func (w *world) startBare(d *demo.Demo) error {
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
	if w.command != nil && w.command.Process != nil {
		_ = w.command.Process.Signal(syscall.SIGTERM)
		_ = w.command.Wait() // it was told to end
	}
	if w.listener != nil {
		_ = w.listener.Close() // nobody is left
	}
	_ = os.RemoveAll(w.directory) // a temporary directory
}

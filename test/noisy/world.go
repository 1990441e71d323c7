package main

// What is measured: the program on a pair of demo tokens with two key stores, and a bare HTTPS server.

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const ticksPerSecond = 100 // of /proc (proc(5))

// connection is the demo's connection.json.
type connection struct {
	Endpoint   string `json:"XksProxyUriEndpoint"`
	Path       string `json:"XksProxyUriPath"`
	Credential struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string `json:"RawSecretAccessKey"`
	} `json:"XksProxyAuthenticationCredential"`
	Region        string   `json:"region"`
	CACertificate string   `json:"caCertificate"`
	Keys          []string `json:"keys"`
}

// world is everything that runs.
type world struct {
	directory    string
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
	parent := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		parent = "/dev/shm" // SoftHSM keeps its tokens in files
	}
	directory, err := os.MkdirTemp(parent, "xks-noisy-")
	if err != nil {
		return nil, err
	}
	w := &world{directory: directory}
	err = w.start(o)
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// start prepares tokens, adds a key store for the quiet one, and serves.
func (w *world) start(o *options) error {
	prepare := exec.Command(o.proxy, "demo", "--dir", filepath.Join(w.directory, "demo"), "--listen", "127.0.0.1:0", "--prepare-only")
	output, err := prepare.CombinedOutput()
	if err != nil {
		return fmt.Errorf("demo: %w: %s", err, output)
	}
	var c connection
	text, err := os.ReadFile(filepath.Join(w.directory, "demo", "connection.json"))
	if err != nil {
		return err
	}
	err = json.Unmarshal(text, &c)
	if err != nil {
		return err
	}
	config := filepath.Join(w.directory, "demo", "xks-proxy.yaml")
	err = addQuietStore(config, c)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(c.CACertificate)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	address := strings.TrimPrefix(c.Endpoint, "https://")
	for _, s := range []struct {
		server **server
		path   string
	}{{&w.noisy, c.Path}, {&w.quiet, quietPrefix + "/kms/xks/v1"}} {
		request, err := c.sign(s.path + "/keys/" + c.Keys[0] + "/encrypt")
		if err != nil {
			return err
		}
		*s.server = &server{address: address, roots: roots, request: request}
	}
	err = w.startBare(filepath.Join(w.directory, "demo"), roots)
	if err != nil {
		return err
	}
	return w.serve(o, config)
}

func addQuietStore(config string, c connection) error {
	file, err := os.OpenFile(config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = fmt.Fprintf(file, `
  - name: quiet
    path_prefix: %s
    hsm_group: main
    credentials:
      - access_key_id: %s
        secret_access_key: {file: credential.secret}
`, quietPrefix, c.Credential.AccessKeyID)
	return err
}

func (w *world) serve(o *options, config string) error {
	log, err := os.Create(filepath.Join(w.directory, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	w.command = exec.Command(o.proxy, "serve", "--config", config)
	w.command.Env = append(os.Environ(), "XKS_LOG_OUTPUT=stderr", "XKS_HEALTH_LISTEN=", fmt.Sprintf("XKS_KEY_STORES_0_QUOTA_REQUESTS_PER_SECOND=%d", o.quota))
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
func (w *world) startBare(directory string, roots *x509.CertPool) error {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(directory, "server.crt"), filepath.Join(directory, "server.key"))
	if err != nil {
		return err
	}
	w.listener, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	if err != nil {
		return err
	}
	answer := []byte(strings.Repeat("x", 250))
	go func() {
		_ = http.Serve(w.listener, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { // it ends with the listener
			_, _ = io.Copy(io.Discard, r.Body) // the client will notice
			_, _ = rw.Write(answer)
		}))
	}()
	w.bare = &server{address: w.listener.Addr().String(), roots: roots, request: w.noisy.request}
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

// cpu is the processor time that the proxy and its HSMs' processes have used so far (fields 14 and 15 of /proc/…/stat, proc(5)).
func (w *world) cpu() (time.Duration, error) {
	pid := strconv.Itoa(w.command.Process.Pid)
	pids := []string{pid}
	tasks, err := filepath.Glob("/proc/" + pid + "/task/*/children")
	if err != nil {
		return 0, err
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err == nil { // or the thread has ended
			pids = append(pids, strings.Fields(string(text))...)
		}
	}
	var total time.Duration
	for _, pid := range pids {
		text, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			return 0, err
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		for _, field := range fields[11:13] {
			ticks, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, err
			}
			total += time.Duration(ticks) * time.Second / ticksPerSecond
		}
	}
	return total, nil
}

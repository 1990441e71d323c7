package main

// The servers that are measured: the proxy on demo tokens, and the bare echo.

import (
	"bufio"
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

// server is a process that serves HTTPS.
type server struct {
	command    *exec.Cmd
	address    string
	roots      *x509.CertPool
	connection connection
	directory  string
}

// startProxy makes a pair of tokens and serves them.
func startProxy(o *options, keys int) (*server, error) {
	s := &server{directory: filepath.Join(o.directory, fmt.Sprintf("keys-%d", keys))}
	prepare := exec.Command(o.proxy, "demo", "--dir", s.directory, "--keys", strconv.Itoa(keys), "--listen", "127.0.0.1:0", "--prepare-only")
	if output, err := prepare.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("demo: %w: %s", err, output)
	}
	text, err := os.ReadFile(filepath.Join(s.directory, "connection.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &s.connection); err != nil {
		return nil, err
	}
	s.address = strings.TrimPrefix(s.connection.Endpoint, "https://")
	ca, err := os.ReadFile(s.connection.CACertificate)
	if err != nil {
		return nil, err
	}
	s.roots = x509.NewCertPool()
	s.roots.AppendCertsFromPEM(ca)
	log, err := os.Create(filepath.Join(s.directory, "bench.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.command = exec.Command(o.proxy, "serve", "--config", filepath.Join(s.directory, "xks-proxy.yaml"))
	s.command.Env = append(os.Environ(), "XKS_LOG_OUTPUT=stderr", "XKS_HEALTH_LISTEN=")
	s.command.Stdout, s.command.Stderr = log, log
	s.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	return s, s.waitReady()
}

func (s *server) waitReady() error {
	for range 300 {
		c, err := dial(s)
		if err == nil {
			return c.Close()
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("%s does not serve; its log is in %s", s.address, s.directory)
}

func (s *server) stop() {
	_ = s.command.Process.Signal(syscall.SIGTERM)
	_ = s.command.Wait() // it was told to end
}

// cpu is the processor time that the server and its children have used so far.
func (s *server) cpu() (time.Duration, error) {
	pids, err := family(s.command.Process.Pid)
	if err != nil {
		return 0, err
	}
	var total time.Duration
	for _, pid := range pids {
		used, err := cpuOf(pid)
		if err != nil {
			return 0, err
		}
		total += used
	}
	return total, nil
}

// family is a process and its children.
func family(pid int) ([]int, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	pids := []int{pid}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for child := range strings.FieldsSeq(string(text)) {
			number, err := strconv.Atoi(child)
			if err != nil {
				return nil, err
			}
			pids = append(pids, number)
		}
	}
	return pids, nil
}

// cpuOf is the processor time of a process with all threads that it ever had,
// in ticks of 10 ms (fields 14 and 15 of /proc/…/stat, proc(5)).
func cpuOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has another form", pid)
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

const echoCommand = "echo-server"

// startEcho starts this program as the bare server, with the proxy's certificate.
func startEcho(proxy *server) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{roots: proxy.roots, directory: proxy.directory}
	s.command = exec.Command(self, echoCommand, filepath.Join(proxy.directory, "server.crt"), filepath.Join(proxy.directory, "server.key"))
	s.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := s.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.command.Stderr = os.Stderr
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("the echo server does not start: %w", err)
	}
	s.address = strings.TrimSpace(line)
	return s, nil
}

// serveEcho is the bare server: net/http, TLS, the body read and written back.
func serveEcho(certificate, key string) error {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	server := &http.Server{
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{pair}},
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = w.Write(body) // the client counts what it gets
		}),
	}
	return server.ServeTLS(listener, "", "")
}

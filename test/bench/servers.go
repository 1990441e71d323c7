package main

// The servers that are measured: the proxy on demo tokens, and the bare echo.

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"xks-proxy/test/demo"
)

// server is a process that serves HTTPS.
type server struct {
	command *exec.Cmd
	demo    *demo.Demo
	address string
	socket  string        // for orders, if it is known
	took    time.Duration // from its start to the first Encrypt
	store   keyStore      // that requests go to
}

// startProxy serves a demo with the program. The environment overrides its configuration.
func startProxy(o *options, d *demo.Demo, address string, store keyStore, environment ...string) (*server, error) {
	s := &server{demo: d, address: address, store: store}
	log, err := os.CreateTemp(d.Directory, "bench-*.log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.command = exec.Command(o.proxy, "serve", "--config", d.File("xks-proxy.yaml"))
	s.command.Env = append(append(os.Environ(), "XKS_LOG_OUTPUT=stderr", "XKS_HEALTH_LISTEN=", "XKS_SERVER_LISTEN="+address), environment...)
	s.command.Stdout, s.command.Stderr = log, log
	s.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	start := time.Now()
	err = s.command.Start()
	if err != nil {
		return nil, err
	}
	for time.Since(start) < time.Minute {
		_, err := s.encryptOnce()
		if err == nil {
			s.took = time.Since(start)
			return s, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.stop()
	text, _ := os.ReadFile(log.Name()) // it is for the message only
	return nil, fmt.Errorf("%s does not serve; the end of its log:\n%s", address, text[max(0, len(text)-2000):])
}

// storeOf is the key store that every demo has.
func storeOf(d *demo.Demo) keyStore {
	return keyStore{path: d.Path, accessKeyID: d.Credential.AccessKeyID, secret: d.Credential.SecretAccessKey, key: d.Keys[0]}
}

func (s *server) stop() {
	_ = s.command.Process.Signal(syscall.SIGTERM)
	_ = s.command.Wait() // it was told to end
}

const echoCommand = "echo-server"

// startEcho starts this program as the bare server, with the proxy's certificate.
func startEcho(proxy *server) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{demo: proxy.demo}
	s.command = exec.Command(self, echoCommand, proxy.demo.File("server.crt"), proxy.demo.File("server.key"))
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

package main

// The servers that are measured: the proxy on demo tokens, and the bare echo.

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"time"

	"xks-proxy/test/harness"
)

// server is a process that serves HTTPS.
type server struct {
	program *harness.Program
	demo    *harness.Demo
	address string
	store   keyStore // that requests go to
	client  *harness.Client
	socket  string        // for orders, if it is known
	took    time.Duration // from its start to the first Encrypt
}

// startProxy serves a demo with the program. The environment overrides its configuration.
func startProxy(
	o *options, d *harness.Demo, address string, store keyStore, environment ...string,
) (*server, error) {
	s := &server{demo: d, address: address, store: store,
		client: harness.NewClient(address, store.path, d.Region, store.credential)}
	environment = append([]string{
		"XKS_LOG_OUTPUT=stderr", "XKS_HEALTH_LISTEN=", "XKS_SERVER_LISTEN=" + address,
	}, environment...)
	start := time.Now()
	var err error
	s.program, err = harness.Serve(o.proxy, d.File("xks-proxy.yaml"), environment, func([]byte) {})
	if err != nil {
		return nil, err
	}
	for {
		_, err = s.encryptOnce()
		s.took = time.Since(start)
		if err == nil {
			return s, nil
		}
		if s.took > time.Minute {
			s.stop()
			return nil, fmt.Errorf("%s does not serve: %w; the end of its log:\n%s",
				address, err, s.program.Tail(20))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// storeOf is the key store that every demo has.
func storeOf(d *harness.Demo) keyStore {
	return keyStore{path: d.Path, credential: d.SignsWith(), key: d.Keys[0]}
}

func (s *server) stop() { s.program.Stop() }

const echoCommand = "echo-server"

// startEcho starts this program as the bare server, with the proxy's certificate.
func startEcho(proxy *server) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	address := make(chan string, 1)
	files := []string{echoCommand, proxy.demo.File("server.crt"), proxy.demo.File("server.key")}
	program, err := harness.Start(exec.Command(self, files...), func(line []byte) {
		select {
		case address <- string(line): // the first line
		default:
		}
	})
	if err != nil {
		return nil, err
	}
	s := &server{program: program, demo: proxy.demo}
	select {
	case s.address = <-address:
	case <-program.Exited():
		return nil, fmt.Errorf("the echo server does not start:\n%s", program.Tail(20))
	}
	s.client = harness.NewClient(s.address, "/echo", proxy.demo.Region, proxy.store.credential)
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

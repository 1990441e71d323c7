package main

// The client: requests that are signed once and sent again and again (a
// signature is good for five minutes), so that it costs little beside the servers it shares the
// machine with.

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"xks-proxy/pkg/sigv4"
	"xks-proxy/test/harness"
)

const (
	opEncrypt     = "Encrypt"
	opEncryptCDIV = "Encrypt with CDIV"
	opDecrypt     = "Decrypt"
)

// keyStore is where requests go: who signs them, and with which key.
type keyStore struct {
	name, path string
	credential sigv4.Credential
	key        string
}

// message is a request before it is signed: a path below that of the key store, and a body.
type message struct {
	path string
	body []byte
}

// message makes a request for one operation of the proxy.
func (s *server) message(operation string) (*message, error) {
	if operation != opDecrypt {
		return &message{
			harness.EncryptPath(s.store.key), harness.DataKeyBody(operation == opEncryptCDIV),
		}, nil
	}
	sealed, err := s.encryptOnce()
	if err != nil {
		return nil, err
	}
	return &message{harness.DecryptPath(s.store.key), harness.DataKeyDecryptBody(&sealed)}, nil
}

// encryptOnce gets a ciphertext to decrypt.
func (s *server) encryptOnce() (harness.Sealed, error) {
	c := harness.NewConn(s.address, s.demo.Roots)
	defer c.Close()
	path, body := harness.EncryptPath(s.store.key), harness.DataKeyBody(false)
	answer, err := exchange(c, s.client.Request(path, body))
	if err != nil {
		return harness.Sealed{}, err
	}
	return harness.ParseSealed(answer), nil
}

// exchange sends a request and reads its reply, which must be a 200.
func exchange(c *harness.Conn, request []byte) ([]byte, error) {
	status, body, err := c.Exchange(request)
	if err != nil {
		return nil, err
	}
	if status != 200 {
		return nil, fmt.Errorf("the server answered %d %s", status, body)
	}
	return body, nil
}

// load sends m over several connections, on each as soon as the last was answered.
func load(
	s *server,
	m *message,
	connections int,
	duration time.Duration,
) ([]time.Duration, time.Duration, error) {
	request := s.client.Request(m.path, m.body)
	var mu sync.Mutex
	var all []time.Duration
	var failures []error
	var clients []*harness.Conn
	for range connections {
		c := harness.NewConn(s.address, s.demo.Roots)
		err := c.Dial()
		if err != nil {
			return nil, 0, err
		}
		defer c.Close()
		clients = append(clients, c)
	}
	start := time.Now()
	var running sync.WaitGroup
	for _, c := range clients {
		running.Go(func() {
			var latencies []time.Duration
			var failed error
			for time.Since(start) < duration && failed == nil {
				sent := time.Now()
				_, failed = exchange(c, request)
				latencies = append(latencies, time.Since(sent))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, latencies...)
			failures = append(failures, failed)
		})
	}
	running.Wait()
	return all, time.Since(start), errors.Join(failures...)
}

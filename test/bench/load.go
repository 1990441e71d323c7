package main

// The client: requests that are signed once and sent again and again (a
// signature is good for five minutes), so that it costs little beside the servers it shares the machine with.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	opEncrypt     = "Encrypt"
	opEncryptCDIV = "Encrypt with CDIV"
	opDecrypt     = "Decrypt"
)

// What KMS sends for a data key: 48 bytes to encrypt under some 300 bytes of AAD.
var (
	plaintext = bytes.Repeat([]byte{'p'}, 48)
	aad       = bytes.Repeat([]byte{'a'}, 300)
)

// keyStore is where requests go, who signs them and with which key.
type keyStore struct{ name, path, accessKeyID, secret, key string }

// message is one HTTP/1.1 request as it goes over the wire.
type message struct {
	host, path string
	header     http.Header
	body       []byte
}

// as is the same message to another path.
func (m *message) as(path string) *message {
	other := *m
	other.path = path
	return &other
}

func (m *message) bytes() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", m.path, m.host, len(m.body))
	_ = m.header.Write(&b) // to memory
	b.WriteString("\r\n")
	b.Write(m.body)
	return b.Bytes()
}

// message signs a request for one operation of the proxy.
func (s *server) message(operation string) (*message, error) {
	fields := map[string]any{
		"requestMetadata": map[string]string{
			"awsPrincipalArn": "arn:aws:iam::123456789012:user/Alice",
			"kmsKeyArn":       "arn:aws:kms:us-east-2:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
			"kmsOperation":    "GenerateDataKey", "kmsRequestId": "4112f4d6-db54-4af4-ae30-c55a22a8dfae", "kmsViaService": "ebs",
		},
		"additionalAuthenticatedData": base64.StdEncoding.EncodeToString(aad),
		"encryptionAlgorithm":         "AES_GCM",
	}
	path := "encrypt"
	switch operation {
	case opDecrypt:
		sealed, err := s.encryptOnce()
		if err != nil {
			return nil, err
		}
		for name, value := range sealed {
			fields[name] = value
		}
		path = "decrypt"
	case opEncryptCDIV:
		fields["ciphertextDataIntegrityValueAlgorithm"] = "SHA_256"
		fallthrough
	default:
		fields["plaintext"] = base64.StdEncoding.EncodeToString(plaintext)
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	return s.sign("/keys/"+s.store.key+"/"+path, body)
}

func (s *server) sign(path string, body []byte) (*message, error) {
	request, err := http.NewRequest(http.MethodPost, "https://"+s.address+s.store.path+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	credential := aws.Credentials{AccessKeyID: s.store.accessKeyID, SecretAccessKey: s.store.secret}
	hash := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(context.Background(), credential, request, hex.EncodeToString(hash[:]), "kms-xks-proxy", s.demo.Region, time.Now())
	if err != nil {
		return nil, err
	}
	return &message{host: request.URL.Host, path: request.URL.Path, header: request.Header, body: body}, nil
}

// encryptOnce gets a ciphertext to decrypt.
func (s *server) encryptOnce() (map[string]any, error) {
	m, err := s.message(opEncrypt)
	if err != nil {
		return nil, err
	}
	c, err := dial(s)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	text, err := c.exchange(m.bytes())
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	return fields, json.Unmarshal(text, &fields)
}

// client is one connection.
type client struct {
	*tls.Conn
	reader *bufio.Reader
	body   []byte
}

func dial(s *server) (*client, error) {
	conn, err := tls.Dial("tcp", s.address, &tls.Config{RootCAs: s.demo.Roots, ServerName: "localhost"})
	if err != nil {
		return nil, err
	}
	return &client{Conn: conn, reader: bufio.NewReaderSize(conn, 32<<10)}, nil
}

// exchange sends a request and reads its reply, which must be a 200.
func (c *client) exchange(request []byte) ([]byte, error) {
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	length := -1
	for first := true; ; first = false {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
			rest, _ := c.reader.Peek(c.reader.Buffered())
			return nil, fmt.Errorf("the server answered %s%s", line, rest)
		}
		if name, value, ok := bytes.Cut(line, []byte(": ")); ok && bytes.EqualFold(name, []byte("Content-Length")) {
			if _, err := fmt.Sscan(string(value), &length); err != nil {
				return nil, err
			}
		}
		if len(line) == 2 {
			break
		}
	}
	if length < 0 {
		return nil, errors.New("a reply without Content-Length")
	}
	c.body = append(c.body[:0], make([]byte, length)...)
	_, err := io.ReadFull(c.reader, c.body)
	return c.body, err
}

// load sends m over several connections, on each as soon as the last was answered.
func load(s *server, m *message, connections int, duration time.Duration) ([]time.Duration, time.Duration, error) {
	request := m.bytes()
	var mu sync.Mutex
	var all []time.Duration
	var failures []error
	var clients []*client
	for range connections {
		c, err := dial(s)
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
				_, failed = c.exchange(request)
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

package main

// The load: a request that was signed once, sent on a fixed schedule over keep-alive connections.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"xks-proxy/pkg/sigv4"
	"xks-proxy/test/demo"
)

const replyLimit = 5 * time.Second

// sign makes an Encrypt as KMS sends it for a data key. The signature is good for five minutes.
func sign(d *demo.Demo, path string, by sigv4.Credential) ([]byte, error) {
	body, err := json.Marshal(map[string]any{
		"requestMetadata": map[string]string{
			"awsPrincipalArn": "arn:aws:iam::123456789012:user/Alice",
			"kmsKeyArn":       "arn:aws:kms:us-east-2:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
			"kmsOperation":    "GenerateDataKey",
			"kmsRequestId":    "4112f4d6-db54-4af4-ae30-c55a22a8dfae", "kmsViaService": "ebs",
		},
		"additionalAuthenticatedData": base64.StdEncoding.EncodeToString(
			bytes.Repeat([]byte{'a'}, 300),
		),
		"plaintext":           base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{'p'}, 48)),
		"encryptionAlgorithm": "AES_GCM",
	})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest(http.MethodPost, d.Endpoint+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	credential := aws.Credentials{AccessKeyID: by.AccessKeyID, SecretAccessKey: by.SecretAccessKey}
	hash := sha256.Sum256(body)
	err = v4.NewSigner().
		SignHTTP(context.Background(), credential, request, hex.EncodeToString(hash[:]), "kms-xks-proxy", d.Region, time.Now())
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	fmt.Fprintf(
		&text, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", path, request.URL.Host,
		len(body),
	)
	_ = request.Header.Write(&text) // to memory
	text.WriteString("\r\n")
	text.Write(body)
	return text.Bytes(), nil
}

// load sends rate requests a second.
func (s *server) load(rate, connections int, lasting time.Duration) result {
	start := time.Now()
	var next atomic.Int64
	var mu sync.Mutex
	var all result
	var running sync.WaitGroup
	for range connections {
		running.Go(func() {
			mine := s.send(start, &next, rate, lasting)
			mu.Lock()
			defer mu.Unlock()
			all.add(mine)
		})
	}
	running.Wait()
	return all
}

// send is one connection's part.
func (s *server) send(start time.Time, next *atomic.Int64, rate int, lasting time.Duration) result {
	r := result{counts: map[int]int{}}
	var c *client
	defer func() {
		if c != nil {
			_ = c.tls.Close() // the proxy does not mind
		}
	}()
	for {
		due := time.Duration(next.Add(1)-1) * time.Second / time.Duration(rate)
		if due >= lasting {
			return r
		}
		time.Sleep(time.Until(start.Add(due)))
		status, err := 0, error(nil)
		if c == nil {
			c, err = s.dial()
		}
		if err == nil {
			status, err = c.exchange(s.request)
		}
		if err != nil {
			r.errs = append(r.errs, err)
			c = nil
		}
		r.counts[status]++
		r.took = append(r.took, time.Since(start)-due)
	}
}

// client is one connection.
type client struct {
	tls    *tls.Conn
	reader *bufio.Reader
}

func (s *server) dial() (*client, error) {
	conn, err := tls.Dial(
		"tcp", s.address,
		&tls.Config{RootCAs: s.roots, ServerName: "localhost", MinVersion: tls.VersionTLS12},
	)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &client{tls: conn, reader: bufio.NewReader(conn)}, nil
}

// exchange sends a request and reads its reply, of which the status is what counts.
func (c *client) exchange(request []byte) (int, error) {
	err := c.tls.SetDeadline(time.Now().Add(replyLimit))
	if err != nil {
		return 0, err
	}
	_, err = c.tls.Write(request)
	if err != nil {
		return 0, fmt.Errorf("send: %w", err)
	}
	status, length := 0, int64(-1)
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return 0, fmt.Errorf("read the reply: %w", err)
		}
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(": "))
		switch {
		case len(name) == 0:
			_, err = io.CopyN(io.Discard, c.reader, max(length, 0))
			return status, err
		case status == 0 && len(name) >= 12:
			status, err = strconv.Atoi(string(name[9:12]))
		case bytes.EqualFold(name, []byte("Content-Length")):
			length, err = strconv.ParseInt(string(value), 10, 64)
		}
		if err != nil {
			return 0, fmt.Errorf("read the reply: %w", err)
		}
	}
}

package harness

// One keep-alive connection to the proxy: HTTP/1.1 over TLS with the server's certificate verified.

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// replyLimit is how long a reply is waited for. KMS waits 250 ms; later replies count as slow.
const replyLimit = 5 * time.Second

// Conn is for one goroutine. A connection that broke is dialled again by the next Exchange.
type Conn struct {
	address string
	roots   *x509.CertPool

	tls    *tls.Conn
	reader *bufio.Reader
	body   []byte
}

// NewConn is a connection that is not open yet, to host:port.
func NewConn(address string, roots *x509.CertPool) *Conn {
	return &Conn{address: address, roots: roots}
}

// Dial opens the connection.
func (c *Conn) Dial() error {
	opened, err := tls.Dial("tcp", c.address, &tls.Config{
		RootCAs: c.roots, ServerName: "localhost", MinVersion: tls.VersionTLS12,
	})
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	c.tls, c.reader = opened, bufio.NewReaderSize(opened, 4<<10)
	return nil
}

// Close closes the connection if it is open.
func (c *Conn) Close() {
	if c.tls != nil {
		_ = c.tls.Close() // the proxy does not mind
		c.tls = nil
	}
}

// Exchange sends a whole request and reads its reply: status and body. The body is good until the
// next Exchange.
func (c *Conn) Exchange(request []byte) (int, []byte, error) {
	if c.tls == nil {
		err := c.Dial()
		if err != nil {
			return 0, nil, err
		}
	}
	status, err := c.send(request)
	if err != nil {
		c.Close()
		return 0, nil, err
	}
	return status, c.body, nil
}

func (c *Conn) send(request []byte) (int, error) {
	err := c.tls.SetDeadline(time.Now().Add(replyLimit))
	if err != nil {
		return 0, err
	}
	_, err = c.tls.Write(request)
	if err != nil {
		return 0, fmt.Errorf("send: %w", err)
	}
	status, length := 0, -1
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return 0, fmt.Errorf("read the reply: %w", err)
		}
		switch {
		case status == 0:
			if len(line) < 12 {
				return 0, fmt.Errorf("a status line of %d bytes", len(line))
			}
			status, err = strconv.Atoi(string(line[9:12]))
			if err != nil {
				return 0, fmt.Errorf("status line: %w", err)
			}
		case len(line) == 2:
			return status, c.readBody(length)
		default:
			name, value, _ := bytes.Cut(line, []byte(": "))
			if bytes.EqualFold(name, []byte("Content-Length")) {
				length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
				if err != nil {
					return 0, fmt.Errorf("Content-Length: %w", err)
				}
			}
		}
	}
}

func (c *Conn) readBody(length int) error {
	if length < 0 {
		return errors.New("a reply without Content-Length")
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	_, err := io.ReadFull(c.reader, c.body)
	if err != nil {
		return fmt.Errorf("read the reply: %w", err)
	}
	return nil
}

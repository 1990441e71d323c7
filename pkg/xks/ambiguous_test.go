package xks

// Two readings of where a request ends (CloseIfAmbiguous).

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// U15: a connection ends with a request of which a server in front may have read another end, and
// only then: what follows is not served, and the reply says so.
func TestAmbiguousEnd(t *testing.T) {
	s := newRig(t).listen("HTTP/1.1")
	whole := s.raw(prefixURI+"/health", metadataOnly("x"))
	head, body, _ := strings.Cut(whole, "\r\n\r\n")
	chunks := fmt.Sprintf(
		"\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body,
	)
	without := strings.Replace(head, fmt.Sprintf("\r\nContent-Length: %d", len(body)), "", 1)
	old := strings.Replace(head, "HTTP/1.1", "HTTP/1.0\r\nConnection: keep-alive", 1)
	for name, c := range map[string]struct {
		text   string
		closed bool
	}{
		"Content-Length":              {whole, false},
		"Transfer-Encoding":           {without + chunks, true},
		"both":                        {head + chunks, true},
		"HTTP/1.0":                    {old + "\r\n\r\n" + body, true},
		"refused, Transfer-Encoding":  {strings.Replace(without, "/health", "/nowhere", 1) + chunks, true},
		"a method, Transfer-Encoding": {strings.Replace(without, "POST", "PUT", 1) + chunks, true},
	} {
		connection := s.dial()
		io.WriteString(connection, c.text+whole)
		reader := bufio.NewReader(connection)
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		readReply(t, response)
		if response.Close != c.closed {
			t.Errorf("%s: Connection: close is %v", name, response.Close)
		}
		_, err = http.ReadResponse(reader, nil)
		if (err != nil) != c.closed {
			t.Errorf("%s: the request behind it: %v", name, err)
		}
		connection.Close()
	}
}

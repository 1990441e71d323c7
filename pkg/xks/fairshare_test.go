package xks

// A tenant who opens all connections that there may be, and authenticates on each, locks nobody out
// (requirement U15).

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"xks-proxy/pkg/sigv4"
)

// rawAs is a health request of another credential.
func (s *server) rawAs(credential sigv4.Credential, path string) string {
	s.t.Helper()
	data := encode(s.t, metadataOnly("x"))
	q := s.request(s.t.Context(), path, data, nil)
	sign(q, path, data, credential, "us-east-1", time.Now())
	return fmt.Sprintf(
		"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nX-Amz-Date: %s\r\n"+
			"Authorization: %s\r\nContent-Length: %d\r\n\r\n%s",
		path, q.Host, q.Header.Get("X-Amz-Date"), q.Header.Get("Authorization"), len(data), data,
	)
}

// member is a connection on which somebody has authenticated.
type member struct {
	io.Writer
	reader *bufio.Reader
	close  func() error
}

func (s *server) join(request string) *member {
	s.t.Helper()
	c := s.dial()
	m := &member{c, bufio.NewReader(c), c.Close}
	s.askOn(m, request)
	return m
}

func (s *server) askOn(m *member, request string) {
	s.t.Helper()
	io.WriteString(m, request)
	if p := s.read(m.reader); p.status != http.StatusOK {
		s.t.Fatalf("%d %s", p.status, p.body)
	}
}

func TestGreedyTenantGivesWay(t *testing.T) {
	r := newRig(t, withOther)
	r.connections = 6
	s := r.listen("HTTP/1.1")
	greedy, modest := s.raw(prefixURI+"/health", metadataOnly("x")), s.rawAs(
		otherCredential, otherURI+"/health",
	)
	for range r.connections {
		defer s.join(greedy).close()
	}
	var others []*member
	for range r.connections / 3 {
		others = append(
			others, s.join(modest),
		) // one after the other, each takes the place of a greedy one
	}
	for range 3 * r.connections {
		defer s.join(greedy).close()
		for _, m := range others {
			s.askOn(m, modest) // however many more the greedy one opens, he loses his own
		}
	}
	s.waitOpen(r.connections)
	for _, m := range others {
		m.close()
	}
}

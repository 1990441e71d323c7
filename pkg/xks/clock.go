package xks

// When a request must be answered (requirement U13), and which answers close the connection.

import (
	"net/http"
	"time"

	"xks-proxy/pkg/xks/listener"
)

// clock holds the start and the deadline of one request.
type clock struct {
	start    time.Time
	deadline time.Time
	newConn  bool
}

// startClock determines when the request began and when it must be answered.
func (c *Config) startClock(r *http.Request) clock {
	arrived := listener.ArrivalOf(r)
	k := clock{start: arrived.Start, newConn: arrived.First}
	k.deadline = k.start.Add(c.Budget)
	if k.newConn {
		// A connection that was opened long before its first request, by a pool or a load balancer,
		// was not opened for that request.
		first := arrived.Accepted.Add(c.FirstRequestBudget)
		if first.Before(k.deadline) && k.start.Before(first) {
			k.deadline = first
		}
	}
	return k
}

// CloseIfAmbiguous has the connection closed after the answer if a server in front of this one may
// see another end of the request. That is the case with Transfer-Encoding, beside or in place of
// Content-Length, and for HTTP/1.0, where net/http drops the Transfer-Encoding (RFC 9112 sections
// 6.1 and 11.2). What follows on the connection may be a request that somebody hid in the body of
// another one. AWS KMS sends neither, so its connections stay open (U15).
func CloseIfAmbiguous(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 && (r.ProtoMinor == 0 || len(r.TransferEncoding) > 0) {
		w.Header()["Connection"] = closing
	}
}

var closing = []string{"close"}

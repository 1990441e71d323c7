package xks

// When a request must be answered (requirement U13), and which answers end the connection.

import (
	"net/http"
	"time"

	"xks-proxy/pkg/xks/listener"
)

// clock is the time that one request has.
type clock struct {
	start    time.Time
	deadline time.Time
	newConn  bool
}

// startClock reads when the request began and says when it must be answered.
func (c *Config) startClock(r *http.Request) clock {
	arrived := listener.ArrivalOf(r)
	k := clock{start: arrived.Start, newConn: arrived.First}
	k.deadline = k.start.Add(c.Budget)
	if k.newConn {
		// A connection that was opened long before its first request, as pools and load balancers
		// do, was not opened for it.
		first := arrived.Accepted.Add(c.FirstRequestBudget)
		if first.Before(k.deadline) && k.start.Before(first) {
			k.deadline = first
		}
	}
	return k
}

// CloseIfAmbiguous has the connection closed with the answer to a request of which a server in
// front of this one may have read another end: one with Transfer-Encoding, beside or in place of
// Content-Length, and any of HTTP/1.0, of which net/http forgets that it had a Transfer-Encoding
// (RFC 9112 sections 6.1 and 11.2). What follows on the connection might be a request that somebody
// hid in the body of his own. AWS KMS sends neither: for it connections are kept (U15).
func CloseIfAmbiguous(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 && (r.ProtoMinor == 0 || len(r.TransferEncoding) > 0) {
		w.Header()["Connection"] = closing
	}
}

var closing = []string{"close"}

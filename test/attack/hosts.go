package main

// Crossing from one tenant to another by host names: what TLS was asked for (SNI), what HTTP says
// (Host, :authority), and whose path it is.

import (
	"context"
	"fmt"
	"net"
	"strings"
)

// spelledHosts are spellings of a tenant's host name and what is beside it. True: it is that name,
// with or without a port.
func spelledHosts(t *target, who *tenant) map[string]bool {
	_, port, _ := net.SplitHostPort(t.API)
	h := who.Host
	return map[string]bool{
		h: true, h + ":" + port: true, strings.ToUpper(h): true, h + ":1": true, h + ":": true,
		h + ":00443": true,
		h + ".":      false, "." + h: false, "x." + h: false, h + ".x": false, h + "x": false,
		h[1:]: false, "*." + h: false, "*": false,
		h + ":x": false, h + ":1:2": false, h + "::1": false, h + ":-1": false, h + ": 1": false,
		"[" + h + "]": false, "x@" + h: false, h + "@x": false, h + "/": false,
		h + "#x": false, h + "?x": false, h + "%2e": false, h + "%00": false, h + ",x": false,
		"x," + h: false, h + " x": false, h + "\t" + h: false, "https://" + h: false, "": false,
		strings.ReplaceAll(h, "t", "\u24e3"): false, strings.Replace(h, "k", "\u212a", 1): false,
		strings.ReplaceAll(h, ".", "\u3002"): false, t.host(): false, "localhost": false,
	}
}

// crossHosts asks under each tenant's name, by every spelling, for each one's path, with each one's
// credential.
func crossHosts(ctx context.Context, t *target, n *tally) error {
	var tries []hostTry
	for i := range t.Housed {
		for j := range t.Housed {
			for k := range t.Housed {
				for host, right := range spelledHosts(t, &t.Housed[k]) {
					for _, name := range []string{t.Housed[0].Host, t.Housed[1].Host, "localhost"} {
						tries = append(
							tries,
							hostTry{
								signer: &t.Housed[i], path: &t.Housed[j], host: host,
								right: right && k == j, name: name,
							},
						)
					}
				}
			}
		}
	}
	inParallel(ctx, len(tries), 4, func(i int) { tries[i].run(t, n) })
	if ctx.Err() != nil {
		return fmt.Errorf("not all host names were tried: %w", ctx.Err())
	}
	return nil
}

type hostTry struct {
	signer, path *tenant
	host         string
	right        bool   // host is that of the path
	name         string // that TLS is asked for
}

func (h hostTry) run(t *target, n *tally) {
	c := &wire{target: t, config: t.tlsConfig("http/1.1")}
	// an attacker does not mind whose certificate he gets
	c.config.ServerName, c.config.InsecureSkipVerify = h.name, true
	defer c.close()
	for _, second := range []string{"", h.path.Host} {
		s := h.sketch(t)
		if second != "" {
			s.add("Host", second)
		}
		r, err := c.ask(s.bytes())
		n.noteReply(r, err)
		h.judge(n, r != nil && r.status == 200, second == "", "HTTP/1.1, second Host "+second)
	}
	h.runHTTP2(t, n)
}

func (h hostTry) sketch(t *target) *sketch {
	s := newSketch(t, h.signer, "", encryptBody("hosts"))
	s.target = h.path.path("/keys/" + h.path.Keys[0] + "/encrypt")
	s.headers[0].value = h.host
	return s
}

// runHTTP2 gives the name as :authority, and with a tenant's own name as Host beside it.
func (h hostTry) runHTTP2(t *target, n *tally) {
	config := t.tlsConfig("h2")
	config.ServerName, config.InsecureSkipVerify = h.name, true
	for _, second := range []string{"", h.path.Host} {
		c, err := t.dialH2With(config)
		if err != nil {
			n.note("no connection")
			return
		}
		s := h.sketch(t)
		fields := fieldsOf(s)
		if second != "" {
			fields = append(fields, header{"host", second})
		}
		answer, err := c.ask(fields, s.body)
		c.close()
		if err != nil {
			answer = "closed"
		}
		n.note("HTTP/2 " + answer)
		h.judge(n, answer == "200", true, "HTTP/2, Host "+second)
	}
}

// judge: a host that is the path's, and its credential, are what every client has; mayServe says
// that the request is one at all.
func (h hostTry) judge(n *tally, served, mayServe bool, how string) {
	switch {
	case !served:
	case h.right && h.signer == h.path && mayServe:
		n.legal()
	default:
		n.accept(
			"%s reaches the path of %s as host %q by a connection to %s (%s)", h.signer.Name,
			h.path.Name, h.host, h.name, how,
		)
	}
}

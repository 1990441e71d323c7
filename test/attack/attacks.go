package main

// The table of attacks, in the order in which they are run.

import (
	"context"
	"time"
)

var attacks = []attack{
	{"none", time.Minute, calm},

	// Signatures.
	{"SigV4 mutants", 20 * time.Minute, mutants},
	{"SigV4 forgeries", time.Minute, forgeries},
	{"unknown access key, by timing", 3 * time.Minute, timing},

	// Other tenants.
	{"crossing tenants: paths", time.Minute, crossPaths},
	{"crossing tenants: keys, data", time.Minute, crossKeys},
	{"crossing tenants: host names", time.Minute, crossHosts},

	// Client certificates.
	{"client certificates", time.Minute, clientCertificates},

	// Addresses of others.
	{"PROXY protocol headers", time.Minute, proxyHeaders},

	// Two readings of one request.
	{"request smuggling", 3 * time.Minute, smuggling},
	{"HTTP/2 requests", time.Minute, http2Requests},

	// Too much of something.
	{"oversized requests", 3 * time.Minute, oversized},
	{"HTTP/2 rapid reset", time.Minute, rapidReset},
	{"HTTP/2 CONTINUATION flood", time.Minute, continuationFlood},
	{"HTTP/2 control frame flood", time.Minute, controlFlood},
	{"HTTP/2 streams never read", time.Minute, unreadStreams},
	{"unsigned requests", time.Minute, unsignedFlood},
	{"noisy tenant", time.Minute, noisyTenant},
	{"HTTP/2 frames of a tenant", time.Minute, tenantFrames},

	// Connections.
	{"slow writers", 2 * time.Minute, slowWriters},
	{"slow readers", 2 * time.Minute, slowReaders},
	{"pipelines never read", time.Minute, pipelines},
	{"idle connections", 4 * time.Minute, idleConnections},
	{"connections of a tenant", 4 * time.Minute, tenantConnections},
	{"TLS handshake flood", time.Minute, handshakeFlood},
	{"half-open handshakes", time.Minute, halfOpen},
	{"ClientHello and close", time.Minute, helloClose},
	{"connect and close", time.Minute, connectClose},
	{"garbage on the TLS port", time.Minute, garbage},
	{"health port", time.Minute, healthPort},
}

// calm is what honest traffic is like without an attack.
func calm(_ context.Context, t *target, n *tally) error {
	time.Sleep(t.seconds(10, 0.5))
	c := &wire{target: t}
	defer c.close()
	r, err := c.ask(newSketch(t, &t.Tenants[0], "/health", healthBody()).bytes())
	n.noteReply(r, err)
	n.legal()
	return nil
}

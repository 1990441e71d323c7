package worker

// Frames between the proxy and an HSM's process: written, read, and refused.

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"time"

	"xks-proxy/pkg/hsm"
)

// Frames come out as they went in, however the stream is cut into reads, and
// nothing of them stays behind in the buffer.
func TestFrameReader(t *testing.T) {
	var frames []frame
	for i, size := range []int{0, 1, 100, readBuffer - 14, readBuffer, maxBody, 7, 3 * readBuffer, 0} {
		frames = append(frames, frame{kind: kindPlaintext, id: uint64(i) << 33, body: bytes.Repeat([]byte{0xaa}, size)})
	}
	for name, source := range map[string]io.Reader{
		"whole":  bytes.NewReader(stream(frames...)),
		"halves": iotest.HalfReader(bytes.NewReader(stream(frames...))),
		"bytes":  iotest.OneByteReader(bytes.NewReader(stream(frames...))),
		"eof":    iotest.DataErrReader(bytes.NewReader(stream(frames...))),
	} {
		in := newFrameReader(source, replyLimit)
		for i, want := range frames {
			got, err := in.next()
			if err != nil || got.kind != want.kind || got.id != want.id || !bytes.Equal(got.body, want.body) {
				t.Fatalf("%s: frame %d of %d bytes came out as %d: %v", name, i, len(want.body), len(got.body), err)
			}
		}
		_, err := in.next()
		if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: at the end: %v", name, err)
		}
		if bytes.IndexByte(in.buf, 0xaa) >= 0 {
			t.Errorf("%s: the buffer still holds plaintext", name)
		}
		if len(in.buf) > keepBuffer {
			t.Errorf("%s: a buffer of %d bytes is kept", name, len(in.buf))
		}
	}
}

// A length is believed as far as its bytes arrive.
func TestFrameReaderBounds(t *testing.T) {
	lie := appendFrame(nil, frame{kind: kindObjects, body: make([]byte, 100)})
	lie[0], lie[1] = 0x00, 0xff // 16 MB
	in := newFrameReader(bytes.NewReader(lie), replyLimit)
	_, err := in.next()
	if !errors.Is(err, io.ErrUnexpectedEOF) || len(in.buf) != readBuffer {
		t.Errorf("%v, with a buffer of %d", err, len(in.buf))
	}
	for name, data := range map[string][]byte{
		"too long":     appendFrame(nil, frame{kind: kindPlaintext, body: make([]byte, maxBody+1)}),
		"too short":    {0, 0, 0, 8, byte(kindPong), 0, 0, 0, 0, 0, 0, 0, 0},
		"a request":    appendFrame(nil, frame{kind: kindEncrypt}),
		"unknown kind": appendFrame(nil, frame{kind: 0xff}),
	} {
		_, err := newFrameReader(bytes.NewReader(data), replyLimit).next()
		if !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A request whose sizes do not add up is refused.
func TestParseRequest(t *testing.T) {
	good := request{timeout: 90 * time.Minute, key: key1, aad: []byte("aad"), iv: []byte("iv"), tag: []byte("tag"), data: []byte("data")}
	body := good.appendTo(nil)
	got, err := parseRequest(body)
	if err != nil || got.timeout != 0 || got.key != key1 || string(got.aad) != "aad" || string(got.iv) != "iv" || string(got.tag) != "tag" || string(got.data) != "data" {
		t.Fatalf("%+v, %v", got, err)
	}
	if cap(got.aad) != 3 {
		t.Error("appending to the AAD reaches the IV")
	}
	large := request{data: make([]byte, hsm.MaxDataSize+1)}
	for _, bad := range [][]byte{nil, body[:requestHead-1], body[:requestHead+10], large.appendTo(nil)} {
		_, err := parseRequest(bad)
		if !errors.Is(err, ErrProtocol) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

// Nobody who sends waits for a reader that does not read; memory is bounded; what
// was sent arrives in order once it does read.
func TestOutbox(t *testing.T) {
	reader, writer := net.Pipe() // writes wait for the reader
	o := newOutbox(writer, 1000)
	first := bytes.Repeat([]byte{1}, 5000) // one frame may be larger than the limit
	err := o.send(first)
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	eventually(t, 5*time.Second, "the outbox is never full", func() bool {
		err := o.send(bytes.Repeat([]byte{2}, 100))
		if err == nil {
			taken += 100
		}
		return errors.Is(err, errOutboxFull)
	})
	if taken > 2000 {
		t.Errorf("%d bytes were taken with a limit of 1000", taken)
	}
	got := make([]byte, 5000+taken)
	_, err = io.ReadFull(reader, got)
	if err != nil || !bytes.Equal(got, append(first, bytes.Repeat([]byte{2}, taken)...)) {
		t.Errorf("what arrived is not what was sent: %v", err)
	}
	o.wait()
	_ = reader.Close()
	eventually(t, 5*time.Second, "a broken connection is not noticed", func() bool {
		err := o.send([]byte{3})
		return err != nil && !errors.Is(err, errOutboxFull)
	})
	o.wait()
}

package worker

// Frames: what crosses the socket, and a reader that trusts no length.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrProtocol is in the chain of every error that says that the other side does
// not speak this package's protocol.
var ErrProtocol = errors.New("not the HSM worker protocol")

// protocolVersion changes with every change to frames or bodies. The form of
// the hello, ready and failed frames never changes: they are what tells the versions apart.
const protocolVersion = 4

// kind says what a frame is. Requests go from the parent to the process, replies back.
type kind uint8

const (
	kindHello kind = iota + 1
	kindEncrypt
	kindDecrypt
	kindKeys
	kindFind
	kindPing
	kindGoodbye
	kindAbandon // nobody waits any more for the Keys or Find with this id; it has no reply of its own
)

const (
	kindReady kind = iota + 0x81
	kindFailed
	kindSealed
	kindPlaintext
	kindObjects
	kindError
	kindPong
)

// String is the Op of errors and log lines.
func (k kind) String() string {
	switch k {
	case kindEncrypt:
		return "encrypt"
	case kindDecrypt:
		return "decrypt"
	case kindKeys:
		return "keys"
	case kindFind:
		return "find"
	}
	return fmt.Sprintf("frame %#x", byte(k))
}

// isSearch is true of calls that end early when nobody waits for them any more.
func (k kind) isSearch() bool { return k == kindKeys || k == kindFind }

// reply is the kind that answers a request, other than kindError.
func (k kind) reply() kind {
	switch k {
	case kindEncrypt:
		return kindSealed
	case kindDecrypt:
		return kindPlaintext
	case kindKeys, kindFind:
		return kindObjects
	}
	return 0
}

// Sizes in bytes.
const (
	headerSize    = 4 + 1 + 8
	maxBody       = 256 << 10 // of every frame but kindObjects
	maxObjectBody = 16 << 20  // of kindObjects: some 50,000 keys
	readBuffer    = 64 << 10
	keepBuffer    = 256 << 10 // a larger buffer is not kept for later use
)

// requestLimit is the largest body of a request. It reports false for a kind that is none.
func requestLimit(k kind) (int, bool) {
	return maxBody, k >= kindHello && k <= kindAbandon
}

// replyLimit is the largest body of a reply. It reports false for a kind that is none.
func replyLimit(k kind) (int, bool) {
	if k == kindObjects {
		return maxObjectBody, true
	}
	return maxBody, k >= kindReady && k <= kindPong
}

// frame is one message. The body belongs to whoever made it; see frameReader.next.
type frame struct {
	kind kind
	id   uint64
	body []byte
}

// beginFrame appends a header with its length still open. The body is appended
// next, then endFrame is called with the offset at which the frame begins.
func beginFrame(b []byte, k kind, id uint64) []byte {
	b = append(b, 0, 0, 0, 0, byte(k))
	return binary.BigEndian.AppendUint64(b, id)
}

func endFrame(b []byte, begin int) []byte {
	binary.BigEndian.PutUint32(b[begin:], uint32(len(b)-begin-4))
	return b
}

func appendFrame(b []byte, f frame) []byte {
	begin := len(b)
	b = beginFrame(b, f.kind, f.id)
	b = append(b, f.body...)
	return endFrame(b, begin)
}

// frameReader takes frames from a stream. It grows its buffer as bytes arrive,
// not as lengths promise, and clears what it has handed out: plaintexts and PINs pass here.
type frameReader struct {
	source io.Reader
	limit  func(kind) (int, bool)
	buf    []byte
	begin  int // of what is not consumed yet
	end    int // of what has been read
	last   int // size of the frame handed out last
}

func newFrameReader(source io.Reader, limit func(kind) (int, bool)) *frameReader {
	return &frameReader{source: source, limit: limit, buf: make([]byte, readBuffer)}
}

// next returns the next frame. Its body is good until the following call, which
// clears it. At the end of the stream the error is io.EOF, inside a frame
// io.ErrUnexpectedEOF; for what is not a frame it is ErrProtocol.
func (r *frameReader) next() (frame, error) {
	r.release()
	err := r.need(headerSize)
	if err != nil {
		return frame{}, err
	}
	header := r.buf[r.begin:]
	size := int64(binary.BigEndian.Uint32(header))
	f := frame{kind: kind(header[4]), id: binary.BigEndian.Uint64(header[5:])}
	limit, known := r.limit(f.kind)
	if !known {
		return frame{}, fmt.Errorf("%w: a frame of kind %#x", ErrProtocol, byte(f.kind))
	}
	bodySize := size - (headerSize - 4)
	if bodySize < 0 || bodySize > int64(limit) {
		return frame{}, fmt.Errorf("%w: a frame of kind %#x and %d bytes, at most %d", ErrProtocol, byte(f.kind), size, limit)
	}
	whole := headerSize + int(bodySize)
	err = r.need(whole)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return frame{}, err
	}
	r.last = whole
	f.body = r.buf[r.begin+headerSize : r.begin+whole : r.begin+whole]
	return f, nil
}

// release clears and drops the frame that was handed out last.
func (r *frameReader) release() {
	clear(r.buf[r.begin : r.begin+r.last])
	r.begin += r.last
	r.last = 0
	if r.begin != r.end {
		return
	}
	r.begin, r.end = 0, 0
	if len(r.buf) > keepBuffer {
		r.buf = make([]byte, readBuffer)
	}
}

// need reads until n bytes are there.
func (r *frameReader) need(n int) error {
	for r.end-r.begin < n {
		if r.begin+n > len(r.buf) {
			r.makeRoom(n)
		}
		got, err := r.source.Read(r.buf[r.end:])
		r.end += got
		if err != nil && r.end-r.begin < n {
			if errors.Is(err, io.EOF) && r.end != r.begin {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// makeRoom moves what is there to the front, and doubles the buffer if that is
// full and still too small for n bytes.
func (r *frameReader) makeRoom(n int) {
	held := r.end - r.begin
	old := r.buf
	if held == len(old) {
		r.buf = make([]byte, min(2*len(old), max(n, readBuffer)))
	}
	copy(r.buf, old[r.begin:r.end])
	if len(r.buf) == len(old) {
		clear(old[max(held, r.begin):r.end])
	} else {
		clear(old[r.begin:r.end])
	}
	r.begin, r.end = 0, held
}

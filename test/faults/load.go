package main

// The load: Encrypts and Decrypts on a fixed schedule. A request's time counts from when it was
// due, not from when a connection was free to send it, so that a proxy that stalls hides nothing.

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"xks-proxy/test/harness"
)

// mix is what is asked for, in percent.
type mix struct {
	Encrypts  int // the rest are Decrypts
	Integrity int // of the Encrypts, those that ask for the ciphertext data integrity value
	Tampered  int // of the Decrypts, those whose ciphertext was changed
}

var usualMix = mix{Encrypts: 50, Integrity: 25}

// record is one ciphertext that the proxy acknowledged.
type record struct {
	Key       int // index into keyLabels
	AAD       int
	Plaintext []byte
	harness.Sealed
}

// sample is one request that was answered.
type sample struct {
	due, took time.Duration // due since the start of the load; took since it was due
}

// failure is one request without the answer it ought to have had.
type failure struct {
	due, took time.Duration
	name      string // errorName, or what happened instead of a reply
	body      string
	requestID string
	wrong     bool // an answer, but not the right one
}

// load is a running load, and after end what came of it.
type load struct {
	world   *world
	rate    int
	mix     mix
	start   time.Time
	next    atomic.Int64
	ends    atomic.Int64 // nanoseconds after start; nothing is sent that is due later
	running sync.WaitGroup

	encrypts, decrypts, verified atomic.Int64 // that were sent; verified: of the encrypts, with integrity value

	mu       sync.Mutex
	samples  []sample
	failures []failure
	records  []*record
}

// startLoad begins at once. serial makes request ids differ between loads.
func (w *world) startLoad(rate int, m mix) *load {
	l := &load{world: w, rate: rate, mix: m, start: time.Now().Add(20 * time.Millisecond)}
	l.ends.Store(int64(24 * time.Hour))
	w.serial++
	for i := range w.conns {
		s := &sender{load: l, conn: w.conns[i], serial: w.serial}
		l.running.Go(s.run)
	}
	return l
}

// end lets everything that is due be sent and answered.
func (l *load) end() {
	l.ends.Store(int64(time.Since(l.start)))
	l.running.Wait()
}

// sender sends on one connection.
type sender struct {
	load     *load
	conn     *harness.Conn
	serial   int
	body     []byte
	request  []byte
	samples  []sample
	failures []failure
	records  []*record
}

func (s *sender) run() {
	l := s.load
	for {
		n := l.next.Add(1) - 1
		due := time.Duration(n) * time.Second / time.Duration(l.rate)
		for wait := due - time.Since(l.start); wait > 0; wait = due - time.Since(l.start) {
			if int64(due) > l.ends.Load() {
				break
			}
			time.Sleep(min(wait, 100*time.Millisecond))
		}
		if int64(due) > l.ends.Load() {
			break
		}
		s.once(uint64(n), due)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.samples = append(l.samples, s.samples...)
	l.failures = append(l.failures, s.failures...)
	l.records = append(l.records, s.records...)
}

// once sends request number n.
func (s *sender) once(n uint64, due time.Duration) {
	w := s.load.world
	random := dice(w.seed + uint64(s.serial)<<40 + n)
	kind := int(random.next() % 100)
	id := fmt.Sprintf("%08x-0000-4000-8000-%012x", s.serial, n)
	var failed *failure
	old := w.pool[random.next()%poolSize].Load()
	if kind < s.load.mix.Encrypts || old == nil {
		integrity := int(random.next()%100) < s.load.mix.Integrity
		s.load.encrypts.Add(1)
		if integrity {
			s.load.verified.Add(1)
		}
		failed = s.encrypt(&random, id, integrity)
	} else {
		s.load.decrypts.Add(1)
		if int(random.next()%100) < s.load.mix.Tampered {
			failed = s.decryptTampered(old, &random, id)
		} else {
			failed = s.decrypt(old, id)
		}
	}
	took := time.Since(s.load.start) - due
	s.samples = append(s.samples, sample{due: due, took: took})
	if failed != nil {
		failed.due, failed.took, failed.requestID = due, took, id
		s.failures = append(s.failures, *failed)
	}
}

func (s *sender) encrypt(random *dice, id string, integrity bool) *failure {
	w := s.load.world
	r := &record{Key: int(random.next() % uint64(len(keyLabels))), AAD: int(random.next() % aadKinds), Plaintext: random.bytes(32)}
	s.body = harness.AppendEncryptBody(s.body[:0], id, r.Plaintext, aadOf(r.AAD), integrity)
	reply, failed := s.ask(harness.EncryptPath(keyLabels[r.Key]), s.body)
	if failed != nil {
		return failed
	}
	r.Sealed = harness.ParseSealed(reply)
	if len(r.Ciphertext) != len(r.Plaintext) || len(r.IV) == 0 || len(r.Tag) != 16 {
		return &failure{name: "malformed answer", body: string(reply), wrong: true}
	}
	if integrity && !bytes.Equal(harness.Field(reply, "ciphertextDataIntegrityValue"), r.integrityValue()) {
		return &failure{name: "wrong integrity value", body: string(reply), wrong: true}
	}
	s.records = append(s.records, r)
	w.pool[w.pooled.Add(1)%poolSize].Store(r)
	return nil
}

func (s *sender) decrypt(r *record, id string) *failure {
	s.body = harness.AppendDecryptBody(s.body[:0], id, &r.Sealed, aadOf(r.AAD))
	reply, failed := s.ask(harness.DecryptPath(keyLabels[r.Key]), s.body)
	if failed != nil {
		// KMS does not retry this one, and its caller takes the data for lost.
		failed.wrong = failed.name == invalidCiphertext
		return failed
	}
	if !bytes.Equal(harness.Field(reply, "plaintext"), r.Plaintext) {
		return &failure{name: "wrong plaintext", body: fmt.Sprintf("%d bytes", len(reply)), wrong: true}
	}
	return nil
}

const invalidCiphertext = "InvalidCiphertextException"

// decryptTampered changes one bit of tag, ciphertext or IV, and wants to be told so.
func (s *sender) decryptTampered(r *record, random *dice, id string) *failure {
	changed := *r
	for _, part := range []*[]byte{&changed.Tag, &changed.Ciphertext, &changed.IV} {
		*part = bytes.Clone(*part)
	}
	part := [][]byte{changed.Tag, changed.Ciphertext, changed.IV}[random.next()%3]
	part[random.next()%uint64(len(part))] ^= 1 << (random.next() % 8)
	s.body = harness.AppendDecryptBody(s.body[:0], id, &changed.Sealed, aadOf(r.AAD))
	reply, failed := s.ask(harness.DecryptPath(keyLabels[r.Key]), s.body)
	switch {
	case failed == nil:
		return &failure{name: "tampered, yet decrypted", body: string(reply), wrong: true}
	case failed.name == invalidCiphertext:
		return nil
	}
	return failed
}

// ask sends one signed request and wants a 200.
func (s *sender) ask(path string, body []byte) ([]byte, *failure) {
	w := s.load.world
	s.request = w.client.AppendRequest(s.request[:0], path, body)
	status, reply, err := s.conn.Exchange(s.request)
	if err != nil {
		return nil, &failure{name: "no reply", body: err.Error()}
	}
	if status != 200 {
		return nil, &failure{name: errorNameOf(status, reply), body: string(reply)}
	}
	return reply, nil
}

func errorNameOf(status int, reply []byte) string {
	var e struct {
		ErrorName string `json:"errorName"`
	}
	err := json.Unmarshal(reply, &e)
	if err != nil || e.ErrorName == "" {
		return fmt.Sprintf("status %d", status)
	}
	return e.ErrorName
}

// integrityValue is requirement E4, over the raw bytes.
func (r *record) integrityValue() []byte {
	hash := sha256.New()
	for _, part := range [][]byte{aadOf(r.AAD), r.Metadata, r.IV, r.Ciphertext, r.Tag} {
		hash.Write(part)
	}
	return hash.Sum(nil)
}

// aadKinds of AAD are sent, of different lengths.
const aadKinds = 4

var aads = [aadKinds][]byte{{}, bytes.Repeat([]byte{'a'}, 17), bytes.Repeat([]byte{'b'}, 300), bytes.Repeat([]byte{'c'}, 1000)}

func aadOf(kind int) []byte { return aads[kind] }

// dice is a small generator of pseudo-random numbers (splitmix64): every request's content follows
// from the seed and its number alone.
type dice uint64

func (d *dice) next() uint64 {
	*d += 0x9e3779b97f4a7c15
	z := uint64(*d)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (d *dice) bytes(n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		x := d.next()
		b = append(b, byte(x), byte(x>>8), byte(x>>16), byte(x>>24), byte(x>>32), byte(x>>40), byte(x>>48), byte(x>>56))
	}
	return b[:n]
}

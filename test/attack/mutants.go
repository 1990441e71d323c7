package main

// Mutants of signed requests: every byte that the signature covers changed to every other value,
// bytes taken out, put in and swapped, and several changes at once. A mutant is accepted if it is
// served and means something else than what was signed.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	mutantWorkers = 8
	pipelined     = 16 // requests in one write
	freshFor      = 60 * time.Second
	// one mutant of so many may change where the request ends; it gets a connection of its own
	framingShare = 50
)

// original is a signed request that is served, and where in it a byte matters.
type original struct {
	name    string
	bytes   []byte
	meaning string
	signed  []string
	regions []region // without the body
	body    int      // offset
	made    time.Time
}

// region is a part of a request whose bytes are signed, or sign.
type region struct{ from, to int }

// originals are requests of all four operations, in both ways of signing.
func originals(t *target) []*original {
	who := &t.Tenants[0]
	key := "/keys/" + who.Keys[0]
	var list []*original
	for _, s := range []*sketch{
		newSketch(t, who, key+"/encrypt", encryptBody("mutant")),
		newSketch(t, who, key+"/decrypt", decryptBody(t.Sealed[0])).all(),
		newSketch(t, who, key+"/metadata", metadataBody()),
		newSketch(t, who, "/health", healthBody()).all(),
	} {
		list = append(list, newOriginal(s))
	}
	return list
}

func newOriginal(s *sketch) *original {
	o := &original{name: s.target, bytes: s.bytes(), signed: s.signed, made: time.Now()}
	o.meaning = meaningOf(o.bytes, o.signed)
	o.body = bytes.Index(o.bytes, []byte("\r\n\r\n")) + 4
	path := len("POST ")
	o.regions = append(o.regions, region{0, path - 1}, region{path, path + len(s.target)})
	for _, name := range []string{"Host", "X-Amz-Date", "Authorization"} {
		from := bytes.Index(o.bytes, []byte("\r\n"+name+": ")) + len("\r\n"+name+": ")
		o.regions = append(
			o.regions, region{from, from + bytes.Index(o.bytes[from:], []byte("\r\n"))},
		)
	}
	return o
}

// substitutions is how many mutants differ from the original in one byte of a region or the body.
func (o *original) substitutions() int {
	bytes := len(o.bytes) - o.body
	for _, r := range o.regions {
		bytes += r.to - r.from
	}
	return bytes * 255
}

// position is the n-th byte of regions and body.
func (o *original) position(n int) int {
	for _, r := range o.regions {
		if n < r.to-r.from {
			return r.from + n
		}
		n -= r.to - r.from
	}
	return o.body + n
}

// mutant is one changed request. One that may end elsewhere is alone on its connection.
type mutant struct {
	original *original
	bytes    []byte
	alone    bool
}

// mutate gives mutant number n, which follows from seed and number. In a whole run the first are
// all substitutions of one byte, of one original after the other; what is left is random.
func mutate(list []*original, seed uint64, n int, exhaustive bool) mutant {
	if exhaustive {
		rest := n
		for _, o := range list {
			if rest < o.substitutions() {
				at := o.position(rest / 255)
				changed := bytes.Clone(o.bytes)
				changed[at] += byte(1 + rest%255)
				return o.mutant(changed, at)
			}
			rest -= o.substitutions()
		}
	}
	random := rand.New(rand.NewPCG(seed, uint64(n)))
	o := list[random.IntN(len(list))]
	if random.IntN(framingShare) == 0 {
		changed := bytes.Clone(o.bytes)
		for range 1 + random.IntN(3) {
			changed = edit(random, changed, 0, len(changed))
		}
		return mutant{original: o, bytes: changed, alone: true}
	}
	at := o.position(random.IntN(o.substitutions() / 255))
	changed := bytes.Clone(o.bytes)
	if at >= o.body {
		changed[at] ^= byte(1 + random.IntN(255))
		return o.mutant(changed, at)
	}
	for _, r := range o.regions {
		if at >= r.from && at < r.to {
			changed = edit(random, changed, r.from, r.to)
		}
	}
	return o.mutant(changed, at)
}

// mutant is a mutant that differs near an offset. A line end within the header may end it.
func (o *original) mutant(changed []byte, at int) mutant {
	head := changed[:len(changed)-(len(o.bytes)-o.body)]
	alone := at < o.body &&
		bytes.Count(head, []byte{'\n'}) != bytes.Count(o.bytes[:o.body], []byte{'\n'})
	return mutant{original: o, bytes: changed, alone: alone}
}

// edit changes b in one place between from and to.
func edit(random *rand.Rand, b []byte, from, to int) []byte {
	at := from + random.IntN(to-from)
	another := from + random.IntN(to-from)
	const likely = "0123456789abcdefABCDEF/=,;:. \t\r\n\x00%+-_~\xc0\xff"
	one := likely[random.IntN(len(likely))]
	switch random.IntN(6) {
	case 0:
		b[at] ^= 1 << random.IntN(8)
	case 1:
		b[at] = one
	case 2: // one more
		b = append(b[:at:at], append([]byte{one}, b[at:]...)...)
	case 3: // one less
		b = append(b[:at:at], b[at+1:]...)
	case 4:
		b[at], b[another] = b[another], b[at]
	default: // a part of it twice
		end := min(at+1+random.IntN(8), to)
		b = append(b[:end:end], b[at:]...)
	}
	return b
}

// mutants sends them all.
func mutants(ctx context.Context, t *target, n *tally) error {
	var mu sync.Mutex
	list := originals(t)
	total := 0
	for _, o := range list {
		total += o.substitutions()
	}
	exhaustive := t.Mutants > total
	n.remark(
		"%d substitutions of one byte by every other value: %s", total,
		map[bool]string{true: "all", false: "a random part"}[exhaustive],
	)
	fresh := func() []*original {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(list[0].made) > freshFor {
			list = originals(t)
		}
		return list
	}
	err := served(t, n, list)
	if err != nil {
		return err
	}
	var next atomic.Int64
	var failed error
	inParallel(ctx, mutantWorkers, mutantWorkers, func(int) {
		m := &mutator{target: t, tally: n, wire: &wire{target: t}}
		defer m.wire.close()
		for ctx.Err() == nil {
			from := int(next.Add(pipelined)) - pipelined
			if from >= t.Mutants {
				return
			}
			var batch []mutant
			for i := from; i < min(from+pipelined, t.Mutants); i++ {
				batch = append(batch, mutate(fresh(), t.Seed, i, exhaustive))
			}
			err := m.send(batch)
			if err != nil {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
				return
			}
		}
	})
	if failed == nil {
		failed = served(t, n, fresh()) // or the refusals would prove nothing
	}
	if failed == nil && ctx.Err() != nil {
		n.remark("stopped before all were sent: the time was over")
	}
	return failed
}

// served makes sure that the originals themselves are good.
func served(t *target, n *tally, list []*original) error {
	c := &wire{target: t}
	defer c.close()
	for _, o := range list {
		r, err := c.ask(o.bytes)
		if err != nil {
			return fmt.Errorf("an original: %w", err)
		}
		if r.status != 200 {
			return fmt.Errorf("an original is not served: %d %s", r.status, r.body)
		}
		n.noteReply(r, nil)
		n.legal()
	}
	return nil
}

// mutator sends mutants on one connection.
type mutator struct {
	target *target
	tally  *tally
	wire   *wire
}

// send sends a batch. What follows a reply that closes the connection is sent again.
func (m *mutator) send(batch []mutant) error {
	var queue []mutant
	for _, one := range batch {
		if one.alone {
			m.sendAlone(one)
		} else {
			queue = append(queue, one)
		}
	}
	for tries := 0; len(queue) > 0; tries++ {
		if tries > 3*pipelined {
			return errors.New("the connections of mutants break without a reply")
		}
		var text []byte
		for _, one := range queue {
			text = append(text, one.bytes...)
		}
		err := m.wire.send(text, replyLimit)
		if err != nil {
			m.wire.close()
			time.Sleep(10 * time.Millisecond)
			continue
		}
		answered := 0
		for _, one := range queue {
			r, err := m.wire.read()
			if err != nil && answered > 0 {
				break // the one before broke the connection, and did not say so
			}
			answered++
			m.judge(one, r, err)
			if err != nil || r.close {
				break
			}
		}
		if answered < len(queue) {
			m.wire.close()
		}
		queue = queue[answered:]
		if answered > 0 {
			tries = 0
		}
	}
	return nil
}

func (m *mutator) sendAlone(one mutant) {
	replies, err := m.target.askAlone(one.bytes, 20*time.Millisecond)
	if len(replies) == 0 {
		m.judge(one, nil, err)
	}
	for i, r := range replies {
		if i > 0 && r.status == 200 { // what is left of the mutant was taken for a request
			m.tally.accept("a second request out of one: %q: %d %s", one.bytes, r.status, r.body)
		}
		if i == 0 {
			m.judge(one, r, nil)
		}
	}
}

func (m *mutator) judge(one mutant, r *reply, err error) {
	m.tally.noteReply(r, err)
	if r == nil || r.status != 200 {
		return
	}
	if meaningOf(one.bytes, one.original.signed) == one.original.meaning {
		m.tally.legal()
		return
	}
	m.tally.accept("%q", one.bytes)
}

package killswitch

// The kill switch against a model, in random interleavings of block, unblock, reload, rename,
// restart, callers who go away, and a disk that is slow, fails, or fails after it has written.
// After every step the model says of each key store and key whether it must be blocked, must not
// be, or may be either:
//
//   - what was returned as blocked is blocked until an unblock that began later has returned;
//   - what was returned as unblocked stays so, whatever is reloaded, until a block;
//   - an order that failed has changed nothing;
//   - a restart keeps both. Only what was returned as unsaved, or not at all, may be either after
//     it.

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"

	"xks-proxy/pkg/xks"
)

// modelDisk keeps one file. A write waits until the test decides what becomes of it.
type modelDisk struct {
	content []byte
	pending []*modelWrite
	dead    bool // the process that wrote is gone
}

type modelWrite struct {
	data   []byte
	result chan error
}

var errModelDisk = errors.New("input/output error")

func (d *modelDisk) write(_ string, data []byte) error {
	if d.dead {
		return errModelDisk
	}
	w := &modelWrite{data, make(chan error)}
	d.pending = append(d.pending, w)
	return <-w.result
}

// decide ends the oldest write.
func (d *modelDisk) decide(takesEffect bool, err error) {
	w := d.pending[0]
	d.pending = d.pending[1:]
	if takesEffect {
		d.content = w.data
	}
	w.result <- err
}

// modelPair is what the model knows of one block of one key store.
type modelPair struct {
	target BlockTarget
	path   string
	order  *modelOrder // the block
	// doubts are the unblocks under way that are about it; true: it had returned before
	doubts  map[*modelOrder]bool
	weak    bool     // it may be in effect
	unsaved bool     // it may be gone after a restart
	moved   bool     // likewise: a reload has changed it
	former  []string // paths that it may have after a restart: the reload is not saved
}

type modelOrder struct {
	name     string
	target   BlockTarget
	unblocks bool
	done     chan error
	cancel   context.CancelFunc
	ended    bool
}

type model struct {
	t      *testing.T
	random *rand.Rand
	disk   *modelDisk
	k      *Switch
	force  *enforced
	paths  map[string]string
	pairs  []*modelPair
	orders []*modelOrder // under way
	story  []string
}

// modelConfigs are names and path prefixes of key stores.
var modelConfigs = []map[string]string{
	storesAt(
		"a",
		"/p",
		"b",
		"/q",
	), storesAt("a", "/q", "b", "/p"), storesAt("c", "/p", "b", "/q"), storesAt("b", "/p"),
	storesAt(
		"a",
		"/p",
	), storesAt("a", "/r", "b", "/q"), storesAt("c", "/r", "a", "/q"), storesAt("b", "/q"),
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		t:      t,
		story:  []string{fmt.Sprintf("seed %d", seed)},
		random: rand.New(rand.NewPCG(seed, 0)),
		disk:   new(modelDisk),
	}
	m.start(modelConfigs[0])
	return m
}

func (m *model) tell(format string, args ...any) {
	m.story = append(m.story, fmt.Sprintf(format, args...))
}

// start is the start of the program.
func (m *model) start(paths map[string]string) {
	m.k, m.force = New("blocks.json", m.disk.write, zap.NewNop()), new(enforced)
	if m.disk.content != nil {
		blocks, err := parseBlocks(m.disk.content)
		if err != nil {
			m.t.Fatal(err)
		}
		m.k.blocks = blocks
	}
	m.k.Know(paths)
	m.k.Attach(m.force)
	m.Reload(paths, true)
}

func (m *model) Reload(paths map[string]string, good bool) {
	m.tell("reload %v, %t", paths, good)
	failure := errors.New("cannot be served")
	err := m.k.Follow(paths, zap.NewNop(), func() error {
		if good {
			return nil
		}
		return failure
	})
	if good != (err == nil) {
		m.t.Fatal(err)
	}
	if !good {
		return
	}
	m.paths = paths
	for _, p := range slices.Clone(m.pairs) {
		if p.target.KeyStore == "" {
			continue
		}
		for name, path := range m.paths {
			if path == p.path && name != p.target.KeyStore {
				heir := *p
				heir.target.KeyStore, heir.moved, heir.doubts = name, true, map[*modelOrder]bool{}
				for o, sure := range p.doubts {
					heir.doubts[o] = sure
				}
				m.pairs = append(m.pairs, &heir)
				m.meet(p, &heir)
			}
		}
		if path, there := m.paths[p.target.KeyStore]; there && path != p.path {
			p.former = append(slices.Clone(p.former), p.path)
			p.path, p.moved = path, true
		}
	}
	m.doubtAgain()
}

// meet is about a block that follows two, while unblocks of both are under way: it goes only with
// one that takes back both.
func (m *model) meet(old, heir *modelPair) {
	for _, p := range m.pairs {
		if p != heir && p.target == heir.target && len(p.doubts) > 0 && len(old.doubts) > 0 {
			m.pairs = append(
				m.pairs,
				&modelPair{
					target: p.target,
					path:   heir.path,
					order:  p.order,
					doubts: map[*modelOrder]bool{},
					weak:   true,
				},
			)
			return
		}
	}
}

// doubtAgain is about unblocks that are under way while the configuration changes: they may come
// before or after it.
func (m *model) doubtAgain() {
	for _, o := range m.orders {
		for _, p := range m.pairs {
			_, doubted := p.doubts[o]
			b := Block{BlockTarget: p.target, URIPath: p.path}
			if o.unblocks && !doubted && b.covers(o.target, m.paths[o.target.KeyStore]) {
				p.doubts[o] = false
			}
		}
	}
}

func (m *model) order(name string, work func(ctx context.Context) error) *modelOrder {
	ctx, cancel := context.WithCancel(context.Background())
	o := &modelOrder{name: name, done: make(chan error, 1), cancel: cancel}
	if m.random.IntN(20) == 0 {
		cancel()
		o.name += " (gone)"
	}
	m.tell("%s begins", o.name)
	m.orders = append(m.orders, o)
	go func() { o.done <- work(ctx) }()
	return o
}

func (m *model) block(t BlockTarget) {
	k := m.k
	o := m.order("block "+t.String(), func(ctx context.Context) error {
		_, _, err := k.Add(ctx, Block{BlockTarget: t, By: "alice"})
		return err
	})
	path, served := m.paths[t.KeyStore]
	pair := &modelPair{
		target:  t,
		path:    path,
		order:   o,
		doubts:  map[*modelOrder]bool{},
		unsaved: true,
	}
	// A key store that is gone, and blocked under its last path: that block stands, and goes with
	// the path.
	for _, p := range slices.Clone(m.pairs) {
		if p.target == t && p.path != "" && !served {
			pair.weak = true
			m.pairs = append(
				m.pairs,
				&modelPair{
					target: t,
					path:   p.path,
					order:  o,
					doubts: map[*modelOrder]bool{},
					weak:   true,
				},
			)
		}
	}
	m.pairs = append(m.pairs, pair)
}

func (m *model) unblock(t BlockTarget) {
	k := m.k
	o := m.order("unblock "+t.String(), func(ctx context.Context) error {
		_, err := k.Remove(ctx, t)
		return err
	})
	o.target, o.unblocks = t, true
	path, served := m.paths[t.KeyStore]
	var had []string // paths that a key store that is gone may have had
	for _, p := range m.pairs {
		if p.target == t && !served && t.KeyStore != "" {
			had = append(had, p.path)
		}
	}
	for _, p := range m.pairs {
		b := Block{BlockTarget: p.target, URIPath: p.path}
		if b.covers(t, path) {
			p.doubts[o] = p.order.ended
		} else if slices.ContainsFunc(had, func(path string) bool { return b.covers(t, path) }) {
			p.doubts[o] = false
		}
	}
}

// collect takes the results of orders.
func (m *model) collect() {
	m.orders = slices.DeleteFunc(m.orders, func(o *modelOrder) bool {
		select {
		case err := <-o.done:
			m.tell("%s: %v", o.name, err)
			o.ended = true
			m.settle(o, err)
			return true
		default:
			return false
		}
	})
}

func (m *model) settle(o *modelOrder, err error) {
	m.pairs = slices.DeleteFunc(m.pairs, func(p *modelPair) bool {
		if p.order == o {
			if err == nil {
				p.unsaved = false
			}
			return err != nil && !errors.Is(err, ErrUnsaved)
		}
		sure, doubted := p.doubts[o]
		delete(p.doubts, o)
		switch {
		case !doubted:
		case errors.Is(err, ErrBlockedAgain):
			p.weak = true // which of them were taken back is not said
		case err != nil:
			p.unsaved = true // the file may say that it is gone, until it is written again
		case sure:
			return true
		default:
			p.weak = true // they were under way at the same time
		}
		return false
	})
}

// restart kills the program and starts it again, with a write under way that may have come through.
func (m *model) restart() {
	m.tell("restart")
	old := m.disk
	if len(old.pending) > 0 && m.random.IntN(2) == 0 {
		old.content = old.pending[0].data
	}
	m.abandon()
	for _, o := range m.orders {
		o.ended = true
	}
	for _, p := range slices.Clone(m.pairs) {
		for _, path := range p.former {
			m.pairs = append(
				m.pairs,
				&modelPair{
					target: p.target,
					path:   path,
					order:  p.order,
					doubts: map[*modelOrder]bool{},
					weak:   true,
				},
			)
		}
		p.weak = p.weak || p.unsaved || p.moved || len(p.doubts) > 0 ||
			slices.Contains(m.orders, p.order)
		p.doubts = map[*modelOrder]bool{}
	}
	m.orders, m.disk = nil, &modelDisk{content: old.content}
	m.start(modelConfigs[m.random.IntN(len(modelConfigs))])
}

func (m *model) check() {
	m.collect()
	m.k.mu.Lock()
	if m.k.file.saved == m.k.file.wanted && len(m.k.leaving) == 0 {
		for _, p := range m.pairs {
			p.unsaved, p.moved, p.former = false, false, nil
		}
	}
	m.k.mu.Unlock()
	b := m.force.now()
	for name, path := range m.paths {
		m.compare(BlockTarget{KeyStore: name}, b.KeyStores[name] || b.KeyStores[path])
		m.compare(
			BlockTarget{KeyStore: name, Key: "k"},
			b.Keys[xks.BlockedKey{KeyStore: name, Key: "k"}] ||
				b.Keys[xks.BlockedKey{KeyStore: path, Key: "k"}],
		)
	}
	m.compare(BlockTarget{Key: "label"}, b.Keys[xks.BlockedKey{Key: "label"}])
}

func (m *model) compare(t BlockTarget, blocked bool) {
	must, may := false, false
	for _, p := range m.pairs {
		if !(Block{BlockTarget: p.target, URIPath: p.path}).covers(t, m.paths[t.KeyStore]) {
			continue
		}
		may = true
		must = must || p.order.ended && !p.weak && len(p.doubts) == 0
	}
	if must && !blocked || blocked && !may {
		m.t.Fatalf(
			"%s is blocked: %t; it must be: %t, it may be: %t\n%s",
			t,
			blocked,
			must,
			may,
			strings.Join(m.story, "\n"),
		)
	}
}

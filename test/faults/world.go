package main

// The world of a run: a pair of tokens behind faulty modules, and the real program in front of it
// with its default times.

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
	"xks-proxy/test/faulty"
	"xks-proxy/test/harness"
)

// keyLabels are the keys that the load uses: those of the demo, the first of which has two
// versions, and one whose value this program knows.
var keyLabels = []string{"demo-key-1", "demo-key-2", "demo-key-3", "demo-key-4", lostKey}

// lostKey is deleted on one HSM and made again.
const lostKey = "lost-key"

// poolSize ciphertexts are at hand for Decrypts.
const poolSize = 4096

// listingInterval is short, so that a row with a deleted key has an end. All other times are the
// program's own.
const listingInterval = time.Second

// pooledFor is over the time that the first request has of a connection that was opened for it. The
// load's connections are those of a pool.
const pooledFor = 300 * time.Millisecond

// target is one HSM and how to hurt it.
type target struct {
	device
	control  *faulty.Control
	encrypts uint64 // that reached it before the row
}

// world is safe for one row at a time.
type world struct {
	dir     string
	seed    uint64
	verbose bool
	used    bool            // the program has served a row
	server  *server         // of a remote vendor; nil: none
	known   []pkcs11.NewKey // that both tokens of a mixed pair have
	machine *harness.Machine
	targets []*target
	lost    pkcs11.NewKey
	binary  string // the program
	config  string // its configuration
	program *program
	demo    *harness.Demo
	client  *harness.Client
	conns   []*harness.Conn
	conn    *harness.Conn // for health and verification
	serial  int
	pool    [poolSize]atomic.Pointer[record]
	pooled  atomic.Uint64
	ivs     map[string]bool // of every acknowledged ciphertext, with its key
}

// newWorld makes everything and waits until both HSMs are ACTIVE.
func newWorld(ctx context.Context, o *options, m *harness.Machine) (*world, error) {
	dir, err := os.MkdirTemp(harness.FastDirectory(), "xks-faults-")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, seed: o.seed, verbose: o.verbose, machine: m, ivs: map[string]bool{}}
	err = w.build(ctx, o)
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) build(ctx context.Context, o *options) error {
	binary, err := filepath.Abs(o.proxy)
	if err != nil {
		return err
	}
	d, err := harness.Prepare(ctx, binary, filepath.Join(w.dir, "demo"), len(keyLabels)-1)
	if err != nil {
		return err
	}
	w.demo = d
	err = w.makeTargets(ctx, o, d)
	if err != nil {
		return err
	}
	w.binary, w.config = binary, d.File("xks-proxy.yaml")
	return w.startProgram(o)
}

// makeTargets puts a faulty module in front of each token, and the key on both that is going to be lost.
func (w *world) makeTargets(ctx context.Context, o *options, d *harness.Demo) error {
	module, err := faulty.Build(ctx, w.dir)
	if err != nil {
		return err
	}
	w.lost = pkcs11.NewKey{Label: lostKey, Version: 1, HasVersion: true, Value: make([]byte, hsm.KeySize)}
	_, err = rand.Read(w.lost.Value)
	if err != nil {
		return err
	}
	for _, h := range d.HSMs {
		pin, err := os.ReadFile(h.PINFile)
		if err != nil {
			return err
		}
		control, err := faulty.New(filepath.Join(w.dir, h.Name+".control"))
		if err != nil {
			return err
		}
		d := device{Name: h.Name, Module: h.Module, PIN: strings.TrimSpace(string(pin)),
			Conf: h.SoftHSM2Conf}
		t := &target{device: d, control: control}
		w.targets = append(w.targets, t)
		if o.vendor != nil && len(w.targets) == 1 {
			err := o.replace(ctx, w, t)
			if err != nil {
				return err
			}
		}
		_, err = t.do(tokenJob{Create: []pkcs11.NewKey{w.lost}})
		if err != nil {
			return err
		}
	}
	if o.vendor != nil {
		err := w.sameKeys()
		if err != nil {
			return err
		}
	}
	return w.copyModule(module)
}

// copyModule gives each HSM a file of its own, as two vendors' would be.
func (w *world) copyModule(module string) error {
	text, err := os.ReadFile(module)
	if err != nil {
		return err
	}
	for _, t := range w.targets {
		err := os.WriteFile(w.moduleOf(t), text, 0o700)
		if err != nil {
			return err
		}
	}
	return nil
}

// environmentOf is what the process of an HSM has: the module behind the faulty one, too.
func (w *world) environmentOf(t *target) []string {
	return append(t.environment(), t.control.Env(), "FAULTY_MODULE="+t.Module)
}

func (w *world) moduleOf(t *target) string { return filepath.Join(w.dir, t.Name+".so") }

// startProgram serves the demo's configuration, with the faulty modules in the place of SoftHSM, and
// waits until both HSMs are ACTIVE.
func (w *world) startProgram(o *options) error {
	environment := []string{"XKS_LOG_OUTPUT=stderr", "XKS_SERVER_LISTEN=127.0.0.1:0", "XKS_HEALTH_LISTEN=127.0.0.2:0",
		fmt.Sprintf("XKS_HSM_GROUPS_0_CATALOGUE_INTERVAL=%v", listingInterval)}
	for i, t := range w.targets {
		environment = append(environment,
			fmt.Sprintf("XKS_HSMS_%d_MODULE=%s", i, w.moduleOf(t)),
			fmt.Sprintf("XKS_HSMS_%d_ENVIRONMENT=%s", i, strings.Join(w.environmentOf(t), ",")))
	}
	for _, setting := range o.settings {
		environment = append(environment, "XKS_"+setting)
	}
	p, err := startProgram(w.binary, w.config, environment)
	if err != nil {
		return err
	}
	w.program = p
	w.client = w.demo.Client(p.Listen)
	w.conn = harness.NewConn(p.Listen, w.demo.Roots)
	_, err = w.waitHealthy(harness.StartLimit)
	if err != nil {
		return err
	}
	// Only now: connections that send nothing are closed.
	for range o.connections {
		opened := harness.NewConn(p.Listen, w.demo.Roots)
		w.conns = append(w.conns, opened)
		err := opened.Dial()
		if err != nil {
			return err
		}
	}
	time.Sleep(pooledFor)
	return nil
}

// stopProgram ends it, as an operator does.
func (w *world) stopProgram() {
	for _, c := range append(w.conns, w.conn) {
		if c != nil {
			c.Close()
		}
	}
	w.conns, w.conn = nil, nil
	if w.program != nil {
		w.program.Stop()
		w.program = nil
	}
}

// restart gives a row a program without a past: an HSM that failed often, and lately, is kept out
// for longer.
func (w *world) restart(o *options) error {
	w.stopProgram()
	return w.startProgram(o)
}

// close ends the program and removes everything.
func (w *world) close() {
	w.stopProgram()
	if w.server != nil {
		w.server.stop()
	}
	_ = os.RemoveAll(w.dir) // a temporary directory
}

// the others are all targets but t.
func (w *world) others(t *target) []*target {
	var list []*target
	for _, other := range w.targets {
		if other != t {
			list = append(list, other)
		}
	}
	return list
}

// workerOf is the process that serves an HSM; 0 if there is none now.
func (w *world) workerOf(t *target) int {
	for _, child := range harness.Workers(w.program.PID) {
		if child.HSM == t.Name {
			return child.PID
		}
	}
	return 0
}

// signalWorker sends a signal to the process of an HSM, which is waited for.
func (w *world) signalWorker(t *target, signal syscall.Signal) (int, error) {
	for deadline := time.Now().Add(harness.StartLimit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		pid := w.workerOf(t)
		if pid == 0 {
			continue
		}
		err := syscall.Kill(pid, signal)
		if err != nil {
			return 0, fmt.Errorf("%s to the process of %s: %w", signal, t.Name, err)
		}
		return pid, nil
	}
	return 0, fmt.Errorf("no process serves %s", t.Name)
}

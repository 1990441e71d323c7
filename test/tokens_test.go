package test

// HSMs for the tests: SoftHSM tokens, each with a directory and a configuration of
// its own. A module keeps one configuration for each process, so that every change to a token is
// made by a child process: this test binary again.

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
)

const provisionEnv = "PROVISION_A_TOKEN"

// token is one HSM.
type token struct {
	Label  string
	PIN    string
	Conf   string // what SOFTHSM2_CONF names
	Tokens string // directory of the token, which a test can move away
	Fresh  bool   // not initialised yet
}

// keyID names a key object on a token.
type keyID struct {
	Label   string
	Version uint32
}

// provision is what a child does to a token.
type provision struct {
	Module  string
	Token   token
	Create  []pkcs11.NewKey
	Destroy []keyID
	Rule    hsm.VersionRule // by which labels and versions that are taken are refused
	Labels  [][]byte        // of Create, since JSON has no text for some; nil: as they are there
}

// newToken makes an empty token in a directory of its own below dir.
func newToken(t testing.TB, dir, label string) *token {
	t.Helper()
	home := filepath.Join(dir, label)
	made := &token{Label: label, PIN: "pin-" + rand.Text(), Conf: filepath.Join(home, "softhsm2.conf"), Tokens: filepath.Join(home, "tokens"), Fresh: true}
	err := os.MkdirAll(made.Tokens, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, made.Conf, "directories.tokendir = "+made.Tokens+"\nobjectstore.backend = file\nlog.level = ERROR\n")
	writeFile(t, made.pinFile(), made.PIN+"\n")
	made.change(t, nil, nil)
	made.Fresh = false
	return made
}

func (k *token) pinFile() string { return filepath.Join(filepath.Dir(k.Conf), "pin") }

func (k *token) environment() string { return "SOFTHSM2_CONF=" + k.Conf }

func (k *token) create(t testing.TB, keys ...pkcs11.NewKey) {
	t.Helper()
	k.change(t, keys, nil)
}

func (k *token) destroy(t testing.TB, keys ...keyID) {
	t.Helper()
	k.change(t, nil, keys)
}

func (k *token) change(t testing.TB, create []pkcs11.NewKey, destroy []keyID) {
	t.Helper()
	k.provide(t, provision{Create: create, Destroy: destroy})
}

// createOdd makes keys whose CKA_ID is a number of any length, or whose labels are not text.
func (k *token) createOdd(t testing.TB, keys ...pkcs11.NewKey) {
	t.Helper()
	var labels [][]byte
	for _, key := range keys {
		labels = append(labels, []byte(key.Label))
	}
	k.provide(t, provision{Create: keys, Labels: labels, Rule: hsm.VersionNumber})
}

func (k *token) provide(t testing.TB, what provision) {
	t.Helper()
	what.Module, what.Token = module, *k
	job, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), provisionEnv+"=1", k.environment())
	child.Stdin = bytes.NewReader(job)
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("token %s: %v\n%s", k.Label, err, out)
	}
}

func provisionChild() int {
	err := doProvision()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func doProvision() error {
	var job provision
	err := json.NewDecoder(os.Stdin).Decode(&job)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if job.Token.Fresh {
		err := pkcs11.InitToken(job.Module, job.Token.Label, "so-"+job.Token.PIN, job.Token.PIN)
		if err != nil {
			return err
		}
	}
	open, err := pkcs11.Open(ctx, pkcs11.Config{Module: job.Module, Token: job.Token.Label, PIN: pkcs11.Secret(job.Token.PIN), Profile: "softhsm", KeyVersion: job.Rule})
	if err != nil {
		return err
	}
	defer func() { _ = open.Close(ctx) }() // the process ends anyway
	for _, key := range job.Destroy {
		err := open.DestroyKey(ctx, key.Label, key.Version)
		if err != nil {
			return err
		}
	}
	for i, label := range job.Labels {
		job.Create[i].Label = string(label)
	}
	return open.CreateKeys(ctx, job.Create)
}

// newKey is an AES-256 key with a version, to be put on more than one token.
func newKey(label string, version uint32) pkcs11.NewKey {
	return pkcs11.NewKey{Label: label, Version: version, HasVersion: true, Value: randomBytes(32)}
}

// usable changes what a key may do.
func usable(key pkcs11.NewKey, usage hsm.Usage) pkcs11.NewKey {
	key.Usage = usage
	return key
}

// pair is two HSMs that hold the same keys.
type pair struct {
	Dir    string
	A, B   *token
	Values map[keyID][]byte // of all keys that were put on both
}

const testKey = "xks-proxy-test"

// newPair makes two tokens with the proxy's test key and these.
func newPair(t testing.TB, dir string, keys ...pkcs11.NewKey) *pair {
	t.Helper()
	p := &pair{Dir: dir, Values: map[keyID][]byte{}}
	p.A = newToken(t, dir, "hsm-a")
	p.B = newToken(t, dir, "hsm-b")
	p.create(t, append([]pkcs11.NewKey{newKey(testKey, 1)}, keys...)...)
	return p
}

// create puts the same keys on both.
func (p *pair) create(t testing.TB, keys ...pkcs11.NewKey) {
	t.Helper()
	p.A.create(t, keys...)
	p.B.create(t, keys...)
	for _, key := range keys {
		p.Values[keyID{key.Label, key.Version}] = key.Value
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return b
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	err := os.WriteFile(path, []byte(text), 0o600)
	if err != nil {
		t.Fatal(err)
	}
}

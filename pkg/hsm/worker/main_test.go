package worker

// The test binary is also the worker process, with a token that breaks on command.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/hsmtest"
)

// testSettings tell the process what to be.
type testSettings struct {
	Sessions int    `json:"sessions"`
	PIN      string `json:"pin"`
	Open     string `json:"open"` // what goes wrong when the token is opened; see openFake
	Null     bool   `json:"null"` // a token that does nothing, to measure the way there
}

// The words the test binary is started with.
const (
	argWorker = "hsm-worker" // is a worker process
	argParent = "parent"     // starts a worker, says its PID, and waits
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case argWorker:
			os.Exit(workerMain())
		case argParent:
			os.Exit(parentMain())
		}
	}
	os.Exit(m.Run())
}

func workerMain() int {
	conn, err := Conn()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	err = Serve(context.Background(), deafConn{conn}, openFake)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// openFake opens a token in the worker process, or fails as told.
func openFake(_ context.Context, raw json.RawMessage) (hsm.Token, int, error) {
	var s testSettings
	err := json.Unmarshal(raw, &s)
	if err != nil {
		return nil, 0, err
	}
	switch fault, detail, _ := strings.Cut(s.Open, ":"); fault {
	case "pin":
		return nil, 0, &hsm.Error{Op: "login", Function: "C_Login", Code: 0xA0, Kind: hsm.ErrPINIncorrect}
	case "no-token":
		return nil, 0, &hsm.Error{Op: "open", Kind: hsm.ErrTokenNotFound, Detail: "tokens that are there: b, c"}
	case "unavailable":
		return nil, 0, &hsm.Error{
			Op: "look at the token", Function: "C_GetTokenInfo", Code: 5, Kind: hsm.ErrUnavailable,
		}
	case "no-token-unless": // a file exists
		_, err := os.Stat(detail)
		if err != nil {
			return nil, 0, &hsm.Error{Op: "open", Kind: hsm.ErrTokenNotFound}
		}
	case "pin-unless":
		_, err := os.Stat(detail)
		if err != nil {
			return nil, 0, &hsm.Error{Op: "login", Kind: hsm.ErrPINIncorrect}
		}
	case "exit":
		fmt.Fprintln(os.Stderr, "libvendor: cannot read its own configuration")
		os.Exit(7)
	case "leak":
		leak(200 << 20)
		hangInKernel()
	case "hang":
		hangInKernel()
	case "hang-unless":
		_, err := os.Stat(detail)
		if err != nil {
			hangInKernel()
		}
	}
	if s.Null {
		return nullToken{}, s.Sessions, nil
	}
	t := hsmtest.New("fake")
	t.AddKey("key", 1)
	t.AddKey("key", 2)
	if s.Open == "slow keys" {
		return slowKeys{faultyToken{t}}, s.Sessions, nil
	}
	return faultyToken{t}, s.Sessions, nil
}

// slowKeys lists its keys in many steps of keysStep each.
type slowKeys struct{ faultyToken }

const (
	keysSteps = 20
	keysStep  = 100 * time.Millisecond
)

func (t slowKeys) Keys(ctx context.Context) ([]hsm.Object, error) {
	for range keysSteps {
		time.Sleep(keysStep)
		hsm.Progress(ctx)
	}
	return t.Token.Keys(ctx)
}

// hangInKernel blocks its thread as a hung PKCS#11 call does.
func hangInKernel() {
	for {
		_, _ = unix.Poll(nil, -1)
	}
}

// deafConn reads nothing any more once the token was told "deaf".
type deafConn struct{ net.Conn }

var deaf atomic.Bool

func (c deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if deaf.Load() {
		hangInKernel()
	}
	return n, err
}

// faultyToken takes labels like "exit" or "sleep:10ms" as commands.
type faultyToken struct{ *hsmtest.Token }

// loginTurn is what calls that need a login wait for, as in package pkcs11.
var loginTurn sync.Mutex

func (t faultyToken) Encrypt(ctx context.Context, key hsm.KeyRef, aad, plaintext []byte) (hsm.Sealed, error) {
	command, argument, _ := strings.Cut(key.Label, ":")
	switch command {
	case "exit":
		os.Exit(3)
	case "abort":
		_ = unix.Kill(os.Getpid(), unix.SIGABRT)
		hangInKernel()
	case "segv":
		_ = unix.Kill(os.Getpid(), unix.SIGSEGV)
		hangInKernel()
	case "panic":
		panic("the vendor's library is broken")
	case "hang":
		hangInKernel()
	case "hang in login":
		loginTurn.Lock()
		hangInKernel()
	case "log in":
		loginTurn.Lock()
		loginTurn.Unlock() // only the wait counts
	case "helpers":
		err := exec.Command("/bin/sh", "-c", startHelpers, argument).Run()
		if err != nil {
			return hsm.Sealed{}, err
		}
	case "deaf":
		deaf.Store(true)
	case "refuse":
		return hsm.Sealed{}, &hsm.Error{Op: "log in", Function: "C_Login", Code: 0xA0, Kind: hsm.ErrPINIncorrect}
	case "refuse late":
		time.Sleep(200 * time.Millisecond)
		return hsm.Sealed{}, &hsm.Error{Op: "log in", Kind: hsm.ErrPINLocked}
	case "leak":
		n, err := strconv.Atoi(argument) // MiB
		if err != nil {
			return hsm.Sealed{}, err
		}
		leak(n << 20)
	case "print":
		fmt.Println("libvendor: hello " + argument)
		fmt.Fprintln(os.Stderr, "libvendor: beware "+argument)
		fmt.Println(strings.Repeat("x", 10*maxLine))
	case "sleep":
		d, err := time.ParseDuration(argument)
		if err != nil {
			return hsm.Sealed{}, err
		}
		ts := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&ts, nil)
	case "ckr":
		return hsm.Sealed{}, &hsm.Error{Op: "encrypt", Function: "C_Encrypt", Code: 0x80000004, Kind: hsm.ErrUnavailable, Detail: "as told"}
	case "bare":
		return hsm.Sealed{}, errors.New("no *hsm.Error")
	default:
		return t.Token.Encrypt(ctx, key, aad, plaintext)
	}
	return hsm.Sealed{IV: make([]byte, hsm.IVSize), Tag: make([]byte, hsm.TagSize), Ciphertext: plaintext}, nil
}

func (t faultyToken) Find(ctx context.Context, label string) ([]hsm.Object, error) {
	command, argument, _ := strings.Cut(label, ":")
	switch command {
	case "many", "wide":
		n, err := strconv.Atoi(argument)
		if err != nil {
			return nil, err
		}
		prefix := "key-"
		if command == "wide" {
			prefix = strings.Repeat("k", 1000)
		}
		objects := make([]hsm.Object, n)
		for i := range objects {
			objects[i] = hsmtest.Object(prefix+strconv.Itoa(i), uint32(i))
		}
		return objects, nil
	case "files":
		return openFiles(), nil
	case "hang":
		hangInKernel()
	case "endless":
		defer func() { _ = os.WriteFile(argument, nil, 0o600) }()
		for ctx.Err() == nil {
			hsm.Progress(ctx)
			time.Sleep(time.Millisecond)
		}
		return nil, ctx.Err()
	}
	return t.Token.Find(ctx, label)
}

// leak takes memory that Go does not know of, as a library does.
func leak(size int) {
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
}

// openFiles lists the process's file descriptors: the label is the number, the
// type says what it is.
func openFiles() []hsm.Object {
	var open []hsm.Object
	for fd := range 256 {
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		if err != nil {
			continue
		}
		what := "other"
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFSOCK:
			what = "socket"
		case unix.S_IFIFO:
			what = "pipe"
		case unix.S_IFCHR:
			what = "device"
		case unix.S_IFREG:
			what = "file"
		}
		open = append(open, hsm.Object{Label: strconv.Itoa(fd), KeyType: what})
	}
	return open
}

// nullToken answers at once.
type nullToken struct{}

func (nullToken) Encrypt(_ context.Context, _ hsm.KeyRef, _, plaintext []byte) (hsm.Sealed, error) {
	return hsm.Sealed{IV: make([]byte, hsm.IVSize), Tag: make([]byte, hsm.TagSize), Ciphertext: plaintext}, nil
}

func (nullToken) Decrypt(_ context.Context, _ hsm.KeyRef, _ []byte, s hsm.Sealed) ([]byte, error) {
	return append([]byte(nil), s.Ciphertext...), nil
}

func (nullToken) Keys(context.Context) ([]hsm.Object, error)         { return nil, nil }
func (nullToken) Find(context.Context, string) ([]hsm.Object, error) { return nil, nil }
func (nullToken) Info() hsm.Info                                     { return hsm.Info{Label: "null"} }
func (nullToken) Close(context.Context) error                        { return nil }

// testConfig runs this binary as the worker process.
func testConfig(t testing.TB, s testSettings) Config {
	t.Helper()
	if s.Sessions == 0 {
		s.Sessions = 4
	}
	return Config{
		Name: "hsm-a", Command: []string{"/proc/self/exe", argWorker, "hsm-a"}, Settings: mustJSON(s),
		BackoffMin: 10 * time.Millisecond, BackoffMax: 200 * time.Millisecond,
	}
}

// startWorker starts a worker that is closed when the test ends.
func startWorker(t testing.TB, c Config) *Worker {
	t.Helper()
	w, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = w.Close(ctx)
	})
	return w
}

// readyWorker is startWorker for one that is expected to come up.
func readyWorker(t testing.TB, c Config) *Worker {
	t.Helper()
	w := startWorker(t, c)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := w.Ready(ctx)
	if err != nil {
		t.Fatalf("not ready: %v", err)
	}
	return w
}

// socketConns is a connected pair of Unix sockets.
func socketConns(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	one, file, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	two, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	t.Cleanup(func() { _ = one.Close(); _ = two.Close() })
	return one, two
}

// parentMain is a parent between the test and a worker. It says "PID\n" and waits to be
// killed. Its word is "idle", "hang" (calls hang in the worker), "deaf" (a worker that
// does not notice the end of its socket) or "frozen" (see frozenMain).
func parentMain() int {
	c := Config{Name: "grandchild", Command: []string{"/proc/self/exe", argWorker, "grandchild"}, Settings: mustJSON(testSettings{Sessions: 2})}
	word := os.Args[2]
	if word == "frozen" {
		return frozenMain()
	}
	if word == "deaf" {
		c.Command, c.StartTimeout = []string{"/bin/sleep", "1000"}, time.Hour
	}
	w, err := Start(c)
	if err == nil && word != "deaf" {
		err = w.Ready(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if len(os.Args) > 3 {
		_, _ = w.Encrypt(context.Background(), command("helpers:"+os.Args[3]), nil, nil)
	}
	if word == "hang" {
		for range 2 {
			go func() { _, _ = w.Encrypt(context.Background(), command("hang"), nil, nil) }()
		}
	}
	time.Sleep(100 * time.Millisecond)
	fmt.Println(w.State().PID)
	hangInKernel()
	return 0
}

package pkcs11

// Tests run on real SoftHSM tokens, all in one configuration of their own. Without
// SoftHSM they fail. The test binary also plays "another process" on a token.

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/test/faulty"
)

const (
	testPIN   = "481516"
	testSOPIN = "2342-so"
	childEnv  = "XKS_PKCS11_TEST_CHILD"
)

var (
	testModule string // path of libsofthsm2.so
	tokenDir   string // where SoftHSM keeps its tokens
)

func TestMain(m *testing.M) {
	testModule = findSoftHSM()
	if job := os.Getenv(childEnv); job != "" {
		os.Exit(runChild(job))
	}
	dir, err := os.MkdirTemp(fastDir(), "xks-pkcs11-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	tokenDir = filepath.Join(dir, "tokens")
	err = writeSoftHSMConfig(dir, tokenDir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	leastProofTime, mostProofTime = 2*time.Second, 2*time.Second // TestProofTime has the real ones
	status := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

// writeSoftHSMConfig must come before the module is loaded.
func writeSoftHSMConfig(dir, tokens string) error {
	err := os.MkdirAll(tokens, 0o700)
	if err != nil {
		return err
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	text := "directories.tokendir = " + tokens + "\nobjectstore.backend = file\nlog.level = ERROR\n"
	err = os.WriteFile(conf, []byte(text), 0o600)
	if err != nil {
		return err
	}
	return os.Setenv("SOFTHSM2_CONF", conf)
}

// builtModule is the faulty module, compiled when the first test asks for it.
var builtModule struct {
	sync.Once
	path string
	err  error
}

func faultyModule(t testing.TB) string {
	t.Helper()
	builtModule.Do(func() { builtModule.path, builtModule.err = faulty.Build(context.Background(), filepath.Dir(tokenDir)) })
	if builtModule.err != nil {
		t.Fatal(builtModule.err)
	}
	return builtModule.path
}

// fastDir is a directory in memory where there is one: SoftHSM writes to disk.
func fastDir() string {
	info, err := os.Stat("/dev/shm")
	if err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// findSoftHSM gives the path of the module, or the first place it should be: the
// tests then fail with what Open says of it.
func findSoftHSM() string {
	places := []string{
		"/usr/lib/softhsm/libsofthsm2.so",
		"/usr/lib64/pkcs11/libsofthsm2.so",
		"/usr/lib64/softhsm/libsofthsm2.so",
		"/usr/local/lib/softhsm/libsofthsm2.so",
		"/opt/homebrew/lib/softhsm/libsofthsm2.so",
	}
	for _, place := range places {
		_, err := os.Stat(place)
		if err == nil {
			return place
		}
	}
	return places[0]
}

var labels atomic.Int64

// newTestToken makes a token and gives the configuration to open it and the directory it
// lives in.
func newTestToken(t testing.TB) (Config, string) {
	t.Helper()
	label := "test-" + strconv.FormatInt(labels.Add(1), 10) + "-" + strconv.Itoa(os.Getpid())
	before := tokenDirs(t)
	err := InitToken(testModule, label, testSOPIN, testPIN)
	if err != nil {
		t.Fatalf("make a SoftHSM token (is softhsm2 installed?): %v", err)
	}
	var made []string
	for _, dir := range tokenDirs(t) {
		if !slices.Contains(before, dir) {
			made = append(made, dir)
		}
	}
	if len(made) != 1 {
		t.Fatalf("new token directories: %v", made)
	}
	return Config{Module: testModule, Token: label, PIN: testPIN, Profile: "softhsm", TestKey: "canary-key"}, made[0]
}

func tokenDirs(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir(tokenDir)
	if err != nil {
		t.Fatal(err)
	}
	dirs := make([]string, len(entries))
	for i, entry := range entries {
		dirs[i] = filepath.Join(tokenDir, entry.Name())
	}
	return dirs
}

// openTest opens the token and closes it when the test ends.
func openTest(t testing.TB, c Config) *Token {
	t.Helper()
	token, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	<-token.prepared // so that no test meets it
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err := token.Close(ctx)
		if err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return token
}

// openWith makes a token, opens it and creates keys.
func openWith(t testing.TB, keys ...NewKey) *Token {
	t.Helper()
	c, _ := newTestToken(t)
	token := openTest(t, c)
	err := token.CreateKeys(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// childJob is what another process does on a token.
type childJob struct {
	Config  Config
	Action  string // "create", "destroy", "use"
	Label   string
	Version uint32
}

// inAnotherProcess does the job in a process of its own.
func inAnotherProcess(t testing.TB, job childJob) {
	t.Helper()
	text, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("other process: %v\n%s", err, out)
	}
}

func runChild(text string) int {
	err := doChildJob(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func doChildJob(text string) error {
	var job childJob
	err := json.Unmarshal([]byte(text), &job)
	if err != nil {
		return err
	}
	ctx := context.Background()
	token, err := Open(ctx, job.Config)
	if err != nil {
		return err
	}
	defer func() { _ = token.Close(ctx) }()
	switch job.Action {
	case "use":
		return useKey(ctx, token, hsm.KeyRef{Label: job.Label, Version: job.Version})
	case "destroy":
		return token.DestroyKey(ctx, job.Label, job.Version)
	}
	return token.CreateKeys(ctx, []NewKey{{Label: job.Label, Version: job.Version, HasVersion: true}})
}

// useKey lists the keys, encrypts and decrypts.
func useKey(ctx context.Context, token *Token, key hsm.KeyRef) error {
	_, err := token.Keys(ctx)
	if err != nil {
		return err
	}
	sealed, err := token.Encrypt(ctx, key, nil, []byte("x"))
	if err != nil {
		return err
	}
	_, err = token.Decrypt(ctx, key, nil, sealed)
	return err
}

func ref(label string, version uint32) hsm.KeyRef { return hsm.KeyRef{Label: label, Version: version} }

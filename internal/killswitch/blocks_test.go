package killswitch

// The kill switch's list and its file: in effect before remembered, remembered before answered, and
// never half a file.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/internal/testkit"
	"xks-proxy/pkg/xks"
)

// enforced keeps the blocks that are in effect.
type enforced struct {
	mu     sync.Mutex
	blocks xks.Blocks
}

// SetBlocks implements blocker.
func (e *enforced) SetBlocks(b xks.Blocks) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.blocks = b
}

func (e *enforced) now() xks.Blocks {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.blocks
}

func blockOf(keyStore, key string) Block {
	return Block{
		BlockTarget: BlockTarget{KeyStore: keyStore, Key: key},
		By:          "alice",
		UID:         1000,
		Since:       time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC),
		Reason:      "case 4711",
	}
}

func mustOpen(t *testing.T, directory string) *Switch {
	t.Helper()
	k, err := Open(directory, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func mustAdd(t *testing.T, k *Switch, b Block) {
	t.Helper()
	stands, before, err := k.Add(t.Context(), b)
	if err != nil || before || stands != b {
		t.Fatalf("%+v, %t, %v", stands, before, err)
	}
}

// Who deletes the file of a running proxy does not know that the next start would unblock: status
// and metrics say so, until the order is given again.
func TestBlocksFileDeleted(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "state")
	k := mustOpen(t, directory)
	if _, unsaved := k.Look(); unsaved != nil {
		t.Errorf("nothing is blocked: %v", unsaved)
	}
	mustAdd(t, k, blockOf("finance", ""))
	err := os.RemoveAll(directory)
	if err != nil {
		t.Fatal(err)
	}
	if blocks, unsaved := k.Look(); len(blocks) != 1 || unsaved == nil ||
		unsaved.Error() != k.path+" was deleted while the proxy ran" {
		t.Errorf("%v, %v", blocks, unsaved)
	}
	_, before, err := k.Add(t.Context(), blockOf("finance", ""))
	if err != nil || !before {
		t.Fatal(before, err)
	}
	if blocks, unsaved := k.Look(); unsaved != nil ||
		len(mustOpen(t, directory).blocks) != len(blocks) {
		t.Errorf("after the order was given again: %v", unsaved)
	}
}

// What is blocked is blocked after a restart, with all that is known of it, and before the first
// request.
func TestBlocksSurviveARestart(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "state")
	k := mustOpen(t, directory)
	before := []Block{
		blockOf("finance", ""),
		blockOf("payroll", "key-1"),
		blockOf("", "label of any kind ü"),
	}
	for _, b := range before {
		mustAdd(t, k, b)
	}
	again := mustOpen(t, directory)
	after, unsaved := again.List()
	if fmt.Sprint(after) != fmt.Sprint(before) || unsaved != nil || after[0] != before[0] {
		t.Errorf("%+v, want %+v (%v)", after, before, unsaved)
	}
	enforcer := &enforced{}
	again.Attach(enforcer)
	b := enforcer.now()
	if len(b.KeyStores) != 1 || !b.KeyStores["finance"] || len(b.Keys) != 2 ||
		!b.Keys[xks.BlockedKey{KeyStore: "payroll", Key: "key-1"}] ||
		!b.Keys[xks.BlockedKey{Key: "label of any kind ü"}] {
		t.Errorf("in effect: %+v", b)
	}
	removed, err := again.Remove(t.Context(), before[1].BlockTarget)
	if len(removed) != 1 || removed[0] != before[1] || err != nil {
		t.Fatalf("%v, %v", removed, err)
	}
	if left, _ := mustOpen(t, directory).List(); len(left) != 2 {
		t.Errorf("after an unblock and a restart: %+v", left)
	}
	info, err := os.Stat(filepath.Join(directory, FileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, mode %v", err, info.Mode())
	}
}

// The file is written after the block is in effect, and a file that cannot be written changes
// nothing about that.
func TestBlockThatCannotBeSaved(t *testing.T) {
	k := mustOpen(t, t.TempDir())
	enforcer := &enforced{}
	k.Attach(enforcer)
	mustAdd(t, k, blockOf("finance", ""))
	good := k.Write
	failure := errors.New("no space left on device")
	k.Write = func(string, []byte) error {
		if !enforcer.now().KeyStores["payroll"] {
			t.Error("the file is written before the block is in effect")
		}
		return failure
	}
	_, _, err := k.Add(t.Context(), blockOf("payroll", ""))
	if !errors.Is(err, ErrUnsaved) || !errors.Is(err, failure) {
		t.Fatalf("%v", err)
	}
	if _, unsaved := k.List(); !errors.Is(unsaved, failure) {
		t.Errorf("unsaved: %v", unsaved)
	}
	_, err = k.Remove(t.Context(), BlockTarget{KeyStore: "payroll"})
	if !errors.Is(err, failure) || !enforcer.now().KeyStores["payroll"] {
		t.Errorf("an unblock that cannot be saved: %v, %+v", err, enforcer.now())
	}
	k.Write = good
	stands, before, err := k.Add(t.Context(), blockOf("payroll", "")) // given again, it is saved
	if err != nil || !before || stands.KeyStore != "payroll" {
		t.Errorf("%+v, %t, %v", stands, before, err)
	}
	if _, unsaved := k.List(); unsaved != nil {
		t.Errorf("still unsaved: %v", unsaved)
	}
	k.Write = func(path string, data []byte) error {
		if !enforcer.now().KeyStores["payroll"] {
			t.Error("unblocked before that is remembered")
		}
		return good(path, data)
	}
	_, err = k.Remove(t.Context(), BlockTarget{KeyStore: "payroll"})
	if err != nil || enforcer.now().KeyStores["payroll"] || !enforcer.now().KeyStores["finance"] {
		t.Errorf("%v, %+v", err, enforcer.now())
	}
}

// A disk that hangs delays no block, and the operator is told.
func TestBlockOnADiskThatHangs(t *testing.T) {
	directory := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := mustOpen(t, directory)
		enforcer := &enforced{}
		k.Attach(enforcer)
		let := make(chan struct{})
		k.Write = func(string, []byte) error { <-let; return nil }
		_, _, err := k.Add(t.Context(), blockOf("finance", ""))
		if !errors.Is(err, ErrUnsaved) || !enforcer.now().KeyStores["finance"] {
			t.Errorf("%v, in effect: %+v", err, enforcer.now())
		}
		_, _, _, err = k.put(
			t.Context(),
			blockOf("payroll", ""),
		) // what comes first of a second order
		if err != nil || !enforcer.now().KeyStores["payroll"] {
			t.Errorf("%v, in effect: %+v", err, enforcer.now())
		}
		close(let)
	})
}

// Whatever is damaged in the file: nothing is served.
func TestDamagedBlocksFile(t *testing.T) {
	good := `{"format":1,"blocks":[{"keyStore":"finance","by":"alice","uid":1000,` +
		`"since":"2026-11-22T03:04:05Z"}]}`
	directory := t.TempDir()
	path := filepath.Join(directory, FileName)
	testkit.WriteFile(t, path, good, 0o600)
	if blocks, _ := mustOpen(t, directory).List(); len(blocks) != 1 {
		t.Fatalf("the good file: %+v", blocks)
	}
	for name, text := range map[string]string{
		"empty":             "",
		"cut":               good[:len(good)-20],
		"zeros":             strings.Repeat("\x00", len(good)),
		"another file":      `{"format":1}`,
		"null":              `{"format":1,"blocks":null}`,
		"newer":             strings.Replace(good, `"format":1`, `"format":2`, 1),
		"unknown field":     strings.Replace(good, `"uid"`, `"until":"2027","uid"`, 1),
		"no target":         strings.Replace(good, `"keyStore":"finance",`, ``, 1),
		"no name":           strings.Replace(good, `finance`, `fin ance`, 1),
		"control character": strings.Replace(good, `"by"`, `"key":"a\u0007","by"`, 1),
		"long reason": strings.Replace(
			good, `"by"`, `"reason":"`+strings.Repeat("x", maxReason+1)+`","by"`, 1,
		),
		"rubbish behind": good + "{}",
	} {
		t.Run(name, func(t *testing.T) {
			testkit.WriteFile(t, path, text, 0o600)
			_, err := Open(directory, zap.NewNop())
			if err == nil || !strings.Contains(err.Error(), path) ||
				!strings.Contains(err.Error(), "refusing to start") ||
				!strings.Contains(err.Error(), "restore the file, or delete it") {
				t.Errorf("%v", err)
			}
		})
	}
	err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(directory, zap.NewNop())
	if err == nil {
		t.Error("a directory was read as a file without blocks")
	}
}

// Each start names the blocks in effect, and not ten thousand of them.
func TestBlocksAreLoggedAtStart(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	var many []Block
	for i := range 300 {
		many = append(many, blockOf(fmt.Sprintf("store-%d", i), ""))
	}
	logBlocks(zap.New(core), many)
	logBlocks(zap.New(core), nil)
	lines := logs.All()
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	got := lines[0].ContextMap()
	names, _ := got["what"].([]any)
	if got["blocks"] != int64(300) || len(names) != maxLoggedBlocks ||
		names[0] != "key store store-0" ||
		got["not_named"] != int64(280) {
		t.Errorf("%v", got)
	}
}

// Orders from many sides leave one truth: in effect, in the list and in the file.
func TestBlocksAtOnce(t *testing.T) {
	directory := t.TempDir()
	k := mustOpen(t, directory)
	enforcer := &enforced{}
	k.Attach(enforcer)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 5 {
				b := blockOf(fmt.Sprintf("store-%d", (i+j)%6), "")
				_, _, err := k.Add(t.Context(), b)
				if err != nil {
					t.Error(err)
				}
				if j%2 == 0 {
					_, err = k.Remove(t.Context(), b.BlockTarget)
				}
				if err != nil && !errors.Is(err, ErrBlockedAgain) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	blocks, _ := k.List()
	saved, _ := mustOpen(t, directory).List()
	if len(saved) != len(blocks) || len(enforcer.now().KeyStores) != len(blocks) {
		t.Errorf(
			"in the list %d, in the file %d, in effect %d",
			len(blocks),
			len(saved),
			len(enforcer.now().KeyStores),
		)
	}
	for _, b := range blocks {
		if _, found := findBlock(saved, b.BlockTarget); !found ||
			!enforcer.now().KeyStores[b.KeyStore] {
			t.Errorf("%s is not everywhere", b)
		}
	}
}

func TestMostBlocks(t *testing.T) {
	k := mustOpen(t, "")
	for i := range maxBlocks {
		k.blocks = append(k.blocks, blockOf("", fmt.Sprint("key-", i)))
	}
	_, _, err := k.Add(t.Context(), blockOf("finance", ""))
	if !errors.Is(err, ErrTooManyBlocks) {
		t.Errorf("%v", err)
	}
}

func FuzzParseBlocks(f *testing.F) {
	f.Add(
		[]byte(
			`{"format":1,"blocks":[{"keyStore":"finance","by":"alice","uid":1000,` +
				`"since":"2026-11-22T03:04:05Z"}]}`,
		),
	)
	f.Add(
		[]byte(
			`{"format":1,"blocks":[{"key":"a","reason":"b","by":"","uid":-1,` +
				`"since":"0001-01-01T00:00:00Z"}]}`,
		),
	)
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		blocks, err := parseBlocks(data)
		if err != nil {
			return
		}
		for _, b := range blocks {
			if b.Check() != nil || CheckReason(b.Reason) != nil {
				t.Errorf("taken: %+v", b)
			}
		}
	})
}

// A file that others could have changed, or that is none, is not trusted: somebody may have
// unblocked himself.
func TestBlocksFileThatOthersCanChange(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"others can change": func(path string) error {
			return errors.Join(
				os.WriteFile(path, []byte(`{"format":1,"blocks":[]}`), 0o600),
				os.Chmod(path, 0o646),
			)
		},
		"is not a regular file": func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		directory := t.TempDir()
		if err := make(filepath.Join(directory, FileName)); err != nil {
			t.Fatal(err)
		}
		_, err := Open(directory, zap.NewNop())
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

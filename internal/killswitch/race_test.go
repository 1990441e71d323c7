package killswitch

// Orders that meet: each case here is one that the model finds as well, for a reader of what went
// wrong.

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/peer"
)

// callerPatience is how long one who gives an order waits at least for what the disk does.
const callerPatience = 4 * time.Second

// slowSwitch is a kill switch whose writes wait for the test.
func slowSwitch() (*Switch, *modelDisk, *enforced) {
	disk, enforcer := new(modelDisk), new(enforced)
	k := New("blocks.json", disk.write, zap.NewNop())
	k.Attach(enforcer)
	return k, disk, enforcer
}

// write lets every write that waits succeed.
func (d *modelDisk) writeAll() {
	synctest.Wait()
	for len(d.pending) > 0 {
		d.decide(true, nil)
		synctest.Wait()
	}
}

// Whoever blocks what is just being unblocked hears that it is blocked, and it is.
func TestBlockDuringAnUnblock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk, enforcer := slowSwitch()
		finance := BlockTarget{KeyStore: "finance"}
		go func() { _, _, _ = k.Add(t.Context(), blockOf("finance", "")) }()
		disk.writeAll()
		unblocked := make(chan []Block, 1)
		go func() {
			removed, err := k.Remove(t.Context(), finance)
			if !errors.Is(err, ErrBlockedAgain) {
				t.Error(err)
			}
			unblocked <- removed
		}()
		synctest.Wait() // the file without the block is being written
		again := blockOf("finance", "")
		again.By = "bob"
		blocked := make(chan bool, 1)
		go func() {
			stands, before, err := k.Add(t.Context(), again)
			if err != nil || stands.By != "bob" {
				t.Errorf("%v, %v", stands, err)
			}
			blocked <- before
		}()
		disk.writeAll()
		if before, removed := <-blocked, <-unblocked; before || len(removed) != 0 ||
			!enforcer.now().KeyStores["finance"] {
			t.Errorf(
				"blocked already: %t; taken back: %v; in effect: %v",
				before,
				removed,
				enforcer.now(),
			)
		}
		if inFile, err := parseBlocks(disk.content); err != nil || len(inFile) != 1 ||
			inFile[0].By != "bob" {
			t.Errorf("a restart would block %v, %v", inFile, err)
		}
		k.Close()
	})
}

// A key store that was renamed is unblocked by its new name, once and for all; by its old name
// nobody is misled.
func TestUnblockAfterARename(t *testing.T) {
	for _, key := range []string{"", "key-1"} {
		directory := t.TempDir()
		k := mustOpen(t, directory)
		enforcer := &enforced{}
		k.Attach(enforcer)
		follow := func(paths map[string]string) {
			t.Helper()
			err := k.Follow(paths, zap.NewNop(), served)
			if err != nil {
				t.Fatal(err)
			}
		}
		follow(storesAt("payroll", "/p", "tax", "/t"))
		_, _, err := k.Add(t.Context(), blockOf("payroll", key))
		if err != nil {
			t.Fatal(err)
		}
		renamed := storesAt("records", "/p", "tax", "/t")
		follow(renamed)
		_, err = k.Remove(t.Context(), BlockTarget{KeyStore: "payroll", Key: key})
		var e *RenamedError
		if !errors.As(err, &e) || e.Now != "records" {
			t.Errorf("by its old name: %v", err)
		}
		removed, err := k.Remove(t.Context(), BlockTarget{KeyStore: "records", Key: key})
		if err != nil || len(removed) != 2 {
			t.Errorf("by its new name: %v, %v", removed, err)
		}
		for range 2 {
			if b := enforcer.now(); len(b.KeyStores)+len(b.Keys) != 0 {
				t.Errorf("in effect: %+v", b)
			}
			follow(renamed) // for another reason
		}
		follow(storesAt("payroll", "/p", "tax", "/t"))
		if blocks, _ := mustOpen(t, directory).List(); len(blocks) != 0 ||
			len(enforcer.now().KeyStores) != 0 {
			t.Errorf("renamed back: %v", blocks)
		}
	}
}

// A reload that fails changes nothing about what is blocked, and what follows a path does so at
// every moment.
func TestFollowOfAReloadThatFails(t *testing.T) {
	k := mustOpen(t, "")
	enforcer := &enforced{}
	k.Attach(enforcer)
	err := k.Follow(storesAt("payroll", "/p", "tax", "/t"), zap.NewNop(), served)
	if err != nil {
		t.Fatal(err)
	}
	mustAddAny(t, k, blockOf("payroll", ""))
	before, _ := k.List()
	failure := errors.New("cannot be served")
	err = k.Follow(storesAt("tax", "/p", "payroll", "/t"), zap.NewNop(), func() error {
		if b := enforcer.now(); !b.KeyStores["/p/kms/xks/v1"] || !b.KeyStores["payroll"] {
			t.Errorf("while the configuration changes: %+v", b)
		}
		return failure
	})
	if after, _ := k.List(); !errors.Is(err, failure) || len(after) != 1 || after[0] != before[0] ||
		enforcer.now().KeyStores["tax"] {
		t.Errorf("%v: %v, in effect %+v", err, after, enforcer.now())
	}
}

func mustAddAny(t *testing.T, k *Switch, b Block) {
	t.Helper()
	_, _, err := k.Add(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
}

// Nobody waits for the answer any more: nothing is carried out, not even later.
func TestOrdersOfCallersWhoAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk, enforcer := slowSwitch()
		gone, cancel := context.WithCancel(t.Context())
		go func() { _, _, _ = k.Add(t.Context(), blockOf("finance", "")) }()
		disk.writeAll()
		ended := make(chan error, 1)
		go func() {
			_, err := k.Remove(gone, BlockTarget{KeyStore: "finance"})
			ended <- err
		}()
		synctest.Wait()
		cancel()
		disk.writeAll()
		if err := <-ended; !errors.Is(err, peer.ErrGone) || !enforcer.now().KeyStores["finance"] {
			t.Errorf("unblock: %v, in effect %+v", err, enforcer.now())
		}
		_, _, err := k.Add(gone, blockOf("payroll", ""))
		if !errors.Is(err, peer.ErrGone) || enforcer.now().KeyStores["payroll"] {
			t.Errorf("block: %v, in effect %+v", err, enforcer.now())
		}
		if inFile, err := parseBlocks(disk.content); err != nil || len(inFile) != 1 ||
			inFile[0].KeyStore != "finance" {
			t.Errorf("a restart would block %v, %v", inFile, err)
		}
		k.Close()
	})
}

// An unblock that the disk does not answer fails in time, is not carried out later, and the file is
// set right.
func TestUnblockOnADiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk, enforcer := slowSwitch()
		go func() { _, _, _ = k.Add(t.Context(), blockOf("finance", "")) }()
		disk.writeAll()
		began := time.Now()
		_, err := k.Remove(t.Context(), BlockTarget{KeyStore: "finance"})
		if !errors.Is(err, errSlowDisk) || time.Since(began) > callerPatience {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		disk.writeAll() // the old write comes through
		inFile, err := parseBlocks(disk.content)
		if err != nil || len(inFile) != 1 || !enforcer.now().KeyStores["finance"] {
			t.Errorf("in the file %v, %v; in effect %+v", inFile, err, enforcer.now())
		}
		if _, unsaved := k.List(); unsaved != nil {
			t.Errorf("unsaved: %v", unsaved)
		}
		k.Close()
	})
}

// A disk that was full is tried again, without anybody doing anything.
func TestBlocksAreSavedWhenTheDiskIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk, _ := slowSwitch()
		go func() { _, _, _ = k.Add(t.Context(), blockOf("finance", "")) }()
		synctest.Wait()
		disk.decide(false, errModelDisk)
		synctest.Wait()
		if _, unsaved := k.List(); unsaved == nil {
			t.Error("the disk has failed, and nobody says so")
		}
		time.Sleep(saveInterval)
		disk.writeAll()
		if inFile, err := parseBlocks(disk.content); err != nil || len(inFile) != 1 {
			t.Errorf("%v, %v", inFile, err)
		}
		if _, unsaved := k.List(); unsaved != nil {
			t.Errorf("unsaved: %v", unsaved)
		}
		k.Close()
	})
}

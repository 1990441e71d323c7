package group_test

// Tests of one group taking the place of another: what it knows at once, and who writes to the
// state directory.

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

// after makes a group the provisional successor of another.
func after(g *group.Group) option {
	return func(c *group.Config) { c.Predecessor, c.Provisional = g, true }
}

// rememberedLabels are the labels in the file of an HSM.
func rememberedLabels(t *testing.T, dir, hsmName string) []string {
	t.Helper()
	data, err := os.ReadFile(onlyFile(t, dir, hsmName))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Objects []hsm.Object }
	err = json.Unmarshal(data, &file)
	if err != nil {
		t.Fatal(err)
	}
	var labels []string
	for _, o := range file.Objects {
		labels = append(labels, o.Label)
	}
	slices.Sort(labels)
	return slices.Compact(labels)
}

// A successor knows the keys of an HSM that is away, with no state directory: what is encrypted
// stays readable on it.
func TestSuccessorKnowsTheKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		old := start(t, tokens)
		tokens[1].SetHook(down)
		tokens[0].AddKey("k", 2)
		time.Sleep(time.Minute)
		next := start(t, tokens, after(old))
		if version, err := encryptVersion(t, next, "k"); err != nil || version != 1 {
			t.Errorf("version %d, %v; b has version 1 only", version, err)
		}
		old.Close()
		next.TakeOver()
		if version, err := encryptVersion(t, next, "k"); err != nil || version != 1 {
			t.Errorf("after it took over: version %d, %v", version, err)
		}
	})
}

// A key that was on every HSM and is lost on one still encrypts after the group was replaced; with
// an HSM more, which never had it, it does not.
func TestSuccessorKnowsLostKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(3)
		old := start(t, tokens[:2])
		tokens[1].RemoveKey("k")
		time.Sleep(time.Minute)
		next := start(t, tokens[:2], after(old))
		if version, err := encryptVersion(t, next, "k"); err != nil || version != 1 {
			t.Errorf("version %d, %v", version, err)
		}
		larger := start(t, tokens, after(next))
		_, err := encryptVersion(t, larger, "k")
		wantError(t, err, catalogue.ErrIncomplete)
	})
}

// What a group finds to differ while its successor prepares is known to that one when it takes
// over, and to the next start.
func TestSuccessorKnowsWhatWasFoundLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		tokens := newTokens(2)
		old := start(t, tokens, withCrossChecks, rememberIn(dir))
		next := start(t, tokens, rememberIn(dir), after(old)) // that compares nothing
		tokens[1].RemoveKey("k")
		otherMaterial(tokens[1], "k", 1)
		time.Sleep(2 * time.Minute)
		wantFound(t, old, "key material differs: k 1 [a b]")
		next.TakeOver()
		_, err := encryptVersion(t, next, "k")
		wantError(t, err, catalogue.ErrIncomplete)
		old.Close()
		next.Close()
		wantFound(t, start(t, tokens, rememberIn(dir)), "key material differs: k 1 [a b]")
	})
}

// The state directory is written by the group that serves, and by no other.
func TestOneGroupRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		before, now := newTokens(2), newTokens(2)
		now[1] = hsmtest.New("b") // another token of the same name
		now[1].AddKey(testKey, 0)
		now[1].AddKey("other", 1)
		now[0] = before[0]
		old := start(t, before, rememberIn(dir))
		next := start(t, now, rememberIn(dir), after(old))
		time.Sleep(time.Minute)
		if got := rememberedLabels(t, dir, "b"); !slices.Equal(got, []string{"k", testKey}) {
			t.Errorf("before the successor took over: %v", got)
		}
		next.TakeOver()
		time.Sleep(time.Second)
		want := []string{"other", testKey}
		if got := rememberedLabels(t, dir, "b"); !slices.Equal(got, want) {
			t.Errorf("after it took over: %v, want %v", got, want)
		}
		before[1].AddKey("late", 1) // the old group sees it, and must not say so
		time.Sleep(2 * time.Minute)
		if got := rememberedLabels(t, dir, "b"); !slices.Equal(got, want) {
			t.Errorf("the old group wrote: %v, want %v", got, want)
		}
		old.Close()
		now[1].AddKey("new", 1)
		time.Sleep(time.Minute)
		if got := rememberedLabels(t, dir, "b"); !slices.Contains(got, "new") {
			t.Errorf("the new group does not write: %v", got)
		}
	})
}

// A successor that never took over leaves no trace.
func TestAbandonedSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		tokens := newTokens(2)
		old := start(t, tokens, rememberIn(dir))
		time.Sleep(time.Second)
		file := onlyFile(t, dir, "b")
		was, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		other := hsmtest.New("b")
		other.AddKey(testKey, 0)
		next := start(t, []*hsmtest.Token{tokens[0], other}, rememberIn(dir), after(old))
		time.Sleep(time.Minute)
		next.Close()
		is, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(was, is) {
			t.Errorf("%v; the file was\n%s\nand is\n%s", err, was, is)
		}
		tokens[1].AddKey("later", 1)
		time.Sleep(time.Minute)
		if got := rememberedLabels(t, dir, "b"); !slices.Contains(got, "later") {
			t.Errorf("the old group has stopped to write: %v", got)
		}
	})
}

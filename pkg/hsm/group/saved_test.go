package group_test

// Tests of what a group keeps across restarts (design, "The HSM is the source of truth").

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

func rememberIn(dir string) option {
	return func(c *group.Config) { c.StateDirectory = dir }
}

func encryptVersion(t *testing.T, g *group.Group, label string) (uint32, error) {
	t.Helper()
	key, err := g.Key(inBudget(t), label)
	if err != nil {
		t.Fatal(err)
	}
	return key.EncryptVersion()
}

// onlyFile is the one file in dir about an HSM.
func onlyFile(t *testing.T, dir string, hsmName string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "catalogue-*@"+hsmName+".json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("got %v, %v", files, err)
	}
	return files[0]
}

// TestRestartWithOneAway: Encrypt stays with the version that the HSM which is
// away had when last seen.
func TestRestartWithOneAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state") // made when needed
		tokens := newTokens(2)
		g := start(t, tokens, rememberIn(dir))
		g.Close()

		tokens[0].AddKey("k", 2)
		tokens[0].AddKey("only a", 1)
		tokens[1].SetHook(down)
		g = start(t, tokens, rememberIn(dir))
		if version, err := encryptVersion(t, g, "k"); err != nil || version != 1 {
			t.Fatalf("got %d, %v; b has version 1 only", version, err)
		}
		_, err := encryptVersion(t, g, "only a")
		wantError(t, err, catalogue.ErrIncomplete)
		g.Close()

		// Without the file nothing holds it back: that is what the file is for.
		g = start(t, tokens)
		if version, err := encryptVersion(t, g, "k"); err != nil || version != 2 {
			t.Fatalf("got %d, %v", version, err)
		}
		g.Close()

		// Back, and seen: what it really has counts again.
		tokens[1].SetHook(nil)
		tokens[1].AddKey("k", 2)
		g = start(t, tokens, rememberIn(dir))
		if version, err := encryptVersion(t, g, "k"); err != nil || version != 2 {
			t.Fatalf("got %d, %v", version, err)
		}
	})
}

// TestSavesWhatALookupFound: keys that a look-up put into the catalogue are remembered as well.
func TestSavesWhatALookupFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		tokens := newTokens(2)
		g := start(t, tokens, rememberIn(dir))
		for _, token := range tokens {
			token.AddKey("new", 1)
		}
		_, err := g.Key(inBudget(t), "new")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		g.Close()
		tokens[1].SetHook(down)
		g = start(t, tokens, rememberIn(dir))
		if version, err := encryptVersion(t, g, "new"); err != nil || version != 1 {
			t.Fatalf("got %d, %v: b has had the key for a minute", version, err)
		}
	})
}

// TestCatalogueFile: what is in it, who may read it, and what is not.
func TestCatalogueFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		token := newToken("a")
		secret := bytes.Repeat([]byte("SECRET.."), 4)
		token.AddObject(hsmtest.Object("s", 3), secret)
		g := start(t, []*hsmtest.Token{token}, rememberIn(dir))
		g.Close()
		path := onlyFile(t, dir, "a")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, secret[:8]) {
			t.Error("key material is in the file")
		}
		var content struct {
			Format  int
			HSM     string
			Serial  string
			Seen    time.Time
			Objects []hsm.Object
		}
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.DisallowUnknownFields()
		err = decoder.Decode(&content)
		if err != nil || content.Format != 1 || content.HSM != "a" || content.Serial != "mem-a" ||
			!content.Seen.Equal(time.Now()) ||
			len(content.Objects) != 3 {
			t.Errorf("got %+v, %v", content, err)
		}
		for name, want := range map[string]os.FileMode{path: 0o600, dir: 0o700} {
			info, err := os.Stat(name)
			if err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 {
			t.Errorf("left behind: %v, %v", entries, err)
		}
		if !catalogue.HasSavedCatalogue(dir, "pair", "a") ||
			catalogue.HasSavedCatalogue(dir, "pair", "b") ||
			catalogue.HasSavedCatalogue("", "pair", "a") {
			t.Error("Remembered is wrong")
		}
	})
}

// TestCatalogueFileIsReplacedWhole: the file is always one whole catalogue, the old one or the new.
func TestCatalogueFileIsReplacedWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		token := newToken("a")
		start(t, []*hsmtest.Token{token}, rememberIn(dir))
		path := onlyFile(t, dir, "a")
		before, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer before.Close()
		token.AddKey("k", 2)
		time.Sleep(31 * time.Second)
		was, err := before.Stat()
		if err != nil {
			t.Fatal(err)
		}
		is, err := os.Stat(path)
		if err != nil || os.SameFile(was, is) {
			t.Errorf("written in place: %v", err)
		}
		var old struct{ Objects []hsm.Object }
		err = json.NewDecoder(before).Decode(&old)
		if err != nil || len(old.Objects) != 2 {
			t.Errorf("a reader of the old file gets %+v, %v", old, err)
		}
	})
}

// TestNotRewritten: a listing that says the same, in whatever order, writes nothing.
func TestNotRewritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var logs *observer.ObservedLogs
		token := newToken("a")
		for version := range uint32(5) {
			token.AddKey("many", version)
		}
		plain := hsmtest.Object("without id", 0)
		plain.ID = []byte{}
		token.AddObject(plain, make([]byte, hsm.KeySize))
		g := start(t, []*hsmtest.Token{token}, rememberIn(dir), logTo(&logs))
		path := onlyFile(t, dir, "a")
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 { // the same keys, put there in another order
			token.RemoveKey("many")
			for version := range uint32(5) {
				token.AddKey("many", 4-version)
			}
			time.Sleep(31 * time.Second)
		}
		g.Close()
		start(t, []*hsmtest.Token{token}, rememberIn(dir), logTo(&logs))
		after, err := os.Stat(path)
		if err != nil || !os.SameFile(before, after) {
			t.Errorf("written again: %v", err)
		}
		if n := logs.FilterMessageSnippet("catalogue read").Len(); n != 0 {
			t.Errorf("logged %d times", n)
		}
	})
}

// TestUnusableFile: a file that cannot be used is reported, ignored, and replaced as soon as the
// HSM is seen.
func TestUnusableFile(t *testing.T) {
	for name, content := range map[string]string{
		"empty":            ``,
		"cut off":          `{"format":1,"hsm":"b","objects":[{"label":"k"`,
		"no JSON":          "\x00\x01\x02",
		"trailing garbage": `{"format":1,"hsm":"b","objects":[]}}`,
		"a later format":   `{"format":2,"hsm":"b","objects":[]}`,
		"no format":        `{"hsm":"b"}`,
		"of another HSM":   `{"format":1,"hsm":"a","objects":[]}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				tokens := newTokens(2)
				start(t, tokens, rememberIn(dir)).Close()
				path := onlyFile(t, dir, "b")
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
				tokens[1].SetHook(down)
				var logs *observer.ObservedLogs
				g := start(t, tokens, rememberIn(dir), logTo(&logs))
				said := logs.FilterMessageSnippet("cannot read the saved key catalogue").All()
				if len(said) != 1 || said[0].ContextMap()["hsm"] != "b" ||
					!strings.Contains(said[0].ContextMap()["error"].(string), path) {
					t.Errorf("the log says %v", said)
				}
				if version, err := encryptVersion(t, g, "k"); err != nil || version != 1 {
					t.Errorf("got %d, %v: b counts as never seen", version, err)
				}
				tokens[1].SetHook(nil)
				time.Sleep(5 * time.Second)
				data, err := os.ReadFile(path)
				if err != nil || !json.Valid(data) || !bytes.Contains(data, []byte(`"label":"k"`)) {
					t.Errorf("not fixed: %q, %v", data, err)
				}
			})
		})
	}
}

// TestDirectoryNotWritable: serving goes on, the log says so, and the file is
// written once that is possible.
func TestDirectoryNotWritable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(dir, []byte("a file in its place"), 0o600); err != nil { // stops root, too
			t.Fatal(err)
		}
		var logs *observer.ObservedLogs
		g := start(t, newTokens(2), rememberIn(dir), logTo(&logs))
		if _, _, err := request(t, g); err != nil {
			t.Fatal(err)
		}
		said := logs.FilterMessageSnippet("cannot save the key catalogue").All()
		if len(said) != 2 || !strings.Contains(said[0].ContextMap()["error"].(string), dir) {
			t.Errorf("the log says %v", said)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(31 * time.Second)
		onlyFile(t, dir, "a")
		onlyFile(t, dir, "b")
	})
}

// TestNamesDoNotCollide: two pairs of names never share a file, and none leads out of the
// directory.
func TestNamesDoNotCollide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "state")
		names := [][2]string{
			{"a-b", "c"},
			{"a", "b-c"},
			{"a@b", "c"},
			{"a", "b@c"},
			{"../a", "b"},
			{"a", "../../b"},
			{"A", "b"},
			{"a", "b"},
		}
		for i, name := range names {
			token := hsmtest.New("t")
			for range i {
				token.AddKey("k", 0)
			}
			g := start(
				t,
				[]*hsmtest.Token{token},
				rememberIn(dir),
				func(c *group.Config) { c.Name, c.Members[0].Name = name[0], name[1] },
			)
			g.Close()
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != len(names) {
			t.Errorf(
				"%d files for %d pairs of names: %v, %v",
				len(entries),
				len(names),
				entries,
				err,
			)
		}
		outside, err := os.ReadDir(parent)
		if err != nil || len(outside) != 1 {
			t.Errorf("outside of the directory: %v, %v", outside, err)
		}
		if errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
}

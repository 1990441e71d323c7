package access

// Every step of a way can be closed. What is computed is what the kernel says (the last test).

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stranger is a user whom nothing here belongs to.
var stranger = User{Name: "stranger", UID: 54321, GID: 54321}

// tree is a directory that everybody can enter.
func tree(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for at := dir; strings.Contains(at, "Test"); at = filepath.Dir(at) {
		chmod(t, at, 0o755)
	}
	return dir
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	err := os.Chmod(path, mode)
	if err != nil {
		t.Fatal(err)
	}
}

func file(t *testing.T, path string, mode fs.FileMode) string {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, nil, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	chmod(t, path, mode)
	return path
}

func TestComputed(t *testing.T) {
	dir := tree(t)
	open := file(t, dir+"/open/file", 0o644)
	private := file(t, dir+"/open/private", 0o600)
	shared := file(t, dir+"/open/shared", 0o640)
	denied := file(t, dir+"/open/denied", 0o604) // its group has less than everybody
	inside := file(t, dir+"/closed/inside", 0o644)
	chmod(t, dir+"/closed", 0o700)
	program := file(t, dir+"/open/program", 0o755)
	for name, target := range map[string]string{"link": "open/file", "deep": dir + "/closed/inside", "loop": "loop", "up": "open/../open/private"} {
		err := os.Symlink(target, filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
	}
	group := uint32(os.Getegid())
	member := User{UID: stranger.UID, GID: stranger.GID, Groups: []uint32{1, group}}
	first := User{UID: stranger.UID, GID: group}
	owner := User{UID: uint32(os.Geteuid()), GID: stranger.GID}
	if os.Geteuid() == 0 {
		owner.UID = 54322
		for _, path := range []string{private, dir + "/open"} {
			err := os.Chown(path, 54322, -1)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name  string
		user  User
		path  string
		right Right
		at    string // that refuses; "": nothing does
	}{
		{"everybody", stranger, open, Read, ""},
		{"private", stranger, private, Read, private},
		{"to its owner", owner, private, Read, ""},
		{"by a group", stranger, shared, Read, shared},
		{"by a supplementary group", member, shared, Read, ""},
		{"by the first group", first, shared, Read, ""},
		{"the group's bits count alone", member, denied, Read, denied},
		{"below a closed directory", stranger, inside, Read, dir + "/closed"},
		{"over a link", stranger, dir + "/link", Read, ""},
		{"over a link into a closed directory", stranger, dir + "/deep", Read, dir + "/closed"},
		{"over a link with ..", stranger, dir + "/up", Read, private},
		{"a program", stranger, program, Execute, ""},
		{"no program", stranger, open, Execute, open},
		{"a directory", stranger, dir + "/open", List, ""},
		{"a closed directory", stranger, dir + "/closed", List, dir + "/closed"},
		{"appending", stranger, open, Append, open},
		{"a new file", stranger, dir + "/open/new", Append, dir + "/open"},
		{"a new file of the owner", owner, dir + "/open/new", Append, ""},
		{"a directory to fill", stranger, dir + "/open", Fill, dir + "/open"},
		{"a new directory", stranger, dir + "/open/a/b", Fill, dir + "/open"},
		{"a new directory of the owner", owner, dir + "/open/a/b", Fill, ""},
		{"root", User{}, inside, Append, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.user.Computed(Need{Path: test.path, Right: test.right})
			var refused *Refusal
			if !errors.As(err, &refused) {
				refused = &Refusal{}
			}
			if refused.At != test.at ||
				err != nil && (refused.Remedy == "" || !strings.Contains(err.Error(), "mode ")) {
				t.Errorf("%v, want a refusal at %q", err, test.at)
			}
		})
	}
	for name, need := range map[string]Need{
		"missing": {dir + "/open/none", Read}, "a missing directory of a file": {dir + "/open/none/new", Append},
	} {
		err := stranger.Computed(need)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, need := range map[string]Need{"a loop": {dir + "/loop", Read}, "relative": {"open", Read}} {
		err := stranger.Computed(need)
		var refused *Refusal
		if err == nil || errors.As(err, &refused) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTried(t *testing.T) {
	dir := tree(t)
	open := file(t, dir+"/open/file", 0o644)
	for _, right := range []Right{Read, Append} {
		err := Tried(Need{open, right})
		if err != nil {
			t.Errorf("%s: %v", right, err)
		}
	}
	err := Tried(Need{open, Execute}) // not even root runs a file without an x
	var refused *Refusal
	if !errors.As(err, &refused) || refused.At != open {
		t.Errorf("execute: %v", err)
	}
	err = Tried(Need{"/proc/version", Append})
	if err == nil && os.Geteuid() != 0 {
		t.Error("/proc/version may be written to")
	}
}

func TestLookup(t *testing.T) {
	root, err := Lookup("root")
	if err != nil || root.UID != 0 || root.GID != 0 {
		t.Errorf("root: %+v %v", root, err)
	}
	byNumber, err := Lookup("0")
	if err != nil || byNumber.Name != "root" {
		t.Errorf("0: %+v %v", byNumber, err)
	}
	unknown, err := Lookup("54321")
	if err != nil || unknown.UID != 54321 || unknown.IsSelf() {
		t.Errorf("a number without a user: %+v %v", unknown, err)
	}
	_, err = Lookup("no-such-user")
	if err == nil || !strings.Contains(err.Error(), "the user no-such-user does not exist") {
		t.Errorf("%v", err)
	}
	if c := unknown.Credential(); c.Uid != 54321 || len(c.Groups) != 0 {
		t.Errorf("%+v", c)
	}
}

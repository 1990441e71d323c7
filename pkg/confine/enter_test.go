package confine

// The test program itself is confined, as another ABI of Landlock where the kernel has more.

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const probeArgument = "probe-what-is-reachable"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == Command {
		fmt.Println(Enter(os.Args[2:]))
		os.Exit(1)
	}
	if len(os.Args) > 2 && os.Args[1] == probeArgument {
		if os.Args[2] == "/dev/tty" {
			probeTerminal()
		} else {
			probe(os.Args[2:])
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// probeTerminal prints what became of opening the controlling terminal.
func probeTerminal() {
	_, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	fmt.Println("terminal:", err)
}

// probe prints what became of reading each file, and of truncating the first.
func probe(files []string) {
	for _, file := range files {
		_, err := os.ReadFile(file)
		fmt.Printf("read %s: %v\n", filepath.Base(file), errors.Is(err, os.ErrPermission))
	}
	fmt.Printf("truncate: %v\n", errors.Is(os.Truncate(files[0], 0), os.ErrPermission))
	fmt.Printf("signal: %v\n", errors.Is(syscall.Kill(os.Getppid(), 0), os.ErrPermission))
}

func TestEnter(t *testing.T) {
	dir := t.TempDir()
	secret, kept := filepath.Join(dir, "own", "secret"), filepath.Join(dir, "own", "hsm", "conf")
	err := os.MkdirAll(filepath.Dir(kept), 0o700)
	if err == nil {
		err = errors.Join(
			os.WriteFile(secret, []byte("x"), 0o600), os.WriteFile(kept, []byte("x"), 0o600),
		)
	}
	if err != nil {
		t.Fatal(err)
	}
	plan := Plan{
		Protect: []string{filepath.Join(dir, "own")},
		Allow:   []string{filepath.Join(dir, "own", "hsm")},
	}.Resolve()
	have := ThisKernel()
	if !have.Complete() {
		t.Fatalf("this test needs Landlock ABI %d, the kernel has %s", complete, have)
	}
	for kernel := Kernel(0); kernel <= have; kernel++ {
		t.Run(kernel.String(), func(t *testing.T) {
			spec, err := Spec{Kernel: kernel, Plan: plan}.File()
			if err != nil {
				t.Fatal(err)
			}
			defer spec.Close()
			argv := Arguments(3, probeArgument, secret, kept)
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.ExtraFiles = []*os.File{spec}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			want := fmt.Sprintf("read secret: %v\nread conf: false\ntruncate: %v\nsignal: %v\n",
				kernel > 0, kernel >= withTruncate, kernel >= complete)
			if string(out) != want {
				t.Errorf("refused:\n%s\nwant:\n%s", out, want)
			}
		})
	}
}

// TestEnterLeavesTheTerminal: a process with a controlling terminal has none afterwards.
func TestEnterLeavesTheTerminal(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	spec, err := Spec{Plan: Plan{}.Resolve()}.File()
	if err != nil {
		t.Fatal(err)
	}
	defer spec.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	argv := append([]string{self}, Arguments(3, probeArgument, "/dev/tty")[1:]...)
	// The shell leads the session: it shows that there is a terminal, and what becomes of a child.
	script := `(: < /dev/tty) && echo "a terminal"; "$@"; true`
	cmd := exec.Command("sh", append([]string{"-c", script, "sh"}, argv...)...)
	cmd.Stdin, cmd.ExtraFiles = terminal, []*os.File{spec}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "a terminal") ||
		!strings.Contains(string(out), "no such device") {
		t.Errorf("%v: %s", err, out)
	}
}

// What the proxy found must be there.
func TestEnterNeedsWhatWasFound(t *testing.T) {
	for name, c := range map[string]struct {
		spec, want string
	}{
		"more than there is": {`{"kernel":12,"plan":{}}`, "there is no Landlock ABI 12"},
		"not a spec":         {`[]`, "cannot read what this process may reach"},
	} {
		file := filepath.Join(t.TempDir(), "spec")
		err := os.WriteFile(file, []byte(c.spec), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		argv := Arguments(3, probeArgument, file)
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.ExtraFiles = []*os.File{spec}
		out, err := cmd.CombinedOutput()
		spec.Close()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
	for _, arguments := range [][]string{nil, {"3"}, {"x", "hsm-worker"}, {strconv.Itoa(1), "hsm-worker"}} {
		err := Enter(arguments)
		if err == nil || !strings.Contains(err.Error(), "not for use by hand") {
			t.Errorf("%q: %v", arguments, err)
		}
	}
}

func TestResolve(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	real := filepath.Join(dir, "real")
	err = errors.Join(os.Mkdir(real, 0o700), os.Symlink(real, filepath.Join(dir, "link")))
	if err != nil {
		t.Fatal(err)
	}
	p := Plan{
		Protect: []string{
			filepath.Join(dir, "link", "later", "key"), dir + "/link/", real, "relative", "",
		},
	}.Resolve()
	want := fmt.Sprint([]string{real, filepath.Join(real, "later", "key")})
	if got := fmt.Sprint(p.Protect); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

package test

// Secrets that the program is given in environment variables stay with it: no process that it
// starts has them, whatever the variables are called.

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"xks-proxy/test/faulty"
)

func TestSecretVariables(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	// hsm-b's PIN comes from a command, which shows what environment it was given.
	script := w.file("print-pin")
	writeFile(t, script, "#!/bin/sh\ntr '\\0' '\\n' </proc/$$/environ >>"+w.file("given")+"\ncat "+w.B.pinFile()+"\n")
	err := os.Chmod(script, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	s := w.settings()
	controls := s.misbehave(t)
	s.HSMs[0]["pin"] = object{"env": "HSM_A_PIN"}
	s.HSMs[1]["pin"] = object{"command": []string{script}}
	s.KeyStores[0]["credentials"] = []object{{"access_key_id": w.Main.AccessKeyID, "secret_access_key": object{"env": "MAIN_SECRET"}}}
	s.Admin["socket"] = w.file("variables.sock")
	file := w.file("variables.yaml")
	writeFile(t, file, s.text(t))
	variables := []string{"HSM_A_PIN=" + w.A.PIN, "MAIN_SECRET=" + w.Main.SecretAccessKey}

	p, err := launchCommand(w, file, append(append([]string{"env"}, variables...), program, "serve", "--config", file)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(t) })
	p.waitServing(t)
	p.waitActive(t, "hsm-a", "hsm-b")
	for _, restarted := range []bool{false, true} {
		if restarted { // the PIN is read anew, though it is not in the environment any more
			p.hsm(t, "hsm-a", "restart", "hsm-a")
			p.hsm(t, "hsm-b", "restart", "hsm-b")
			p.waitActive(t, "hsm-a", "hsm-b")
		}
		workers := p.workers()
		if len(workers) != 2 {
			t.Fatalf("processes: %v", workers)
		}
		for _, worker := range workers {
			searchEnvironment(t, w, "the process of "+worker.HSM, worker.PID)
		}
	}
	p.client(t, http1).encrypt(t, "key-1", encryptBody([]byte("x"), nil))

	// The child of create-test-key is held in its login, to be looked at.
	err = controls[0].Set(faulty.Rule{Function: "C_Login", Action: faulty.Hang})
	if err != nil {
		t.Fatal(err)
	}
	create := exec.Command(program, "hsm", "create-test-key", "hsm-a", "--config", file)
	create.Env = append(os.Environ(), variables...)
	logins := controls[0].Calls("C_Login")
	err = create.Start()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, startLimit, func() error {
		if controls[0].Calls("C_Login") == logins {
			return os.ErrProcessDone // it is not there yet
		}
		return nil
	})
	child := childOf(t, create.Process.Pid)
	searchEnvironment(t, w, "the child of create-test-key", child)
	controls[0].Clear()
	err = create.Wait()
	if err != nil {
		t.Errorf("create-test-key: %v", err)
	}

	given, err := os.ReadFile(w.file("given"))
	if err != nil || !strings.Contains(string(given), "PATH=") {
		t.Errorf("what the command was given: %q, %v", given, err)
	}
	searchFor(t, w.secrets(), "environment of the command", given)
}

func searchEnvironment(t *testing.T, w *world, whose string, pid int) {
	t.Helper()
	text, visible := readEnvironment(t, whose, pid)
	if !visible {
		return
	}
	if !strings.Contains(string(text), "SOFTHSM2_CONF=") {
		t.Errorf("environment of %s: %q is not the one of an HSM's process", whose, text)
	}
	searchFor(t, w.secrets(), "environment of "+whose, text)
}

// readEnvironment is for root. Without the right to read it, it makes sure that it cannot be read.
func readEnvironment(t testing.TB, whose string, pid int) ([]byte, bool) {
	t.Helper()
	text, err := os.ReadFile(procPath(pid, "environ"))
	if os.Getuid() != 0 {
		if !errors.Is(err, os.ErrPermission) {
			t.Errorf("environment of %s: its own user can read it: %v", whose, err)
		}
		return nil, false
	}
	if err != nil {
		t.Errorf("environment of %s: %v", whose, err)
	}
	return text, true
}

// childOf is the only child of a process.
func childOf(t *testing.T, pid int) int {
	t.Helper()
	threads, err := filepath.Glob(procPath(pid, "task") + "/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, strings.Fields(string(text))...)
	}
	if len(found) != 1 {
		t.Fatalf("process %d has the children %v", pid, found)
	}
	child, err := strconv.Atoi(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return child
}

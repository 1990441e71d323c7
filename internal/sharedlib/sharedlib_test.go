package sharedlib

// A real library (SoftHSM's), and copies of it with one thing changed.

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const symbol = "C_GetFunctionList"

func softHSM(t *testing.T) []byte {
	t.Helper()
	for _, pattern := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib*/*/softhsm/libsofthsm2.so", "/usr/lib*/pkcs11/libsofthsm2.so", "/usr/lib*/softhsm/libsofthsm2.so"} {
		found, _ := filepath.Glob(pattern)
		for _, file := range found {
			data, err := os.ReadFile(file)
			if err == nil {
				return data
			}
		}
	}
	t.Fatal("SoftHSM is not installed")
	return nil
}

func write(t *testing.T, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "module.so")
	err := os.WriteFile(file, data, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestGoodLibrary(t *testing.T) {
	missing, err := Check(Place{File: write(t, softHSM(t)), Symbol: symbol})
	if err != nil || len(missing) > 0 {
		t.Errorf("%v, missing %v", err, missing)
	}
}

func TestBadLibraries(t *testing.T) {
	good := softHSM(t)
	otherMachine := bytes.Clone(good)
	otherMachine[18], otherMachine[19] = byte(elf.EM_SPARCV9), 0 // e_machine, little-endian
	program := bytes.Clone(good)
	program[16] = byte(elf.ET_EXEC) // e_type
	for _, test := range []struct {
		name, want string
		data       []byte
		symbol     string
	}{
		{"empty", "is not a shared library (ELF)", nil, symbol},
		{"text", "is not a shared library (ELF)", []byte(strings.Repeat("a script\n", 100)), symbol},
		{"cut short", "is not a shared library (ELF), or only a part of one", good[:200], symbol},
		{"cut short later", "is not a shared library (ELF), or only a part of one", good[:20000], symbol},
		{"another architecture", "is for another architecture (EM_SPARCV9), and this program for ", otherMachine, symbol},
		{"a program", "is not a shared library (its type is ET_EXEC)", program, symbol},
		{"another library", "is a library without C_NoSuchFunction", good, "C_NoSuchFunction"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Check(Place{File: write(t, test.data), Symbol: test.symbol})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	for name, path := range map[string]string{"does not exist": filepath.Join(t.TempDir(), "none.so"), "is not a regular file": t.TempDir()} {
		_, err := Check(Place{File: path})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q", err, name)
		}
	}
}

func TestMissingLibrary(t *testing.T) {
	data := bytes.Replace(softHSM(t), []byte("libcrypto.so"), []byte("libcrypt0.so"), 1)
	file := write(t, data)
	missing, err := Check(Place{File: file})
	if err != nil || len(missing) != 1 || !strings.HasPrefix(missing[0], "libcrypt0.so") ||
		!strings.HasSuffix(missing[0], ", which module.so needs") {
		t.Fatalf("%v, missing %v", err, missing)
	}
	// It is found where LD_LIBRARY_PATH says.
	name, _, _ := strings.Cut(missing[0], ",")
	place := t.TempDir()
	err = os.WriteFile(filepath.Join(place, name), softHSM(t), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	missing, err = Check(Place{File: file, LibraryPath: []string{place}})
	if err != nil || len(missing) > 0 {
		t.Errorf("%v, missing %v", err, missing)
	}
}

func TestMachineIsKnown(t *testing.T) {
	if _, known := machines[runtime.GOARCH]; !known {
		t.Errorf("%s has no entry in machines", runtime.GOARCH)
	}
}

func TestLoaderPlaces(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"ld.so.conf": "# ours\ninclude conf.d/*.conf\n/opt/a # a\n\nhwcap 1 nosegneg\n", "conf.d/b.conf": "/opt/b\n", "conf.d/loop.conf": "include loop.conf\n",
	} {
		file := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(file), 0o755)
		if err == nil {
			err = os.WriteFile(file, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	got := strings.Join(loaderPlaces(filepath.Join(dir, "ld.so.conf"), maxIncludes), " ")
	if got != "/opt/b /opt/a" {
		t.Errorf("%s", got)
	}
}

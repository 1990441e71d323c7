package cli

// hsm probe as operators run it, on modules of all manners: the entry that it prints passes config
// check, and what it says serves.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/config"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/testkit"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
	"xks-proxy/test/faulty"
)

// shownPIN finds the PIN, but not its digits within the number of a slot.
var shownPIN = regexp.MustCompile(`\b1234\b`)

// probeRig is a SoftHSM token "hsm-a" with a key "k" behind a faulty module.
type probeRig struct {
	*faulty.Control
	dir    string
	module string
	args   []string // of hsm probe
}

var faultyBuilt = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "xks-proxy-faulty-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path, err := faulty.Build(context.Background(), dir)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func newProbeRig(t *testing.T) *probeRig {
	t.Helper()
	_, err := testkit.Program() // before the directory changes
	if err != nil {
		t.Fatal(err)
	}
	dir := testkit.ConfigDir(t)
	text, err := faultyBuilt()
	if err != nil {
		t.Fatal(err)
	}
	r := &probeRig{dir: dir, module: filepath.Join(dir, "faulty.so")}
	r.Control, err = faulty.New(filepath.Join(dir, "control"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	err = os.MkdirAll("tokens", 0o700)
	if err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, "faulty.so", string(text), 0o700)
	testkit.WriteFile(
		t,
		"softhsm.conf",
		"directories.tokendir = "+filepath.Join(
			dir,
			"tokens",
		)+"\nobjectstore.backend = file\nlog.level = ERROR\n",
		0o600,
	)
	testkit.WriteFile(t, "pin", "1234\n", 0o600)
	conf := "SOFTHSM2_CONF=" + filepath.Join(dir, "softhsm.conf")
	for _, pair := range []string{conf, r.Env()} {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	err = pkcs11.InitToken(r.module, "hsm-a", "5678-so", "1234")
	if err != nil {
		t.Fatal(err)
	}
	r.args = []string{
		"hsm",
		"probe",
		"--module",
		r.module,
		"--token",
		"hsm-a",
		"--pin-file",
		"pin",
		"--name",
		"hsm-a",
		"--environment",
		conf,
		"--environment",
		r.Env(),
	}
	return r
}

// probe runs the command, which has to succeed.
func (r *probeRig) probe(t *testing.T, more ...string) (stdout, stderr string) {
	t.Helper()
	stdout, stderr, code := testkit.RunProgram(t, "", append(r.args, more...)...)
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	return stdout, stderr
}

// printed is the HSM of an entry that was printed, after config check found it good.
func printed(t *testing.T, entry string) *config.Config {
	t.Helper()
	// The entry takes the place of the first HSM.
	first := "  - {name: hsm-a, module: module.so, token: hsm-a, pin: {file: hsm-a.pin}}\n"
	server, rest, _ := strings.Cut(testkit.ValidConfig(t), "hsms:\n")
	text := server + entry + strings.TrimPrefix(rest, first)
	testkit.WriteFile(t, "printed.yaml", text, 0o644)
	stdout, stderr, code := execute(t, "config", "check", "printed.yaml")
	if code != 0 || stderr != "" {
		t.Fatalf("config check: exit code %d\n%s%s\n%s", code, stdout, stderr, text)
	}
	c, _, err := config.Load("printed.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// probeServes opens the token with the settings and has it encrypt and decrypt.
func probeServes(t *testing.T, h config.HSM) {
	t.Helper()
	pin, err := h.ReadPIN(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	token, err := pkcs11.Open(t.Context(), fleet.TokenSettings(h, pin, fleet.KeyIdentity{}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		err := token.Close(t.Context())
		if err != nil {
			t.Error(err)
		}
	}()
	keys, err := token.Keys(t.Context())
	if err != nil || len(keys) != 0 {
		t.Errorf("the probe left keys behind: %v, %v", keys, err)
	}
	err = token.CreateKeys(t.Context(), []pkcs11.NewKey{{Label: "k"}})
	if err != nil {
		t.Fatal(err)
	}
	plain, aad := []byte("plain"), []byte("aad")
	sealed, err := token.Encrypt(t.Context(), hsm.KeyRef{Label: "k"}, aad, plain)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := token.Decrypt(t.Context(), hsm.KeyRef{Label: "k"}, aad, sealed)
	if err != nil || !bytes.Equal(opened, plain) {
		t.Errorf("%q, %v", opened, err)
	}
}

func TestProbePrintsWhatServes(t *testing.T) {
	for name, test := range map[string]struct {
		manners faulty.Manners
		args    []string
		want    []string // in the entry
	}{
		"caller's IV":       {want: []string{"profiles that say the same: softhsm, utimaco", "Wrong tag: C_Decrypt answers CKR_GENERAL_ERROR (0x5)"}},
		"written back":      {manners: faulty.Manners{IV: faulty.IVWrittenBack}, want: []string{"iv_source: written-back", "profiles that say the same: nshield"}},
		"appended, 40":      {manners: faulty.Manners{IV: faulty.IVAppended, GCM: faulty.GCM40}, want: []string{"iv_source: appended", "iv_size: 16", "iv_bits: absent"}},
		"no IV, ulIvBits 0": {manners: faulty.Manners{IV: faulty.IVLess, GCM: faulty.GCMZeroBits}, want: []string{"iv_source: appended", "iv_size: 16"}},
		"40 bytes":          {manners: faulty.Manners{GCM: faulty.GCM40}, want: []string{"iv_bits: absent"}},
		"a code of its own": {manners: faulty.Manners{WrongTag: 0x80000004}, want: []string{"ambiguous: [0x5, 0x6, 0x80000004]"}},
		"few sessions":      {manners: faulty.Manners{MaxSessions: 9, SessionCode: 0xB1}, want: []string{"sessions: 5 "}},
		"crypto user":       {manners: faulty.Manners{UserType: 0x80000001}, args: []string{"--user-type", "0x80000001"}, want: []string{`user_type: "0x80000001"`}},
		"not initialised":   {manners: faulty.Manners{Token: faulty.TokenInfo{ClearFlags: faulty.TokenInitialized}}, args: []string{"--ignore-initialized"}, want: []string{"token_initialized: ignore"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newProbeRig(t)
			err := r.Play(test.manners)
			if err != nil {
				t.Fatal(err)
			}
			entry, stderr := r.probe(t, test.args...)
			for _, want := range test.want {
				if !strings.Contains(entry, want) {
					t.Errorf("%q is missing in:\n%s", want, entry)
				}
			}
			if !strings.Contains(stderr, "Warning: the PIN is tried once") ||
				shownPIN.MatchString(entry+stderr) {
				t.Errorf("no warning, or the PIN is shown:\n%s%s", entry, stderr)
			}
			probeServes(t, printed(t, entry).HSMs[0])
		})
	}
}

// A module that crashes in one step and hangs in another: the rest is found out.
func TestProbeOfAModuleThatCrashes(t *testing.T) {
	r := newProbeRig(t)
	err := r.Set(
		faulty.Rule{Function: "C_EncryptInit", AADOver: 30000, Action: faulty.Crash},
		faulty.Rule{Function: "C_Encrypt", DataOver: 30000, Action: faulty.HangForever},
	)
	if err != nil {
		t.Fatal(err)
	}
	entry, stderr := r.probe(t, "--timeout", "1s")
	for _, want := range []string{
		"SIGSEGV", "while looking for the longest AAD", "did not return within 1s while looking for the longest plaintext",
		"trying again without this step",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is missing in:\n%s", want, stderr)
		}
	}
	if !strings.Contains(
		entry,
		"Left out, because the module crashed or hung: max-aad, max-data.",
	) ||
		!strings.Contains(entry, "max_aad: 8215") ||
		!strings.Contains(entry, "max_data: 4300") {
		t.Error(entry)
	}
	r.Clear()
	probeServes(t, printed(t, entry).HSMs[0])
}

// Before the login nothing is tried a second time.
func TestProbeOfAModuleThatCrashesInLogin(t *testing.T) {
	r := newProbeRig(t)
	before := r.Calls("C_Login")
	err := r.Set(faulty.Rule{Function: "C_Login", Action: faulty.Crash})
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := testkit.RunProgram(t, "", r.args...)
	if code != 1 || stdout != "" || !strings.Contains(stderr, "while logging in") ||
		r.Calls("C_Login")-before != 1 {
		t.Errorf("exit code %d, %d logins\n%s%s", code, r.Calls("C_Login")-before, stdout, stderr)
	}
}

func TestProbeWithAWrongPIN(t *testing.T) {
	r := newProbeRig(t)
	testkit.WriteFile(t, "pin", "9999\n", 0o600)
	before := r.Calls("C_Login")
	stdout, stderr, code := testkit.RunProgram(t, "", r.args...)
	if code != fleet.ExitPINRefused || stdout != "" ||
		!strings.Contains(stderr, "CKR_PIN_INCORRECT") ||
		r.Calls("C_Login")-before != 1 {
		t.Errorf("exit code %d, %d logins\n%s%s", code, r.Calls("C_Login")-before, stdout, stderr)
	}
	// One that an editor spoilt costs no try.
	testkit.WriteFile(t, "pin", "\uFEFF1234\n", 0o600)
	stdout, stderr, code = testkit.RunProgram(t, "", r.args...)
	if code != 1 || stdout != "" || !strings.Contains(stderr, "byte order mark") ||
		r.Calls("C_Login")-before != 1 {
		t.Errorf("exit code %d, %d logins\n%s%s", code, r.Calls("C_Login")-before, stdout, stderr)
	}
}

func TestProbeAsJSON(t *testing.T) {
	r := newProbeRig(t)
	stdout, _ := r.probe(t, "--json")
	var report pkcs11.ProbeReport
	err := json.Unmarshal([]byte(stdout), &report)
	if err != nil || !report.Found || report.Profile.IVSource != pkcs11.IVProxy ||
		report.Sessions != 64 ||
		report.Token.Label != "hsm-a" {
		t.Errorf("%v\n%s", err, stdout)
	}
}

func TestProbeListsTokens(t *testing.T) {
	r := newProbeRig(t)
	stdout, stderr, code := testkit.RunProgram(t, "", "hsm", "probe", "--module", r.module)
	if code != 0 || !strings.Contains(stdout, `token: "hsm-a"`) ||
		!strings.Contains(stdout, "CHOOSE IT BY") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	// A module that prints does not get in the way.
	err := r.Play(faulty.Manners{Prints: true, Helper: faulty.HelperIgnoreTerm})
	if err != nil {
		t.Fatal(err)
	}
	printing, _, code := testkit.RunProgram(t, "", "hsm", "probe", "--module", r.module)
	if code != 0 || printing != stdout {
		t.Errorf("exit code %d\n%s", code, printing)
	}
	for _, pid := range r.Helpers() {
		_, err := os.Stat(fmt.Sprintf("/proc/%d/cmdline", pid))
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !strings.Contains(string(status), ") Z ") {
			t.Errorf("the module's helper %d outlived the probe", pid)
		}
	}
}

func TestProbeUsage(t *testing.T) {
	for args, want := range map[string]string{
		"":                                 "--module FILE",
		"--module m.so --token a":          "--pin-file FILE or --pin-env NAME",
		"--module m.so --token a --slot x": `--slot "x" is not a number`,
		"--module m.so --user-type admin":  `user type "admin" is unknown`,
		"--module m.so --environment X":    "NAME=value",
		"--module m.so --name a/b":         "--name",
		"--module m.so --timeout 0s":       "--timeout",
		"--module m.so --user-type 0":      "security officer",
		"--module m.so --token a --pin-env A --user-type none": "leave the PIN out",
		"--module m.so --pin-env A --pin-file a":               "not both",
	} {
		stdout, stderr, code := execute(
			t,
			append([]string{"hsm", "probe"}, strings.Fields(args)...)...)
		if code != command.ExitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d\n%s", args, code, stderr)
		}
	}
}

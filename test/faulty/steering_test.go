package faulty_test

// How often, what a rule is called, what is refused; and the manners of other HSMs.

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"xks-proxy/test/faulty"
)

// With many sessions at once the numbers are exact.
func TestAfterAndTimes(t *testing.T) {
	r := newRig(t)
	before := r.Calls("C_GenerateRandom")
	r.set(t, faulty.Rule{Function: "C_GenerateRandom", Action: faulty.Return, Code: 0x30, After: 1000, Times: 500})
	r.want(t, "random 1000 1", "ok 0")
	r.want(t, "random 1000 8", "ok 500")
	r.want(t, "random 10 8", "ok 0")
	r.injected(t, 500)
	if calls := r.Calls("C_GenerateRandom") - before; calls != 9080 {
		t.Errorf("%d calls counted of 9080", calls)
	}
}

func TestPerMillion(t *testing.T) {
	r := newRig(t)
	r.set(t, faulty.Rule{Function: "C_GenerateRandom", Action: faulty.Return, Code: 0x30, PerMillion: 50_000})
	failed, err := strconv.Atoi(r.details(t, "random 2500 8")[0])
	if err != nil || failed < 800 || failed > 1200 { // 1000 ± 6 standard deviations
		t.Errorf("%d of 20000 calls failed, 5 %% wanted (%v)", failed, err)
	}
	r.injected(t, uint64(failed))
}

// Changing the rules all the time, under calls all the time, harms nobody.
func TestRulesChangeUnderCalls(t *testing.T) {
	r := newRig(t)
	r.begin(t, "random 20000 4")
	for i := range 200 {
		r.set(t, faulty.Rule{Function: "C_GenerateRandom", Action: faulty.Return, Code: 0x30, Times: uint64(i % 3)}, faulty.Rule{Function: "C_GenerateRandom", Action: faulty.Hang, Times: 2})
		r.Clear()
	}
	failed, err := strconv.Atoi(strings.TrimPrefix(r.answer(t), "ok "))
	if err != nil || uint64(failed) > r.Injected() {
		t.Errorf("%d failed, %d injected (%v)", failed, r.Injected(), err)
	}
}

func TestRuleReads(t *testing.T) {
	for want, rule := range map[string]faulty.Rule{
		"C_Encrypt hangs":                                    {Function: "C_Encrypt", Action: faulty.Hang},
		"C_Login hangs forever once":                         {Function: "C_Login", Action: faulty.HangForever, Times: 1},
		"every call +50 ms":                                  {Function: faulty.Every, Action: faulty.Delay, Delay: 50 * time.Millisecond},
		"every call +0–300 ms":                               {Function: faulty.Every, Action: faulty.Delay, Jitter: 300 * time.Millisecond},
		"every crypto call +0.5–1.5 ms":                      {Function: faulty.Crypto, Action: faulty.Delay, Delay: 500 * time.Microsecond, Jitter: time.Millisecond},
		"5 % of calls answer CKR_DEVICE_ERROR":               {Function: faulty.Every, Action: faulty.Return, Code: 0x30, PerMillion: 50_000},
		"0.1 % of C_Encrypts give a flipped bit":             {Function: "C_Encrypt", Action: faulty.FlipBit, PerMillion: 1000},
		"every session call loses the login":                 {Function: faulty.Sessions, Action: faulty.DropLogin},
		"C_Decrypt +10 ms answers CKR_GENERAL_ERROR 3 times": {Function: "C_Decrypt", Action: faulty.Return, Code: 5, Delay: 10 * time.Millisecond, Times: 3},
		`C_Encrypt with "k" answers CKR_DEVICE_ERROR`:        {Function: "C_Encrypt", Action: faulty.Return, Code: 0x30, Label: "k"},
		"C_GetAttributeValue with object 3 hangs":            {Function: "C_GetAttributeValue", Action: faulty.Hang, Object: 3},
		"C_Encrypt with data over 9 bytes hangs":             {Function: "C_Encrypt", Action: faulty.Hang, DataOver: 9},
		"every crypto call with AAD over 512 bytes hangs":    {Function: faulty.Crypto, Action: faulty.Hang, AADOver: 512},
		"C_Encrypt exits with 3 after 100 calls":             {Function: "C_Encrypt", Action: faulty.Exit, Code: 3, After: 100},
	} {
		if got := rule.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// What makes no sense is refused, and what held before holds on.
func TestRefusedRules(t *testing.T) {
	r := newRig(t)
	r.set(t, faulty.Rule{Function: "C_GetTokenInfo", Action: faulty.Return, Code: 0x30})
	for name, rules := range map[string][]faulty.Rule{
		"no function":       {{Action: faulty.Hang}},
		"a typing error":    {{Function: "C_Encryptt", Action: faulty.Hang}},
		"the function list": {{Function: "C_GetFunctionList", Action: faulty.Hang}},
		"no action":         {{Function: "C_Encrypt"}},
		"no code":           {{Function: "C_Encrypt", Action: faulty.Return}},
		"no delay":          {{Function: "C_Encrypt", Action: faulty.Delay}},
		"a delay below 0":   {{Function: "C_Encrypt", Action: faulty.Delay, Delay: -1}},
		"no output":         {{Function: "C_Login", Action: faulty.FlipBit}},
		"no session":        {{Function: "C_GetTokenInfo", Action: faulty.DropLogin}},
		"exit code":         {{Function: "C_Encrypt", Action: faulty.Exit, Code: 256}},
		"an object below 0": {{Function: "C_Encrypt", Action: faulty.Hang, Object: -1}},
		"no object":         {{Function: "C_GetTokenInfo", Action: faulty.Hang, Label: "k"}},
		"no data":           {{Function: "C_EncryptInit", Action: faulty.Hang, DataOver: 1}},
		"no AAD":            {{Function: "C_Login", Action: faulty.Hang, AADOver: 1}},
		"over a million":    {{Function: "C_Encrypt", Action: faulty.Hang, PerMillion: 1_000_001}},
		"too many":          make([]faulty.Rule, faulty.MaxRules+1),
	} {
		err := r.Set(rules...)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	r.want(t, "token", "C_GetTokenInfo 0x30")
	_, err := faulty.New(filepath.Join(r.dir, "control"))
	if err == nil {
		t.Error("a control file that exists was made again")
	}
}

// A module that does not find its control file does not serve: every test would pass.
func TestNoControlFile(t *testing.T) {
	r := newRig(t)
	info, err := os.Stat(filepath.Join(r.dir, "control"))
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(string) error{
		"absent":             os.Remove,
		"short":              func(path string) error { return os.WriteFile(path, []byte("short"), 0o600) },
		"of another version": func(path string) error { return os.WriteFile(path, make([]byte, info.Size()), 0o600) },
	} {
		err := change(filepath.Join(r.dir, "control"))
		if err != nil {
			t.Fatal(err)
		}
		r.stop()
		r.start(t)
		if got := r.do(t, "list"); !strings.Contains(got, "CKR_GENERAL_ERROR") {
			t.Errorf("%s: %s", what, got)
		}
	}
}

// Whoever makes the IV, the ciphertext opens with it.
func TestIVManners(t *testing.T) {
	r := newRig(t)
	zeros := strings.Repeat("0", len(iv))
	open := func(iv, sealed string) {
		t.Helper()
		r.want(t, "decrypt "+iv+" "+sealed, "ok "+plain)
	}
	r.Manner(faulty.IVWrittenBack)
	first, second := r.details(t, "encrypt "+zeros+" "+plain), r.details(t, "encrypt "+zeros+" "+plain)
	if first[0] == zeros || first[0] == second[0] {
		t.Errorf("IVs %s and %s", first[0], second[0])
	}
	open(first[0], first[1])
	open(second[0], second[1])
	r.want(t, "encrypt "+iv+" "+plain, "C_EncryptInit 0x71")
	r.want(t, "encrypt - "+plain, "C_EncryptInit 0x71")
	for _, manner := range []faulty.IVManner{faulty.IVAppended, faulty.IVLess} {
		r.Manner(manner)
		// Without an IV, miekg/pkcs11 has none to show: one word only.
		got := r.details(t, "encrypt - "+plain)[0]
		end := len(got) - 32
		if end != len(plain)+32 {
			t.Fatalf("%d hex digits of output", len(got))
		}
		open(got[end:], got[:end])
	}
	r.want(t, "encrypt "+iv+" "+plain, "C_EncryptInit 0x71")
	r.Manner(faulty.IVAppended)
	got := r.details(t, "encrypt "+iv+" "+plain)[1]
	open(got[len(got)-32:], got[:len(got)-32])
	r.Manner(faulty.IVFromCaller)
	again := r.details(t, "encrypt "+iv+" "+plain)
	open(iv, again[1])
}

// After a reboot nobody is logged in, and a handle is that of the neighbour.
func TestReboot(t *testing.T) {
	r := newRig(t)
	before := map[string]string{}
	for _, name := range []string{"a", "b", "c"} {
		r.want(t, "generate "+name, "ok")
		before[r.details(t, "find "+name)[1]] = name
	}
	r.Reboot()
	r.want(t, "state", "ok 0")
	r.want(t, "find a", "ok 0")
	r.want(t, "encrypt "+iv+" "+plain, "C_EncryptInit 0x101")
	r.want(t, "login", "ok")
	changed := 0
	for handle, name := range before {
		found := r.details(t, "find "+name)
		if found[1] != handle {
			changed++
		}
		r.want(t, "label "+found[1], "ok "+name)
		r.details(t, "encrypt "+iv+" "+plain)
	}
	if changed != len(before) {
		t.Errorf("%d of %d handles changed", changed, len(before))
	}
}

// A device that was away stays away for those who were there, until they begin anew.
func TestRemove(t *testing.T) {
	r := newRig(t)
	r.Remove()
	r.want(t, "token", "C_GetTokenInfo 0x32")
	r.want(t, "slots", "C_GetSlotList 0x32")
	r.want(t, "encrypt "+iv+" "+plain, "C_EncryptInit 0x32")
	r.injected(t, 3)
	r.PutBack()
	r.want(t, "token", "C_GetTokenInfo 0x32")
	r.want(t, "finalize", "ok")
	r.enter(t)
	r.details(t, "find k")
	r.details(t, "encrypt "+iv+" "+plain)
	// Who comes while it is away sees no slot, then and later.
	r.Remove()
	r.want(t, "finalize", "ok")
	r.want(t, "initialize", "ok")
	r.want(t, "slots", "ok 0")
	r.PutBack()
	r.want(t, "slots", "ok 0")
	r.want(t, "finalize", "ok")
	r.enter(t)
}

package cli

// How the commands print the settings that choose a token and its user.

import (
	"strings"
	"testing"

	"xks-proxy/internal/testkit"
)

func TestCheckNamesTheToken(t *testing.T) {
	testkit.ConfigDir(t)
	testkit.WriteFile(t, "test.yaml", testkit.ValidConfig(t, "token: hsm-b, ",
		`token: hsm-b, serial: "17", slot: 0x2000000000000001, `+
			"token_manufacturer: ACME, token_model: M1, "), 0o644)
	stdout, stderr, code := execute(t, "config", "check", "test.yaml")
	const want = "hsm-b, serial 17, slot 2305843009213693953, manufacturer ACME, model M1"
	if code != 0 || !strings.Contains(stdout, want) {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

// What config show prints is a configuration, too: also of a token without a login.
func TestShowTokenWithoutLogin(t *testing.T) {
	testkit.ConfigDir(t)
	testkit.WriteFile(t, "test.yaml", testkit.ValidConfig(t,
		"token: hsm-b, pin: {file: hsm-b.pin}", "slot: 0, user_type: none"), 0o644)
	stdout, stderr, code := execute(t, "config", "show", "test.yaml")
	if code != 0 {
		t.Fatal(stderr)
	}
	testkit.WriteFile(t, "shown.yaml", stdout, 0o644)
	again, _, code := execute(t, "config", "show", "shown.yaml")
	if code != 0 || !strings.Contains(again, "user_type: none") {
		t.Errorf("exit code %d\n%s", code, again)
	}
}

package config

// The secret of an access key comes from each of the four places, and from no file that others can
// read.

import (
	"strings"
	"testing"

	"xks-proxy/internal/secret"
	"xks-proxy/internal/testkit"
	"xks-proxy/pkg/sigv4"
)

func TestCredentialsFromEveryPlace(t *testing.T) {
	dir := testkit.ConfigDir(t)
	made := map[string]sigv4.Credential{}
	for _, place := range []string{"file", "env", "credential", "command"} {
		credential, err := sigv4.GenerateCredential()
		if err != nil {
			t.Fatal(err)
		}
		made[place] = credential
	}
	t.Setenv("ACCESS_KEY_SECRET", made["env"].SecretAccessKey)
	t.Setenv(secret.CredentialsVariable, dir)
	testkit.WriteFile(t, "from.file", made["file"].SecretAccessKey+"\n", 0o600)
	testkit.WriteFile(t, "from-systemd", made["credential"].SecretAccessKey, 0o600)
	testkit.WriteFile(t, "vault", "#!/bin/sh\necho '"+made["command"].SecretAccessKey+"'\n", 0o700)
	entry := func(place, ref string) string {
		return "- {access_key_id: " + made[place].AccessKeyID +
			", secret_access_key: {" + ref + "}}"
	}
	old := "- {access_key_id: XKSTESTACCESSKEYID234567, secret_access_key: {file: demo.key}}"
	all := strings.Join(
		[]string{
			old, entry("file", "file: from.file"), entry("env", "env: ACCESS_KEY_SECRET"),
			entry("credential", "credential: from-systemd"), entry("command", "command: [./vault]"),
		},
		"\n      ",
	)
	c, _ := mustLoad(t, testkit.ValidConfig(t, old, all))
	secrets, _, err := ResolveSecrets(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, key := range secrets.AccessKeys["demo"] {
		got[key.ID] = key.Secret.Reveal()
	}
	for place, credential := range made {
		if got[credential.AccessKeyID] != credential.SecretAccessKey {
			t.Errorf("from %s: another secret", place)
		}
	}
	for _, name := range []string{"from.file", "from-systemd"} {
		t.Run(name+" open to others", func(t *testing.T) {
			content := testkit.ReadFile(t, name)
			testkit.WriteFile(t, name, content, 0o644)
			t.Setenv(
				"ACCESS_KEY_SECRET", made["env"].SecretAccessKey,
			) // it is taken out of the environment when it is read
			_, _, err := ResolveSecrets(t.Context(), c)
			if err == nil || !strings.Contains(err.Error(), name+" is open to others (mode "+
				"0644); run: chmod 600 ") || strings.Contains(err.Error(),
				strings.TrimSpace(content)) {
				t.Errorf("%v", err)
			}
			testkit.WriteFile(t, name, content, 0o600)
		})
	}
}

package config

// Secrets: reading them from everywhere, and never printing them.

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.yaml.in/yaml/v3"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/secret"
	"xks-proxy/internal/testkit"
)

const hidden = "hunter2-hunter2"

// Whatever prints a secret, in whatever it is, prints no secret.
func TestSecretsAreNeverPrinted(t *testing.T) {
	type exported struct {
		PIN  secret.Secret
		PINs map[string]secret.Secret
		List []secret.Secret
		Any  any
	}
	type unexported struct {
		pin  secret.Secret
		pins map[string]secret.Secret
		list []*secret.Secret
	}
	s := secret.New(hidden)
	holders := map[string]any{
		"value":   s,
		"pointer": &s,
		"slice":   []secret.Secret{s},
		"exported": exported{
			PIN: s, PINs: map[string]secret.Secret{"a": s}, List: []secret.Secret{s}, Any: s,
		},
		"unexported": unexported{
			pin: s, pins: map[string]secret.Secret{"a": s}, list: []*secret.Secret{&s},
		},
		"all": &Secrets{
			PINs:       map[string]secret.Secret{"a": s},
			AccessKeys: map[string][]AccessKey{"b": {{ID: "A", Secret: s}}},
		},
		"error": fmt.Errorf("wrapped: %v %s %q %x", s, s, s, s),
	}
	for name, holder := range holders {
		t.Run(name, func(t *testing.T) {
			printed := map[string]string{}
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t",
				"%p", "%T %[1]v"} {
				printed[verb] = fmt.Sprintf(verb, holder)
			}
			printed["print"] = fmt.Sprint(holder) + fmt.Sprintln(holder)
			for encoder, encode := range map[string]func(any) ([]byte, error){"json": json.Marshal,
				"yaml": yaml.Marshal, "xml": xml.Marshal} {
				text, err := encode(holder)
				printed[encoder] = fmt.Sprint(string(text), err)
			}
			var log bytes.Buffer
			logger := zap.New(
				zapcore.NewCore(
					zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(&log),
					zapcore.DebugLevel,
				),
			)
			logger.Info(
				"",
				zap.Any("any", holder),
				zap.Reflect("reflect", holder),
				zap.Inline(
					zapcore.ObjectMarshalerFunc(
						func(e zapcore.ObjectEncoder) error {
							return e.AddReflected("inline",
								holder)
						},
					),
				),
			)
			logger.Sugar().Infof("%v %+v", holder, holder)
			slog.New(slog.NewJSONHandler(&log, nil)).Info("", "any", holder)
			slog.New(slog.NewTextHandler(&log, nil)).Info("", "any", holder)
			printed["logs"] = log.String()
			for how, text := range printed {
				if strings.Contains(text, hidden) ||
					strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", hidden)) {
					t.Errorf("%s prints the secret: %s", how, text)
				}
			}
		})
	}
	asJSON, err := json.Marshal(s)
	if err != nil || string(asJSON) != `"[redacted]"` {
		t.Errorf("as JSON: %s, %v", asJSON, err)
	}
	asYAML, err := yaml.Marshal(s)
	if err != nil || string(asYAML) != "'[redacted]'\n" {
		t.Errorf("as YAML: %s, %v", asYAML, err)
	}
	if s.String() != secret.Redacted ||
		fmt.Sprintf("%+v", exported{PIN: s}.PIN) != secret.Redacted ||
		s.Reveal() != hidden ||
		(secret.Secret{}).Reveal() != "" {
		t.Error("a secret prints as something else, or does not give its value")
	}
}

func TestReadSecret(t *testing.T) {
	dir := testkit.ConfigDir(t)
	t.Setenv("PIN_VARIABLE", "from variable")
	t.Setenv("PIN_EMPTY", "")
	t.Setenv(secret.CredentialsVariable, dir)
	write := func(name, content string, mode os.FileMode) string {
		testkit.WriteFile(t, name, content, mode)
		return filepath.Join(dir, name)
	}
	write("credential", "from systemd", 0o400)
	write("script", "#!/bin/sh\necho \"from $1 in $PWD\"\n", 0o700)
	write("broken", "#!/bin/sh\necho "+hidden+"\necho 'no such pin\x1b[31m' >&2\nexit 3\n", 0o700)
	err := syscall.Mkfifo("fifo", 0o600) // opening one waits for a writer
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		ref  secret.Ref
		want string // the secret, or the error after "error: "
	}{
		{"file", secret.Ref{File: write("a", "from file\n", 0o600)}, "from file"},
		{"file for the group", secret.Ref{File: write("b", "from file", 0o640)}, "from file"},
		{"blanks inside", secret.Ref{File: write("c", "a  b\tc\n", 0o600)}, "a  b\tc"},
		{"Windows line end", secret.Ref{File: write("j", hidden+"\r\n", 0o600)}, "error: DIR/j " +
			"ends with a carriage return (a Windows line end), which would count as part of the " +
			"secret; save it with Unix line ends"},
		{"trailing blank", secret.Ref{File: write("k", hidden+" \n", 0o600)}, "error: DIR/k " +
			"begins or ends with a blank, which would count as part of the secret; remove it"},
		{"leading no-break space", secret.Ref{File: write("l", "\u00A0"+hidden+"\n", 0o600)},
			"error: DIR/l begins or ends with a blank, which would count as part of the secret; " +
				"remove it"},
		{"byte order mark", secret.Ref{File: write("m", "\uFEFF"+hidden+"\n", 0o600)},
			"error: DIR/m begins with a byte order mark, which would count as part of the " +
				"secret; save it as UTF-8 without one"},
		{"UTF-16", secret.Ref{File: write("n", "\xFF\xFE1\x002\x00\n\x00", 0o600)},
			"error: DIR/n is UTF-16; save it as plain text (UTF-8 without a byte order mark)"},
		{"Latin-1", secret.Ref{File: write("o", "gr\xFCn\n", 0o600)}, "error: DIR/o is not " +
			"UTF-8; save it as plain text"},
		{"two newlines", secret.Ref{File: write("p", hidden+"\n\n", 0o600)}, "error: DIR/p holds " +
			"more than one line; only the secret may be in it"},
		{"command with a trailing blank", secret.Ref{Command: []string{"printf", "x \\n"}},
			"error: the output of printf begins or ends with a blank, which would count as part " +
				"of the secret; remove it"},
		{"file open to others", secret.Ref{File: write("d", hidden, 0o604)}, "error: DIR/d is " +
			"open to others (mode 0604); run: chmod 600 DIR/d"},
		{"file the group can change", secret.Ref{File: write("e", hidden, 0o660)}, "error: DIR/e " +
			"is open to others (mode 0660); run: chmod 600 DIR/e"},
		{"no file", secret.Ref{File: filepath.Join(dir, "none")}, "error: DIR/none does not exist"},
		{"directory", secret.Ref{File: dir}, "error: DIR is not a regular file"},
		{"named pipe", secret.Ref{File: filepath.Join(dir, "fifo")}, "error: DIR/fifo is not a " +
			"regular file"},
		{"device", secret.Ref{File: "/dev/zero"}, "error: /dev/zero is not a regular file"},
		{"empty file", secret.Ref{File: write("f", "\n", 0o600)}, "error: DIR/f is empty"},
		{"two lines", secret.Ref{File: write("g", hidden+"\n"+hidden+"\n", 0o600)},
			"error: DIR/g holds more than one line; only the secret may be in it"},
		{"large file", secret.Ref{File: write("h", strings.Repeat("h", secret.MaxSize+1), 0o600)},
			"error: DIR/h holds more than 4096 bytes, which no secret has"},
		{"largest file", secret.Ref{File: write("i", strings.Repeat("i", secret.MaxSize)+"\n",
			0o600)}, strings.Repeat("i", secret.MaxSize)},
		{"variable", secret.Ref{Env: "PIN_VARIABLE"}, "from variable"},
		{"no variable", secret.Ref{Env: "PIN_NOWHERE"}, "error: environment variable PIN_NOWHERE " +
			"is not set"},
		{"empty variable", secret.Ref{Env: "PIN_EMPTY"}, "error: environment variable PIN_EMPTY " +
			"is empty"},
		{"credential", secret.Ref{Credential: "credential"}, "from systemd"},
		{"no credential", secret.Ref{Credential: "none"}, "error: DIR/none does not exist"},
		{"command", secret.Ref{Command: []string{"./script", "command"}}, "from command in DIR"},
		{"command from PATH", secret.Ref{Command: []string{"printf", "%s", "from PATH"}},
			"from PATH"},
		{"no command", secret.Ref{Command: []string{"./none"}}, "error: DIR/none failed: " +
			"fork/exec DIR/none: no such file or directory"},
		{"failing command", secret.Ref{Command: []string{"./broken"}}, "error: DIR/broken " +
			"failed: exit status 3; it said: no such pin\\x1b[31m"},
		{"silent command", secret.Ref{Command: []string{"true"}}, "error: the output of true is " +
			"empty"},
		{"endless command", secret.Ref{Command: []string{"yes"}}, "error: the output of yes " +
			"holds more than 4096 bytes, which no secret has"},
		{"no place", secret.Ref{}, "error: no place is given to read the secret from"},
	} {
		t.Run(test.name, func(t *testing.T) {
			value, err := test.ref.Read(t.Context(), dir)
			got := value.Reveal()
			if err != nil {
				got = "error: " + err.Error()
				if strings.Contains(got, hidden) {
					t.Errorf("quotes the secret: %s", got)
				}
			}
			if strings.ReplaceAll(got, dir, "DIR") != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	t.Run("no systemd", func(t *testing.T) {
		t.Setenv(secret.CredentialsVariable, "")
		_, err := secret.Ref{Credential: "pin"}.Read(t.Context(), dir)
		const want = "systemd gave this process no credentials ($CREDENTIALS_DIRECTORY is not " +
			"set); add LoadCredential=pin:PATH to the unit"
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	})
}

// A command that hangs is ended together with what it started.
func TestHangingCommand(t *testing.T) {
	dir := testkit.ConfigDir(t)
	testkit.WriteFile(t, "hang", "#!/bin/sh\nsleep 60 &\necho $! > child\nwait\n", 0o700)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := secret.Ref{Command: []string{"./hang"}}.Read(ctx, dir)
	if err == nil || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %s", err, time.Since(start))
	}
	child, err := os.ReadFile("child")
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		status, err := os.ReadFile("/proc/" + strings.TrimSpace(string(child)) + "/stat")
		if err != nil || strings.Contains(string(status), ") Z ") {
			return // gone, or dead and not yet collected by init
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("what the command started runs on")
}

// Commands run side by side, eight at a time; what comes of them is in the order of the file.
func TestResolveCommands(t *testing.T) {
	testkit.ConfigDir(t)
	// Each waits until eight have begun, which they never have one after the other, and says how
	// many run.
	testkit.WriteFile(t, "secret", "#!/bin/sh\nmkdir running.$1 && touch begun.$1\n"+
		"for i in $(seq 200); do [ $(ls -d begun.* | wc -l) -ge 8 ] && break; sleep 0.05; done\n"+
		"[ $(ls -d begun.* | wc -l) -ge 8 ] || exit 3\n"+
		"[ $(ls -d running.* | wc -l) -le 8 ] || exit 4\nrmdir running.$1\n"+
		"[ $1 = 3 ] && exit 5\n[ $1 = 11 ] && exit 6\necho "+
		"\"N3xKqYw8sVt5LmZr0PdFhJ2uGbA7cTeQ1iXoWkS4yR$1\"\n", 0o700)
	text := testkit.ValidConfig(t)
	for i := range 12 {
		text += fmt.Sprintf("  - {name: s%d, path_prefix: /s%d, hsm_group: main, keys: {labels: "+
			"[k]}, credentials: [{access_key_id: %s, secret_access_key: {command: [./secret, "+
			"\"%d\"]}}]}\n", i, i, testkit.NumberedAccessKey(i+1), i)
	}
	testkit.WriteFile(t, "test.yaml", text, 0o644)
	l, err := LoadFile("test.yaml")
	if err != nil || l.Report.Err() != nil {
		t.Fatal(err, l.Report.Err())
	}
	r := schema.NewReport(l.Config.Source)
	all := ResolveInto(t.Context(), r, l.Config)
	for i := range 12 {
		want := fmt.Sprintf("N3xKqYw8sVt5LmZr0PdFhJ2uGbA7cTeQ1iXoWkS4yR%d", i)
		if i == 3 || i == 11 {
			want = ""
		}
		if got := all.AccessKeys[fmt.Sprint("s", i)][0].Secret.Reveal(); got != want {
			t.Errorf("key store %d has the secret of another: %q", i, got)
		}
	}
	if len(r.Problems) != 2 || !strings.Contains(r.Problems[0].Path, "key_stores[4]") ||
		!strings.Contains(r.Problems[1].Path, "key_stores[12]") ||
		!strings.Contains(r.Problems[0].Message, "exit status 5") {
		t.Errorf("%v", r.Problems)
	}
}

// Two owners with one secret could sign for each other; within one owner it is dubious (A5).
func TestSharedSecret(t *testing.T) {
	testkit.StoreDir(t)
	testkit.WriteFile(
		t, "key_stores.d/secrets/tax.key", "N3xKqYw8sVt5LmZr0PdFhJ2uGbA7cTeQ1iXoWkS4yRvU\n", 0o600,
	)
	const what = "secret_access_key: is also the secret access key of key store demo " +
		"(test.yaml:9:5): anyone who knows it could sign for both; create another with " +
		"xks-proxy credentials new"
	c, _, err := Load("test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = ResolveSecrets(t.Context(), c)
	if err == nil || err.Error() != "key_stores.d/tax.yaml:5:76: credentials[0]."+what {
		t.Errorf("%v", err)
	}
	c.KeyStores[1].Owner = c.KeyStores[0].Owner
	_, warnings, err := ResolveSecrets(t.Context(), c)
	if err != nil || len(warnings) != 1 || !strings.HasSuffix(warnings[0].String(), what) {
		t.Errorf("%v %v", err, warnings)
	}
}

// A command in the directory runs there.
func TestCommandOfDirectory(t *testing.T) {
	testkit.StoreDir(t)
	testkit.WriteFile(t, "key_stores.d/secrets/print", "#!/bin/sh\ncat secrets/tax.key\n", 0o700)
	testkit.WriteFile(
		t,
		"key_stores.d/tax.yaml",
		strings.Replace(
			testkit.StoreText("tax", testkit.TaxKey), "{file: \"secrets/{name}.key\"}",
			"{command: [secrets/print]}", 1,
		),
		0o644,
	)
	c, _, err := Load("test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all, _, err := ResolveSecrets(t.Context(), c)
	if err != nil || all.AccessKeys["tax"][0].Secret.Reveal() == "" {
		t.Error(err)
	}
}

// All secrets are read, and all that fail are reported with their line.
func TestResolveSecrets(t *testing.T) {
	testkit.ConfigDir(t)
	c, _ := mustLoad(t, testkit.ValidConfig(t))
	all, warnings, err := ResolveSecrets(t.Context(), c)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if all.PINs["hsm-a"].Reveal() != "1234-a" || all.PINs["hsm-b"].Reveal() != "1234-b" {
		t.Error("the PINs are not what the files hold")
	}
	keys := all.AccessKeys["demo"]
	if len(keys) != 1 || keys[0].ID != "XKSTESTACCESSKEYID234567" ||
		keys[0].Secret.Reveal() != "N3xKqYw8sVt5LmZr0PdFhJ2uGbA7cTeQ1iXoWkS4yRvU" {
		t.Error("the credential is not what the files hold")
	}
	testkit.WriteFile(t, "demo.key", hidden, 0o600)
	testkit.WriteFile(t, "hsm-a.pin", hidden, 0o644)
	_, _, err = ResolveSecrets(t.Context(), c)
	if err == nil || !strings.HasPrefix(err.Error(), "test.yaml has 2 errors:\n  test.yaml:3:57: "+
		"hsms[0].pin: ") || !strings.Contains(err.Error(), "\n  test.yaml:13:70: "+
		"key_stores[0].credentials[0].secret_access_key: ") {
		t.Errorf("got %v", err)
	}
	if strings.Contains(err.Error(), hidden) {
		t.Errorf("quotes a secret: %v", err)
	}
}

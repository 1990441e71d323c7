package fleet

import (
	"os"
	"os/user"
	"slices"
	"strings"
	"testing"

	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/secret"
	"xks-proxy/pkg/confine"
)

// confinedConfig has its own files in /etc/xks-proxy.
func confinedConfig() *config.Config {
	return &config.Config{
		Source:            &schema.Source{File: "xks-proxy.yaml", Dir: "/etc/xks-proxy"},
		Admin:             config.Admin{Socket: "/run/xks-proxy/admin.sock"},
		Log:               config.Log{Output: "/var/log/xks-proxy.log"},
		StateDirectory:    "/var/lib/xks-proxy",
		KeyStoreDirectory: "/etc/xks-proxy/key_stores.d",
		Server:            config.Server{TLS: config.TLS{Certificate: "/etc/ssl/certs/server.crt", Key: "/etc/ssl/private/server.key"}},
		HSMs: []config.HSM{
			{Name: "hsm-a", Module: "/opt/vendor/lib.so", PIN: secret.Ref{File: "/srv/pins/a"}, Environment: []string{
				"CONF=/etc/xks-proxy/a/vendor.conf", "OTHER=relative.conf", "DIR=.", "LD_LIBRARY_PATH=/opt/vendor:/usr/lib/vendor", "SHARED=/etc/vendor"}},
			{Name: "hsm-b", Module: "/opt/other/lib.so", PIN: secret.Ref{File: "/srv/pins/b"}, Environment: []string{
				"CONF=/etc/xks-proxy/b/vendor.conf", "LD_LIBRARY_PATH=/opt/vendor:/usr/lib/vendor", "SHARED=/etc/vendor",
				"TOKENS=/var/lib/tokens-b", "TMP=/tmp", "NUMBER=3"}},
		},
		KeyStores: []config.KeyStore{{
			Credentials:  []config.Credential{{SecretAccessKey: secret.Ref{File: "/srv/secrets/payroll"}}},
			Policy:       config.Policies{Files: []string{"/srv/policies"}},
			Certificates: []config.CertificateFiles{{Certificate: "/srv/public.crt", Key: "/srv/private.key"}},
		}},
	}
}

func TestConfinementPlan(t *testing.T) {
	t.Setenv(secret.CredentialsVariable, "/run/credentials/xks-proxy.service")
	c := confinedConfig()
	c.HSMs[0].Confine = config.Confine{Mode: config.ConfineDefault, Paths: []string{"/etc/xks-proxy/licences"}}
	plan := config.ConfinementPlan(c, c.HSMs[0])
	slices.Sort(plan.Protect)
	slices.Sort(plan.Allow)
	wantProtect := []string{
		"/etc/ssl/private/server.key", "/etc/xks-proxy", "/etc/xks-proxy/3", "/etc/xks-proxy/b", "/etc/xks-proxy/b/vendor.conf",
		"/etc/xks-proxy/key_stores.d", "/etc/xks-proxy/xks-proxy.yaml", "/run/credentials/xks-proxy.service",
		"/run/xks-proxy", "/run/xks-proxy/admin.sock", "/srv/pins/a", "/srv/pins/b", "/srv/policies",
		"/srv/private.key", "/srv/secrets/payroll", "/var/lib/tokens-b", "/var/lib/xks-proxy", "/var/log/xks-proxy.log",
	}
	if got := slices.Compact(plan.Protect); !slices.Equal(got, wantProtect) {
		t.Errorf("protected:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(wantProtect, "\n"))
	}
	wantKeep := []string{
		"/etc/vendor", "/etc/xks-proxy/a", "/etc/xks-proxy/a/vendor.conf", "/etc/xks-proxy/licences",
		"/etc/xks-proxy/relative.conf", "/opt/vendor", "/opt/vendor/lib.so", "/usr/lib/vendor",
	}
	if got := slices.Compact(plan.Allow); !slices.Equal(got, wantKeep) {
		t.Errorf("kept:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(wantKeep, "\n"))
	}
}

// TestConfinementKeepsTheProxysOwn: a variable that names what is the proxy's own gives it to no
// library, and confine.paths may not name it.
func TestConfinementKeepsTheProxysOwn(t *testing.T) {
	c := confinedConfig()
	c.HSMs[0].Environment = []string{"HOME=/var/lib/xks-proxy/", "DIR=/etc/xks-proxy",
		"CONF=/etc/xks-proxy/key_stores.d/vendor.conf", "TOKENS=/var/lib/xks-proxy/tokens"}
	want := []string{"/etc/xks-proxy/key_stores.d/vendor.conf", "/var/lib/xks-proxy/tokens", "/opt/vendor/lib.so"}
	if got := config.ConfinementPlan(c, c.HSMs[0]).Allow; !slices.Equal(got, want) {
		t.Errorf("kept: %q, want %q", got, want)
	}
	c.HSMs[0].Confine.Paths = []string{"/etc/xks-proxy/tokens", "/var/lib/xks-proxy/", "/", "/srv/secrets/payroll"}
	r := schema.NewReport(&schema.Source{File: "x.yaml"})
	config.ValidateConfine(r, c, "hsms[0].confine", c.HSMs[0])
	said := ""
	for _, p := range r.Sorted() {
		said += p.String() + "\n"
	}
	for _, w := range r.Warnings {
		said += w.String() + "\n"
	}
	for _, want := range []string{
		"hsms[0].confine.paths[0]: /etc/xks-proxy/tokens does not exist",
		"hsms[0].confine.paths[1]: /var/lib/xks-proxy/ is the proxy's own",
		"hsms[0].confine.paths[3]: /srv/secrets/payroll is the proxy's own",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if strings.Contains(said, "paths[2]") {
		t.Errorf("/ is not the proxy's own:\n%s", said)
	}
}

// A configuration directly in a directory of everybody takes that directory from no library.
func TestConfinementOfCommonDirectories(t *testing.T) {
	c := confinedConfig()
	c.Source.Dir, c.Admin.Socket = "/etc", "/tmp/admin.sock"
	plan := config.ConfinementPlan(c, c.HSMs[0])
	for _, path := range []string{"/etc", "/tmp", "/var/log"} {
		if slices.Contains(plan.Protect, path) {
			t.Errorf("%s is protected", path)
		}
	}
	for _, path := range []string{"/etc/xks-proxy.yaml", "/tmp/admin.sock"} {
		if !slices.Contains(plan.Protect, path) {
			t.Errorf("%s is not protected", path)
		}
	}
}

func TestConfinementStatus(t *testing.T) {
	c := confinedConfig()
	for name, one := range map[string]struct {
		kernel    confine.Kernel
		settings  config.Confine
		fact      string
		attention string
		refused   bool
	}{
		"whole":             {7, config.Confine{Mode: config.ConfineDefault, Required: true}, "confined, Landlock ABI 7", "", false},
		"strict":            {6, config.Confine{Mode: config.ConfineStrict}, "confined, Landlock ABI 6, strict", "", false},
		"off":               {7, config.Confine{Mode: config.ConfineOff}, "not confined (confine.mode: off)", "", false},
		"old":               {4, config.Confine{}, "only partly confined, Landlock ABI 4", "The process of hsm-a is only partly confined: this kernel has Landlock ABI 4, so it can send signals to processes of its user.", false},
		"very old":          {1, config.Confine{Required: true}, "only partly confined, Landlock ABI 1", "The process of hsm-a is only partly confined: this kernel has Landlock ABI 1, so it can truncate files and send signals to processes of its user.", true},
		"none":              {0, config.Confine{}, "not confined, no Landlock", "The process of hsm-a is not confined: this kernel has no Landlock, so it can read and change what its user can.", false},
		"none and required": {0, config.Confine{Required: true}, "not confined, no Landlock", "The process of hsm-a is not confined: this kernel has no Landlock, so it can read and change what its user can.", true},
	} {
		t.Run(name, func(t *testing.T) {
			h := c.HSMs[0]
			h.Confine = one.settings
			k := NewConfinement(c, h, one.kernel)
			if got := k.status().fact(); got != one.fact {
				t.Errorf("fact: %s, want %s", got, one.fact)
			}
			if got := k.status().Attention(); got != one.attention {
				t.Errorf("attention: %s, want %s", got, one.attention)
			}
			err := k.allowed()
			if (err != nil) != one.refused {
				t.Errorf("allowed: %v", err)
			}
		})
	}
}

// A process that was started before the configuration named a file is said to reach it, until it is
// started again.
func TestConfinementStale(t *testing.T) {
	c := confinedConfig()
	k := NewConfinement(c, c.HSMs[0], 7)
	start := func() {
		t.Helper()
		files, err := k.files()
		if err != nil || len(files) != 1 {
			t.Fatalf("%v, %d files", err, len(files))
		}
		files[0].Close()
	}
	start()
	within := confinedConfig()
	within.KeyStores[0].Credentials[0].SecretAccessKey.File = "/etc/xks-proxy/secrets/payroll"
	k.update(within)
	if k.status().Stale {
		t.Error("a file in the directory of the configuration is out of reach anyway")
	}
	beside := confinedConfig()
	beside.KeyStores[0].Credentials[0].SecretAccessKey.File = "/home/operator/payroll"
	k.update(beside)
	if s := k.status(); !s.Stale || !strings.Contains(s.Attention(), "run xks-proxy hsm restart hsm-a") {
		t.Errorf("%+v: %s", s, s.Attention())
	}
	start()
	if k.status().Stale {
		t.Error("it was started again")
	}
}

func TestConfinementFacts(t *testing.T) {
	got := ConfinementFacts([]ConfinementStatus{
		{HSM: "a", State: ConfinedWholly, Kernel: "Landlock ABI 7"}, {HSM: "b", State: ConfinedWholly, Kernel: "Landlock ABI 7"},
		{HSM: "c", State: confinedOff, Mode: config.ConfineOff},
	})
	want := []string{"a, b: confined, Landlock ABI 7", "c: not confined (confine.mode: off)"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestProcessUser(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	h := config.HSM{Name: "hsm-a", User: "nobody"}
	found, err := h.ProcessUser(0)
	if err != nil || found == nil || found.Uid != 65534 {
		t.Errorf("root and nobody (%s): %v, %v", nobody.Uid, found, err)
	}
	_, err = h.ProcessUser(12345)
	if err == nil || !strings.Contains(err.Error(), "HSM hsm-a: user: only root can start its process as nobody") {
		t.Errorf("not root: %v", err)
	}
	found, err = config.HSM{User: me.Uid}.ProcessUser(os.Geteuid())
	if err != nil || found != nil {
		t.Errorf("the proxy's own: %v, %v", found, err)
	}
	r := schema.NewReport(&schema.Source{File: "x.yaml"})
	config.ValidateUser(r, "hsms[0].user", "no-such-user")
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), `hsms[0].user: the user no-such-user does not exist: create it or choose another`) {
		t.Errorf("%v", err)
	}
}

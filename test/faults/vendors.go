package main

// Mixed pairs: another module in the place of SoftHSM on one HSM. test/vendors/build.sh makes the
// modules, as far as their sources can be had.

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
	"xks-proxy/test/faulty"
	"xks-proxy/test/harness"
)

// vendor is a module that test/vendors/build.sh makes.
type vendor struct {
	name     string
	module   string   // its file in the directory of vendors
	slot     string   // that a token can be made in
	settings []string // of the program, as in -set
	// files are written to the token's directory; %s is that directory.
	files map[string]string
	// environment of the module; %s is the token's directory.
	environment []string
	// remote is a server's program in the directory of vendors. It serves the SoftHSM token of the
	// demo, and the module is its client.
	remote string
}

var vendors = []vendor{
	{name: "kryoptic", module: "kryoptic.so", slot: "1",
		files: map[string]string{"kryoptic.conf": "[[slots]]\nslot = 1\ndbtype = \"sqlite\"\n" +
			"dbargs = \"%s/token.sql\"\n"},
		environment: []string{"KRYOPTIC_CONF=%s/kryoptic.conf"}},
	{name: "p11-kit remoting", module: "p11-kit-client.so", remote: "p11-kit-server"},
	{name: "FreeHSM", module: "freehsm.so", slot: "0",
		// Its self-tests want algorithms of OpenSSL 3.5, its integrity check a signature: both off.
		environment: []string{"FHSM_TOKENS_DIR=%s", "FHSM_AUDIT_LOG=%s/audit.log",
			"FHSM_INTEGRITY_ALLOW_UNSIGNED=1%.0s", "FHSM_KAT_ALLOW_FAIL=1%.0s"},
		settings: []string{"HSMS_0_OVERRIDES_MAX_AAD=4096"}},
}

// onVendors are the faults that a mixed pair must not let anybody notice.
func onVendors(v *vendor) []fault {
	logOut := faulty.Rule{Function: "C_EncryptInit", Action: faulty.DropLogin, Times: 3}
	list := []fault{
		{name: "none", inject: func(*world, *target) (func() bool, error) { return always, nil }},
		{name: "tampering", mix: mix{Encrypts: 40, Integrity: 25, Tampered: 50},
			inject: func(*world, *target) (func() bool, error) { return always, nil }},
		rule("log-out, three times", logOut),
		keyDeleted(),
		signalled("kill", syscall.SIGKILL),
		removed("unplug"),
		signalled("freeze", syscall.SIGSTOP),
	}
	if v.remote != "" {
		list = append(list, serverSignalled("kill of the server", syscall.SIGKILL),
			serverSignalled("freeze of the server", syscall.SIGSTOP))
	}
	for i := range list {
		list[i].noneSlow = true
	}
	return list
}

// runVendors prints a table for each vendor whose module is there.
func runVendors(ctx context.Context, o *options, m *harness.Machine) (bool, error) {
	good, ran := true, 0
	for i := range vendors {
		v := &vendors[i]
		if !o.faults.MatchString(v.name) {
			continue
		}
		_, err := os.Stat(filepath.Join(o.vendors, v.module))
		if errors.Is(err, fs.ErrNotExist) {
			fmt.Printf("\n%s: not run, because %s was not built\n", v.name, v.module)
			continue
		}
		fmt.Printf("\n%s and SoftHSM\n", v.name)
		ok, err := o.with(v).runVendor(ctx, m)
		if err != nil {
			fmt.Printf("  %s: %v\n", v.name, err)
		}
		good = good && ok && err == nil
		ran++
	}
	if ran == 0 {
		return false, errors.New("no vendor's module is there")
	}
	return good, nil
}

// with gives the options for one vendor.
func (o *options) with(v *vendor) *options {
	changed := *o
	changed.vendor = v
	changed.connections = 32
	changed.settings = slices.Concat([]string{"HSMS_0_PROFILE=generic"}, v.settings, o.settings)
	return &changed
}

func (o *options) runVendor(ctx context.Context, m *harness.Machine) (bool, error) {
	w, err := newWorld(ctx, o, m)
	if err != nil {
		return false, err
	}
	defer w.close()
	fmt.Println(table.Header())
	good := true
	for _, f := range onVendors(o.vendor) {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		for _, rate := range o.rates {
			r, err := w.runUndisturbed(o, &f, rate, "hsm-a")
			if r != nil {
				r.print()
				good = good && !r.missed()
			}
			if err != nil {
				return false, fmt.Errorf("%s: %w", f.name, err)
			}
		}
	}
	return good, nil
}

// replace makes the vendor's token in the place of the target's.
func (o *options) replace(ctx context.Context, w *world, t *target) error {
	v := o.vendor
	dir, err := filepath.Abs(o.vendors)
	if err != nil {
		return err
	}
	module := filepath.Join(dir, v.module)
	if v.remote != "" {
		socket := filepath.Join(w.dir, "server.sock")
		t.More = []string{"P11_KIT_SERVER_ADDRESS=unix:path=" + socket}
		t.Direct, t.Module = t.Module, module
		w.server = &server{socket: socket, token: t,
			program: filepath.Join(dir, v.remote)}
		return w.server.start(ctx)
	}
	home := filepath.Join(w.dir, "vendor")
	err = os.Mkdir(home, 0o700)
	if err != nil {
		return err
	}
	for name, text := range v.files {
		err := os.WriteFile(filepath.Join(home, name), fmt.Appendf(nil, text, home), 0o600)
		if err != nil {
			return err
		}
	}
	for _, setting := range v.environment {
		t.More = append(t.More, fmt.Sprintf(setting, home))
	}
	t.Module = module
	err = t.initToken(ctx, v.slot)
	if err != nil {
		return err
	}
	w.known, err = knownKeys()
	return err
}

// knownKeys are those of the demo that the load uses, with values of our own.
func knownKeys() ([]pkcs11.NewKey, error) {
	refs := []hsm.KeyRef{{Label: "xks-proxy-test", Version: 1}, {Label: keyLabels[0], Version: 1}}
	for _, label := range keyLabels[1 : len(keyLabels)-1] {
		refs = append(refs, hsm.KeyRef{Label: label, Version: 1})
	}
	refs = append(refs, hsm.KeyRef{Label: keyLabels[0], Version: 2})
	var keys []pkcs11.NewKey
	for _, ref := range refs {
		value := make([]byte, hsm.KeySize)
		_, err := rand.Read(value)
		if err != nil {
			return nil, err
		}
		keys = append(keys, pkcs11.NewKey{Label: ref.Label, Version: ref.Version, HasVersion: true,
			Value: value})
	}
	return keys, nil
}

// sameKeys puts the known keys on both tokens, in the place of the demo's on SoftHSM.
func (w *world) sameKeys() error {
	if len(w.known) == 0 {
		return nil
	}
	var old []hsm.KeyRef
	for _, key := range w.known {
		old = append(old, hsm.KeyRef{Label: key.Label, Version: key.Version})
	}
	_, err := w.targets[0].do(tokenJob{Create: w.known})
	if err != nil {
		return err
	}
	_, err = w.targets[1].do(tokenJob{Destroy: old, Create: w.known})
	return err
}

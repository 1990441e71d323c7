package main

// The world of a run: a pair of software HSMs and the program in front of it, with four key stores.
// One path prefix begins with another, one key store reaches its keys by a template, one has no
// prefix and every label, and one has a quota. Two more exist under a host name of their own only.
// Half of them stand in the configuration file, half in files of their own. A second port asks for
// client certificates, a third one is for a load balancer that speaks the PROXY protocol.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"xks-proxy/pkg/sigv4"
	"xks-proxy/test/harness"
)

const (
	apiPath = "/kms/xks/v1"
	testKey = "xks-proxy-test" // the program's own key, which no key store may reach
)

// tenant is a key store as those who hold its credential see it.
type tenant struct {
	Name       string
	Prefix     string
	Keys       []string // external key ids
	Labels     []string // of these keys, on the HSMs
	Patterns   []string // of labels that it reaches; nil: Labels
	Template   string   // "": the label is the external key id
	Quota      int      // requests a second; 0: none
	Host       string   // under which it exists; "": any
	OwnFile    bool     // it stands in the key store directory
	Credential credential
}

func (t *tenant) path(below string) string { return t.Prefix + apiPath + below }

// object is a section of a configuration file, which is YAML and takes JSON.
type object = map[string]any

// world is what the program under attack needs.
type world struct {
	dir     string
	options *options
	program *program
	target  target // what an attacker is told
	machine *harness.Machine
}

func newWorld(ctx context.Context, o *options) (*world, error) {
	dir, err := os.MkdirTemp(harness.FastDirectory(), "xks-attack-")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, options: o, machine: harness.WatchMachine(stoodStill)}
	err = w.build(ctx)
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) build(ctx context.Context) error {
	binary, err := filepath.Abs(w.options.proxy)
	if err != nil {
		return err
	}
	d, err := harness.Prepare(ctx, binary, filepath.Join(w.dir, "demo"), 4)
	if err != nil {
		return err
	}
	w.target = target{CA: string(d.CA), Tenants: []tenant{
		{
			Name: "agency", Prefix: "/agency", Keys: []string{"1", "2"},
			Labels: []string{"demo-key-1", "demo-key-2"}, Template: "demo-key-{key_id}",
		},
		{
			Name: "archive", Prefix: "/agency/archive", Keys: []string{"demo-key-3", "demo-key-4"},
			Labels: []string{"demo-key-3", "demo-key-4"}, OwnFile: true,
		},
		{
			Name: "everything", Prefix: "", Keys: []string{"demo-key-1"},
			Labels: []string{"demo-key-1"}, Patterns: []string{"*"},
		},
		{
			Name: "noisy", Prefix: "/noisy", Keys: []string{"demo-key-4"},
			Labels: []string{"demo-key-4"}, Quota: noisyQuota, OwnFile: true,
		},
	}, Housed: []tenant{
		{
			Name: "north", Prefix: "/north", Keys: []string{"demo-key-1"},
			Labels: []string{"demo-key-1"}, Host: "north.attack.test",
		},
		{
			Name: "south", Prefix: "/south", Keys: []string{"demo-key-2"},
			Labels: []string{"demo-key-2"}, Host: "south.attack.test", OwnFile: true,
		},
	}}
	w.target.ClientCA, err = newAuthority()
	if err != nil {
		return err
	}
	config, err := w.writeConfig(d)
	if err != nil {
		return err
	}
	w.program, err = startProgram(binary, config)
	if err != nil {
		return err
	}
	w.target.API, w.target.Health = w.program.Listen, w.program.Health
	w.target.Mutual, w.target.Balanced = w.program.mutual, w.program.balanced
	return w.makeCiphertexts()
}

// writeConfig writes the configuration and makes the credentials. All limits are the program's own.
func (w *world) writeConfig(d *harness.Demo) (string, error) {
	var hsms, members, stores []object
	for _, h := range d.HSMs {
		hsms = append(
			hsms,
			object{"name": h.Name, "profile": "softhsm", "module": h.Module, "token": h.Token,
				"pin": object{
					"file": h.PINFile,
				}, "environment": []string{"SOFTHSM2_CONF=" + h.SoftHSM2Conf}},
		)
		members = append(members, object{"hsm": h.Name})
	}
	clientCA := filepath.Join(w.dir, "clients.crt")
	err := errors.Join(
		os.Mkdir(filepath.Join(w.dir, storeDirectory), 0o700),
		os.WriteFile(clientCA, w.target.ClientCA.Certificate, 0o600),
	)
	if err != nil {
		return "", err
	}
	for _, tenants := range [][]tenant{w.target.Tenants, w.target.Housed} {
		for i := range tenants {
			store, err := w.keyStore(&tenants[i])
			if err != nil {
				return "", err
			}
			if store != nil {
				stores = append(stores, store)
			}
		}
	}
	text, err := json.Marshal(object{
		"server": object{"listen": "127.0.0.1:0",
			"listeners": []object{
				{"listen": "127.0.0.3:0", "client_certificates": object{
					"ca": clientCA, "subjects": []string{clientSubject}}},
				{"listen": "127.0.0.4:0", "proxy_protocol": object{
					"trusted": []string{trustedBalancer}}},
			},
			"tls": object{"certificate": d.File("server.crt"), "key": d.File("server.key")}},
		"health": object{
			"listen": "127.0.0.2:0",
		}, // the program refuses twice the same, and takes port 0 for one
		"state_directory": filepath.Join(
			w.dir, "state",
		), "admin": object{"socket": filepath.Join(w.dir, "admin.sock")},
		"hsms":       hsms,
		"hsm_groups": []object{{"name": "main", "hsms": members, "test_key": testKey}},
		"key_stores": stores,
	})
	if err != nil {
		return "", err
	}
	file := filepath.Join(w.dir, "xks-proxy.yaml")
	return file, os.WriteFile(file, text, 0o600)
}

const storeDirectory = "key_stores.d" // the default

// keyStore makes the credential of a key store, and its section of the configuration; nil if that
// went into a file of its own.
func (w *world) keyStore(t *tenant) (object, error) {
	made, err := sigv4.GenerateCredential()
	if err != nil {
		return nil, err
	}
	t.Credential = credential{ID: made.AccessKeyID, Secret: made.SecretAccessKey}
	secret := filepath.Join(w.dir, t.Name+".secret")
	err = os.WriteFile(secret, []byte(made.SecretAccessKey), 0o600)
	if err != nil {
		return nil, err
	}
	keys := object{"labels": t.Labels}
	if t.Patterns != nil {
		keys["labels"] = t.Patterns
	}
	if t.Template != "" {
		keys["label"] = t.Template
	}
	store := object{"name": t.Name, "path_prefix": t.Prefix, "hsm_group": "main", "keys": keys,
		"quota": object{"requests_per_second": t.Quota},
		"credentials": []object{
			{"access_key_id": t.Credential.ID, "secret_access_key": object{"file": secret}},
		}}
	if t.Host != "" {
		store["hosts"] = []string{t.Host}
	}
	if !t.OwnFile {
		return store, nil
	}
	text, err := json.Marshal(store)
	if err != nil {
		return nil, err
	}
	return nil, os.WriteFile(filepath.Join(w.dir, storeDirectory, t.Name+".yaml"), text, 0o600)
}

// makeCiphertexts has every tenant encrypt something, for Decrypts of others to be tried with.
func (w *world) makeCiphertexts() error {
	for i := range w.target.Tenants {
		t := &w.target.Tenants[i]
		sealed, err := w.target.encryptOnce(t, t.Keys[0])
		if err != nil {
			return fmt.Errorf("the first Encrypt of %s: %w", t.Name, err)
		}
		w.target.Sealed = append(w.target.Sealed, sealed)
	}
	return nil
}

// close ends the program and removes everything.
func (w *world) close() {
	if w.program != nil {
		w.program.Stop()
	}
	_ = os.RemoveAll(w.dir) // a temporary directory
}

// target is what an attacker knows. He has a credential of each tenant, to try them on the others.
type target struct {
	API, Health string // addresses
	Mutual      string // address of the port that asks for client certificates
	Balanced    string // address of the port for a load balancer
	CA          string // PEM
	ClientCA    authority
	Tenants     []tenant
	Housed      []tenant // that exist under a host name of their own
	Sealed      [][]byte // the fields of a Decrypt, JSON, one for each tenant, of its first key
	Seed        uint64
	Short       bool
	Mutants     int
}

// tenant is the one with a name.
func (t *target) tenant(name string) *tenant {
	for i := range t.Tenants {
		if t.Tenants[i].Name == name {
			return &t.Tenants[i]
		}
	}
	panic("no tenant is named " + name)
}

// amount is how much of something an attack does.
func (t *target) amount(whole, short int) int {
	if t.Short {
		return short
	}
	return whole
}

// encryptOnce gives the fields that a Decrypt of the answer has.
func (t *target) encryptOnce(who *tenant, key string) ([]byte, error) {
	c := &wire{target: t}
	defer c.close()
	r, err := c.ask(newSketch(t, who, "/keys/"+key+"/encrypt", encryptBody("attack")).bytes())
	if err != nil {
		return nil, err
	}
	if r.status != 200 {
		return nil, fmt.Errorf("%d %s", r.status, r.body)
	}
	return sealedFields(r.body)
}

// sealedFields takes a Decrypt's fields out of an Encrypt's answer.
func sealedFields(answer []byte) ([]byte, error) {
	fields, found := strings.CutPrefix(strings.TrimSpace(string(answer)), "{")
	fields, ended := strings.CutSuffix(fields, "}")
	if !found || !ended {
		return nil, errors.New("the answer is no object: " + string(answer))
	}
	return []byte("," + fields), nil
}

// host is what a client puts into Host.
func (t *target) host() string {
	_, port, _ := net.SplitHostPort(t.API)
	return net.JoinHostPort("localhost", port)
}

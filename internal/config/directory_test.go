package config

// The key store directory: what is read of it, in which order, where paths in it start, and every
// error with the file that it is in.

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/testkit"
)

func TestKeyStoreDirectory(t *testing.T) {
	dir := testkit.StoreDir(t)
	for name, content := range map[string]string{
		"payroll.yml":    testkit.StoreText("payroll", testkit.PayrollKey, "name: pay"),
		".hidden.yaml":   "no: such",
		".#tax.yaml":     "no: such",
		"tax.yaml~":      "no: such",
		"tax.yaml.bak":   "no: such",
		"README":         "about it",
		"x.yaml.example": "no: such",
	} {
		testkit.WriteFile(t, filepath.Join("key_stores.d", name), content, 0o644)
	}
	err := os.Mkdir("key_stores.d/old.yaml", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	c, warnings, err := Load("test.yaml")
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if got := PlaceOf(c, schema.StoreKey(2, "owner")); got != "key_stores.d/tax.yaml:1:8: owner" {
		t.Errorf("an operator is sent to %s", got)
	}
	names := make([]string, 0, len(c.KeyStores))
	for _, k := range c.KeyStores {
		names = append(names, k.Name)
	}
	if got := fmt.Sprint(names); got != "[demo pay tax]" {
		t.Fatalf("key stores %s", got)
	}
	tax := c.KeyStores[2]
	if tax.PathPrefix != "/tax/tax" || tax.Keys.Labels[0] != "tax-*" ||
		tax.Credentials[0].SecretAccessKey.File != filepath.Join(
			dir, "key_stores.d/secrets/tax.key",
		) {
		t.Errorf("%+v", tax)
	}
	if tax.Policy.Mode != "enforce" || tax.Integrity != "other" || tax.Keys.Label != "{key_id}" {
		t.Errorf("defaults: %+v", tax)
	}
}

// Variables are for the key stores of the main file: the number of another depends on what else is
// in the directory.
func TestDirectoryWithoutVariables(t *testing.T) {
	testkit.StoreDir(t)
	t.Setenv("XKS_KEY_STORES_0_OWNER", "demo")
	c, _, err := Load("test.yaml")
	if err != nil || c.KeyStores[0].Owner != "demo" {
		t.Errorf("%v", err)
	}
	t.Setenv("XKS_KEY_STORES_1_OWNER", "tax")
	_, _, err = Load("test.yaml")
	const want = "environment variable XKS_KEY_STORES_1_OWNER: names no key of this file; did " +
		"you mean XKS_KEY_STORES_0_OWNER?"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// As Kubernetes mounts a ConfigMap: files are links into a directory that a link names.
func TestDirectoryOfKubernetes(t *testing.T) {
	testkit.StoreDir(t)
	for _, step := range []error{
		os.Mkdir("key_stores.d/..2026_11_22", 0o755),
		os.Rename("key_stores.d/tax.yaml", "key_stores.d/..2026_11_22/tax.yaml"),
		os.Symlink("..2026_11_22", "key_stores.d/..data"),
		os.Symlink("..data/tax.yaml", "key_stores.d/tax.yaml"),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	c, _, err := Load("test.yaml")
	if err != nil || len(c.KeyStores) != 2 {
		t.Error(err)
	}
}

func TestDirectoryProblems(t *testing.T) {
	const tax = "key_stores.d/tax.yaml"
	write := func(file, content string) func(*testing.T) {
		return func(t *testing.T) { t.Helper(); testkit.WriteFile(t, file, content, 0o644) }
	}
	change := func(file, old, to string) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			data, err := os.ReadFile(file)
			if err != nil || !strings.Contains(string(data), old) {
				t.Fatalf("%v, or no %q in %s", err, old, file)
			}
			testkit.WriteFile(t, file, strings.Replace(string(data), old, to, 1), 0o644)
		}
	}
	mode := func(file string, mode os.FileMode) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			err := os.Chmod(file, mode)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	link := func(t *testing.T) {
		t.Helper()
		err := os.Symlink("nowhere", "key_stores.d/lost.yaml")
		if err != nil {
			t.Fatal(err)
		}
	}
	directory := func(value string) func(*testing.T) {
		return change("test.yaml", "server:", "key_store_directory: "+value+"\nserver:")
	}
	for _, test := range []struct {
		name   string
		change func(*testing.T)
		want   string
	}{
		{"unknown key", change(tax, "owner:", "ower:"), "key_stores.d/tax.yaml:1:1: ower: " +
			"unknown key; did you mean \"owner\"?"},
		{"access key id", change(tax, testkit.TaxKey, "SHORT"), "key_stores.d/tax.yaml:5:31: " +
			"credentials[0].access_key_id: must be 20 to 30 characters of A-Z and 2-7 (not " +
			"shown: it could be the secret)"},
		{"group", change(tax, "hsm_group: main", "hsm_group: mian"),
			"key_stores.d/tax.yaml:3:12: hsm_group: there is no HSM group named \"mian\"; did " +
				"you mean \"main\"?"},
		{"missing", change(tax, "hsm_group: main", ""), "key_stores.d/tax.yaml:1:1: hsm_group: " +
			"is missing (Name of the HSM group that holds its keys)"},
		{"syntax", write(tax, "owner: [\n"), "key_stores.d/tax.yaml:2: is not YAML: what begins " +
			"here breaks off further down (did not find expected node content); look at " +
			"indentation, quotes and brackets"},
		{"empty", write(tax, "# nothing yet\n"), "key_stores.d/tax.yaml:1:1: the file is empty; " +
			"configs/xks-proxy.yaml is an example with every key explained"},
		{"list", write(tax, "- name: tax\n"), "key_stores.d/tax.yaml:1:1: the file must be a " +
			"list of \"key: value\" lines; configs/xks-proxy.yaml is an example"},
		{"too large", write(tax, "# "+strings.Repeat("x", schema.MaxConfigSize)),
			"key_stores.d/tax.yaml:1:1: the file is larger than 1 MiB; it is probably not the " +
				"configuration"},
		{"aliases", write(tax, "owner: tax\nhsm_group: main\ncredentials: [{access_key_id: "+
			"XKSTESTACCESSKEYIDTAXTAX, secret_access_key: {file: a}}]\nregions: &a ["+
			strings.Repeat("x,", 20000)+"]\nhosts: *a\n"),
			"key_stores.d/tax.yaml:1:1: holds more than 30000 values when its aliases " +
				"(*name) are expanded"},
		{"file name", write("key_stores.d/new tax.yaml", strings.Replace(testkit.StoreText("new",
			testkit.PayrollKey), "/{owner}/{name}", "/new", 1)), "key_stores.d/new tax.yaml:1:1: " +
			"name: " + NameRule},
		{"link to nothing", link, "key_stores.d/lost.yaml: the file does not exist"},
		{"writable file", mode(tax, 0o664), "key_stores.d/tax.yaml: the file can be changed by " +
			"others (mode 0664); run: chmod go-w key_stores.d/tax.yaml"},
		{"writable directory", mode("key_stores.d", 0o777), "test.yaml:1:1: key_store_directory: " +
			"DIR/key_stores.d can be changed by others (mode 0777), who could add a key store; " +
			"run: chmod go-w DIR/key_stores.d"},
		{"no directory", directory("none.d"), "test.yaml:1:22: key_store_directory: DIR/none.d " +
			"does not exist"},
		{"a file", directory("server.crt"), "test.yaml:1:22: key_store_directory: DIR/server.crt " +
			"is not a directory"},
		{"copied", write("key_stores.d/payroll.yaml", testkit.StoreText("tax", testkit.TaxKey)),
			"key_stores.d/tax.yaml:5:31: credentials[0].access_key_id: is an access key id of " +
				"key store payroll (key_stores.d/payroll.yaml:5:31), too; each key store has its " +
				"own: xks-proxy credentials new makes one"},
		{"same name", write("key_stores.d/zoo.yaml", testkit.StoreText("zoo", testkit.PayrollKey,
			"name: tax")), "key_stores.d/zoo.yaml:6:7: name: is the name of key store tax " +
			"(key_stores.d/tax.yaml:1:1), too; names are unique"},
		{"same name as in the main file", write("key_stores.d/demo.yaml", testkit.StoreText("demo2",
			testkit.PayrollKey)), "key_stores.d/demo.yaml:1:1: name: is the name of key store " +
			"demo (test.yaml:9:11), too; names are unique"},
		{"same prefix", change(tax, "/{owner}/{name}", "/demo"), "key_stores.d/tax.yaml:2:14: " +
			"path_prefix: is the path prefix of key store demo (test.yaml:10:18), too; each key " +
			"store has its own"},
		{"same access key id", change(tax, testkit.TaxKey, "XKSTESTACCESSKEYID234567"),
			"key_stores.d/tax.yaml:5:31: credentials[0].access_key_id: is an access key id of " +
				"key store demo (test.yaml:14:25), too; each key store has its own: xks-proxy " +
				"credentials new makes one"},
		{"overlap", change(tax, `"{owner}-*"`, `"[a-d]e??"`),
			"key_stores.d/tax.yaml:4:17: keys.labels[0]: reaches the key with the label " +
				"\"demo\", which key store demo (test.yaml:12:21), of another owner, reaches, " +
				"too; give each owner keys of its own"},
		{"unknown placeholder", change(tax, `"{owner}-*"`, `"{agency}-*"`),
			"key_stores.d/tax.yaml:4:17: keys.labels[0]: there is no placeholder {agency}; " +
				"known: {name}, {owner}, {application}, {environment}"},
		{"secret as placeholder", change(tax, `"{owner}-*"`, `"{hunter2!}-*"`),
			"key_stores.d/tax.yaml:4:17: keys.labels[0]: there is no placeholder of this name; " +
				"known: {name}, {owner}, {application}, {environment}"},
		{"empty placeholder", change(tax, `/{owner}/{name}`, `/{owner}/{application}`),
			"key_stores.d/tax.yaml:2:14: path_prefix: {application} stands for the key " +
				"application of this key store, which is empty; set it"},
		{"placeholder in the template", change(tax, "keys: {", "keys: {label: \"{owner}-{key}\", "),
			"key_stores.d/tax.yaml:4:15: keys.label: there is no placeholder {key}; known: " +
				"{name}, {owner}, {application}, {environment}, {key_id}"},
		{"prefix", change(tax, "owner: tax", "owner: tax office"), "key_stores.d/tax.yaml:1:8: " +
			"owner: is filled in for {owner} in path_prefix, where it must hold letters, digits, " +
			"_ and - only (AWS KMS accepts no other in a path)"},
		{"pattern", func(t *testing.T) {
			change(tax, "/{owner}/{name}", "/tax")(t)
			change(tax, "owner: tax", "owner: \"tax*\"")(t)
		}, "key_stores.d/tax.yaml:1:8: owner: is filled in for {owner} in keys.labels[0], where " +
			"it must hold none of * ? [ ] \\ { } (they would make it a pattern)"},
		{"path", change(tax, "secrets/{name}.key\"}}]",
			"secrets/{application}.key\"}}]\napplication: ../demo"),
			"key_stores.d/tax.yaml:6:14: application: is filled in for {application} in " +
				"credentials[0].secret_access_key.file, where it must hold no / and no " +
				"braces, and no dot at its beginning (it becomes part of a file's name)"},
		{"host", change(tax, "hsm_group", "hosts: [\"{environment}.example.com\"]\nenvironment: "+
			"Test\nhsm_group"), "key_stores.d/tax.yaml:4:14: environment: is filled in for " +
			"{environment} in hosts[0], where it must hold lower case letters, digits, . and " +
			"- only (it becomes part of a host name)"},
		{"no key store at all", func(t *testing.T) {
			text := testkit.ValidConfig(t)
			testkit.WriteFile(t, "test.yaml", text[:strings.Index(text, "key_stores:")], 0o644)
			err := os.Remove(tax)
			if err != nil {
				t.Fatal(err)
			}
		}, "test.yaml:1:1: key_stores: is missing, and DIR/key_stores.d holds no *.yaml file; " +
			"write a key store here or a file into key_store_directory (configs/key_stores.d has " +
			"an example)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := testkit.StoreDir(t)
			test.change(t)
			_, _, err := Load("test.yaml")
			got := strings.ReplaceAll(fmt.Sprint(err), dir, "DIR")
			if got != test.want || strings.Contains(got, "hunter") {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// What is wrong in several files comes file by file, the main file first.
func TestDirectoryProblemsInOrder(t *testing.T) {
	testkit.StoreDir(t)
	testkit.WriteFile(
		t, "test.yaml",
		strings.Replace(testkit.ValidConfig(t), "hsm_group: main", "hsm_group: none", 1), 0o644,
	)
	testkit.WriteFile(t, "key_stores.d/tax.yaml", "a: 1\n", 0o644)
	testkit.WriteFile(t, "key_stores.d/payroll.yaml", testkit.StoreText("pay roll", "x"), 0o644)
	_, _, err := Load("test.yaml")
	var places []string
	for _, line := range strings.Split(fmt.Sprint(err), "\n")[1:] {
		places = append(places, strings.Join(strings.Fields(line)[:2], " "))
	}
	const want = "[test.yaml:11:16: key_stores[0].hsm_group: key_stores.d/payroll.yaml:1:8: " +
		"owner: key_stores.d/payroll.yaml:5:31: credentials[0].access_key_id: " +
		"key_stores.d/tax.yaml:1:1: a: key_stores.d/tax.yaml:1:1: hsm_group: " +
		"key_stores.d/tax.yaml:1:1: credentials:]"
	if fmt.Sprint(places) != want {
		t.Errorf("got %s\n%v", places, err)
	}
}

// The example is a tenant as it stands, and three changed lines are the next one.
func TestExampleTenant(t *testing.T) {
	data, err := os.ReadFile("../../configs/key_stores.d/payroll.yaml.example")
	if err != nil {
		t.Fatal(err)
	}
	main, err := os.ReadFile("../../configs/xks-proxy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	testkit.StoreDir(t)
	testkit.WriteFile(
		t, "test.yaml",
		strings.Replace(string(main), `labels: ["demo", "demo-*"]`, "labels: [demo]", 1), 0o644,
	)
	example := string(data)
	next := strings.NewReplacer("owner: ministry-of-finance", "owner: ministry-of-health",
		"application: payroll", "application: records",
		"XKSEXAMPLEPAYROLL2345672", "XKSEXAMPLERECORDS2345672").
		Replace(example)
	testkit.WriteFile(t, "key_stores.d/payroll.yaml", example, 0o644)
	testkit.WriteFile(t, "key_stores.d/records.yaml", next, 0o644)
	l, err := LoadFile("test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	err = l.Report.Err()
	if err != nil || len(l.Report.Warnings) > 0 {
		t.Fatal(err, l.Report.Warnings)
	}
	k := l.Config.KeyStores[2]
	if k.Name != "records" || k.PathPrefix != "/ministry-of-health/records/production" ||
		k.Keys.Labels[1] != "ministry-of-health-records-production-*" {
		t.Errorf("%+v", k)
	}
	changed := 0
	after := strings.Split(next, "\n")
	for i, line := range strings.Split(example, "\n") {
		if line != after[i] {
			changed++
		}
	}
	if changed != 3 {
		t.Errorf("%d lines differ", changed)
	}
}

func BenchmarkLoadThousand(b *testing.B) {
	dir := b.TempDir()
	b.Chdir(dir)
	err := os.Mkdir("key_stores.d", 0o755)
	if err != nil {
		b.Fatal(err)
	}
	testkit.ThousandStores(b)
	main, _, _ := strings.Cut(testkit.ValidConfig(b), "key_stores:")
	err = os.WriteFile("test.yaml", []byte(main), 0o600)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		l, err := LoadFile("test.yaml")
		if err != nil || l.Report.Err() != nil || len(l.Config.KeyStores) != 1000 {
			b.Fatal(err, l.Report.Err())
		}
	}
}

package config

// Loading a configuration: bytes -> YAML tree -> settings (of the main file, then of the key store
// directory) -> placeholders filled in -> typed config -> checks between sections -> checks of the
// files it names.

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/viper"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/guarded"
)

// Loaded is a configuration with what is needed to show it and to say where each
// value is from.
type Loaded struct {
	Config   *Config
	Settings map[string]any
	Report   *schema.Report
	Whole    bool // the main file is YAML, so that config holds what is in it
}

// Load reads, completes and checks the configuration file at path, and that the files it names are
// there, and reads the policies; the environment of the process overrides keys (XKS_…). It reads no
// secret: that is ResolveSecrets. The error is a *schema.Error when the file could be read at all;
// there are no warnings with it.
func Load(path string) (*Config, []schema.Warning, error) {
	l, err := LoadFile(path)
	if err != nil {
		return nil, nil, err
	}
	WarnOpenConfig(l.Report, path)
	checkFiles(l.Report, l.Config)
	l.Config.Policies = LoadPolicies(l.Report, l.Config)
	err = l.Report.Err()
	if err != nil {
		return nil, nil, err
	}
	return l.Config, l.Report.Warnings, nil
}

// WarnOpenConfig: who can change the file can have programs run as the proxy. A warning only: it
// may be mounted open and read-only.
func WarnOpenConfig(r *schema.Report, path string) {
	info, err := os.Stat(path)
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&guarded.WritableByOthers != 0 {
		r.Warnf("", "the file can be changed by others (mode %04o), who could have programs run "+
			"as the proxy; run: chmod go-w %s", info.Mode().Perm(), path)
	}
}

// LoadFile is Load but for the files it names. The error is about reading the
// file at path; what is wrong inside is in the report.
func LoadFile(path string) (*Loaded, error) {
	data, err := readConfigFile(path)
	if err != nil {
		return nil, fmt.Errorf("the configuration file cannot be read: %w", err)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("the directory of %s is not known: %w", path, err)
	}
	return parseTree(path, filepath.Dir(absolute), data, os.Environ(), os.DirFS), nil
}

// readConfigFile reads one byte more than is allowed, at most. The file may be a pipe, such as
// <(command) of a shell; a FIFO that nobody writes to is empty.
func readConfigFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, guarded.Problem(path, err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, schema.MaxConfigSize+1))
}

// Parse is parseTree for a configuration without a key store directory. It touches no file.
func Parse(name, dir string, data []byte, environ []string) *Loaded {
	return parseTree(name, dir, data, environ, nil)
}

// openDirectory gives the files of a directory; nil gives none.
type openDirectory func(path string) fs.FS

// parseTree touches no file but by open: name is for messages, dir is where relative paths
// start, environ is as os.Environ gives it. What is wrong is in the report; the
// config holds what could be read.
func parseTree(name, dir string, data []byte, environ []string, open openDirectory) *Loaded {
	from := &schema.Source{File: name, Dir: dir, Origins: map[string]schema.Origin{}}
	r := &schema.Reader{
		Schema: Schema, Report: schema.NewReport(from), Variables: schema.ReadVariables(environ),
		Shorts: map[string]string{},
	}
	l := &Loaded{Report: r.Report, Config: &Config{Source: from}}
	root, ok := schema.ParseYAML(r.Report, "", data)
	if !ok {
		l.readDefaultStores(open, data)
		return l
	}
	l.Whole = true
	l.Settings = r.Read(root)
	if r.IsBroken("") {
		return l
	}
	l.readStores(open)
	l.fillIn()
	l.deriveDefaults()
	err := decodeConfig(l.Settings, l.Config)
	if err != nil {
		r.Errorf("", "%v", err)
		return l
	}
	r.Variables.ReportUnused(r.Report, secretVariables(l.Config))
	validate(r.Report, l.Config)
	return l
}

// decodeConfig fills the types from settings that were checked against the schema.
func decodeConfig(settings map[string]any, c *Config) error {
	v := viper.New()
	err := v.MergeConfigMap(settings)
	if err != nil {
		return fmt.Errorf("the settings cannot be merged: %w", err)
	}
	err = v.UnmarshalExact(c)
	if err != nil {
		return fmt.Errorf("the settings do not fit the types: %w", err)
	}
	return nil
}

// secretVariables are the environment variables that hold secrets; their names may
// begin with XKS_, too.
func secretVariables(c *Config) []string {
	var names []string
	for _, ref := range c.SecretRefs() {
		if ref.Ref.Env != "" {
			names = append(names, ref.Ref.Env)
		}
	}
	return names
}

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

// Loaded is a configuration with its settings as read, and with the problems found.
type Loaded struct {
	Config   *Config        // what could be read
	Settings map[string]any // nested maps and lists, defaults included
	Report   *schema.Report // problems, warnings, and where each value is from
	Whole    bool           // the main file is YAML, so Config holds what it says
}

// Load reads, completes and checks the configuration file at path. It checks the files that the
// configuration names, and reads the policies. The environment of the process overrides keys
// (XKS_…). It does not read secrets: ResolveSecrets does. The error is a *schema.Error if the file
// itself could be read. Warnings are returned only without an error.
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

// WarnOpenConfig warns of a configuration file that others can change: they could run programs as
// the proxy. It is not an error, because the file may be mounted open and read-only.
func WarnOpenConfig(r *schema.Report, path string) {
	info, err := os.Stat(path)
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&guarded.WritableByOthers != 0 {
		r.Warnf("", "the file can be changed by others (mode %04o), who could have programs run "+
			"as the proxy; run: chmod go-w %s", info.Mode().Perm(), path)
	}
}

// LoadFile is Load without checking the files that the configuration names. The error says that the
// file at path cannot be read. Problems inside are in the report.
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

// Parse reads a configuration from data and ignores its key store directory. It opens no file. name
// is for messages, dir is where relative paths start, and environ is as from os.Environ. Problems
// are in the report.
func Parse(name, dir string, data []byte, environ []string) *Loaded {
	return parseTree(name, dir, data, environ, nil)
}

// openDirectory returns the files of a directory. If it is nil, the directory is not read.
type openDirectory func(path string) fs.FS

// parseTree is Parse with the key store directory, whose files it reads with open.
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

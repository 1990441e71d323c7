package loosening

// The settings that can loosen, for the metric that counts them.

import (
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
)

// LooseningSettings are the keys that can loosen, without the names of elements.
var LooseningSettings []string

func init() { // the rules are made then, too
	var walk func(s *schema.Setting, path string)
	walk = func(s *schema.Setting, path string) {
		for _, f := range s.Fields {
			at := schema.JoinPath(path, f.Name)
			if f.Restart || f.Loosens == config.LoosensNever {
				continue
			}
			if f.Loosens != config.LoosensBelow {
				LooseningSettings = append(LooseningSettings, at)
			}
			if f.Kind == schema.Section {
				walk(f, at)
			}
		}
	}
	walk(config.Schema, "")
}

package loosening

// The settings that can loosen, for the metric that counts them.

import (
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
)

// Settings returns the keys whose changes can loosen, without the names of elements, in the order
// of the schema: key_stores.policy.files.
func Settings() []string {
	var settings []string
	var walk func(s *schema.Setting, path string)
	walk = func(s *schema.Setting, path string) {
		for _, f := range s.Fields {
			at := schema.JoinPath(path, f.Name)
			if f.Restart || f.Loosens == config.LoosensNever {
				continue
			}
			if f.Loosens != config.LoosensBelow {
				settings = append(settings, at)
			}
			if f.Kind == schema.Section {
				walk(f, at)
			}
		}
	}
	walk(config.Schema, "")
	return settings
}

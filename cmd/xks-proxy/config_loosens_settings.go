package main

// The settings that can loosen, for the metric that counts them.

// looseningSettings are the keys that can loosen, without the names of elements.
var looseningSettings []string

func init() { // the rules are made then, too
	var walk func(s *setting, path string)
	walk = func(s *setting, path string) {
		for _, f := range s.Fields {
			at := joinPath(path, f.Name)
			if f.Restart || f.Loosens == loosensNever {
				continue
			}
			if f.Loosens != loosensBelow {
				looseningSettings = append(looseningSettings, at)
			}
			if f.Kind == section {
				walk(f, at)
			}
		}
	}
	walk(schema, "")
}

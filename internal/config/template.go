package config

// Placeholders in key stores: {name}, {owner}, {application} and {environment} stand for the keys
// of that name, so that the file of the next tenant differs in few lines. They are filled in after
// everything is read and before anything is checked.

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"xks-proxy/internal/config/schema"
	"xks-proxy/pkg/xks"
)

// placeholderKeys are the keys whose values can be filled in.
var placeholderKeys = []string{"name", "owner", "application", "environment"}

// fillRule restricts the values that can be filled in: other values would change the meaning of the
// pattern, path or name around them.
type fillRule struct {
	allowed *regexp.Regexp
	says    string
}

var fillRules = map[string]fillRule{
	"prefix": {
		regexp.MustCompile(`^[A-Za-z0-9_-]+$`),
		"letters, digits, _ and - only (AWS KMS accepts no other in a path)",
	}, // requirement U1
	"label": {
		regexp.MustCompile(`^[^*?\[\]\\{}]+$`),
		"none of * ? [ ] \\ { } (they would make it a pattern)",
	},
	"host": {
		regexp.MustCompile(`^[a-z0-9.-]+$`),
		"lower case letters, digits, . and - only (it becomes part of a host name)",
	},
	"path": {
		regexp.MustCompile(`^[^./{}][^/{}]*$`),
		"no / and no braces, and no dot at its beginning (it becomes part of a file's name)",
	},
}

// In a pattern, a backslash makes the next character plain, also a brace.
var (
	placeholder        = regexp.MustCompile(`\{[^{}]*\}`)
	patternPlaceholder = regexp.MustCompile(`\\.|\{[^{}]*\}`)
)

// fillIn replaces the placeholders in all key stores.
func (l *Loaded) fillIn() {
	stores, _ := l.Settings[schema.KeyStoresKey].([]any)
	for i, element := range stores {
		store, ok := element.(map[string]any)
		if ok {
			f := &filling{Report: l.Report, store: store, at: schema.StoreKey(i, "")}
			f.section(storeSchema, store, f.at)
		}
	}
}

// filling is the work on one key store.
type filling struct {
	*schema.Report
	store map[string]any
	at    string
}

func (f *filling) section(s *schema.Setting, values map[string]any, path string) {
	for _, field := range s.Fields {
		key := schema.JoinPath(path, field.Name)
		switch value := values[field.Name].(type) {
		case map[string]any:
			f.section(field, value, key)
		case string:
			if field.Fill != "" {
				values[field.Name] = f.text(field.Fill, value, key)
			}
		case []any:
			f.list(field, value, key)
		}
	}
}

func (f *filling) list(s *schema.Setting, values []any, path string) {
	for i := range values {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch value := values[i].(type) {
		case map[string]any:
			f.section(s, value, at)
		case string:
			if s.Fill != "" {
				values[i] = f.text(s.Fill, value, at)
			}
		}
	}
}

// text fills in a value. If it cannot, it reports a problem and returns the value unchanged.
func (f *filling) text(rule, value, path string) string {
	if !strings.Contains(value, "{") {
		return value
	}
	form := placeholder
	if rule == "label" {
		form = patternPlaceholder
	}
	return form.ReplaceAllStringFunc(value, func(found string) string {
		if found[0] == '\\' ||
			found == xks.KeyIDPlaceholder && strings.HasSuffix(path, ".keys.label") {
			return found
		}
		filled, ok := f.value(rule, found, path)
		if !ok {
			f.Failed[path] = true // what comes after follows from it
			return found
		}
		return filled
	})
}

// value returns what a placeholder stands for. A value that is not allowed there is reported at its
// own key.
func (f *filling) value(rule, found, path string) (string, bool) {
	key := strings.Trim(found, "{}")
	if !slices.Contains(placeholderKeys, key) {
		f.Errorf(
			path, "there is no placeholder %s; known: %s", quotePlaceholder(key),
			knownPlaceholders(path),
		)
		return "", false
	}
	value, _ := f.store[key].(string)
	if value == "" {
		f.Errorf(
			path, "%s stands for the key %s of this key store, which is empty; set it", found, key,
		)
		return "", false
	}
	may := fillRules[rule]
	if !may.allowed.MatchString(value) {
		_, at := f.Locate(path)
		f.Errorf(
			schema.JoinPath(f.at, key), "is filled in for %s in %s, where it must hold %s", found,
			at, may.says,
		)
		return "", false
	}
	return value, true
}

func knownPlaceholders(path string) string {
	known := "{" + strings.Join(placeholderKeys, "}, {") + "}"
	if strings.HasSuffix(path, ".keys.label") {
		known += ", " + xks.KeyIDPlaceholder
	}
	return known
}

// quotePlaceholder quotes a placeholder unless it could be a secret.
func quotePlaceholder(key string) string {
	if schema.PlainName.MatchString(key) {
		return "{" + key + "}"
	}
	return "of this name"
}

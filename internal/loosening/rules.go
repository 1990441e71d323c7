package loosening

// The rules that decide whether a change of one key loosens. Every key of the schema that a reload
// can change names a rule in its tag loosens, which a test checks. A rule may report a change that
// lets nothing in, but never misses one that does.

import (
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/isolation"
	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/xks"
)

// settingChange is a value before and after, and the sections that it is in.
type settingChange struct{ old, new, oldParent, newParent reflect.Value }

// loosensRule decides about the keys that name it.
type loosensRule struct {
	// beside: depends on more than the value, so it is also applied if the value is the same
	beside bool
	find   func(l *loosener, s *schema.Setting, c settingChange, argument string) []string
}

const listenersKey = "server.listeners"

// loosensRules are the rules about values, by name. The tag may have an argument after a colon.
var loosensRules = map[string]loosensRule{
	"any":     {find: anyChange},
	"emptied": {find: emptied},
	"another": {find: ofAnotherHSM},
	"extra":   {find: extra},
	"more":    {find: moreEntries},
	"missing": {find: missing},
	"to":      {find: became},
	"limit":   {find: raised},
	"labels":  {find: widerLabels},
	"authorities": {
		beside: true, find: otherAuthorities,
	},
	"clients": {find: moreClients},
	"policies": {
		beside: true, find: fewerPolicies,
	},
	"named":      {find: anotherName},
	"unenforced": {find: becameShadow},
	"confinement": {
		find: weakerConfinement,
	},
}

func anyChange(_ *loosener, s *schema.Setting, c settingChange, _ string) []string {
	return []string{
		fmt.Sprintf("was %s and is %s", config.ShownValue(s, c.old), config.ShownValue(s, c.new)),
	}
}

func weakerConfinement(l *loosener, s *schema.Setting, c settingChange, _ string) []string {
	if c.new.String() != config.ConfineOff && c.old.String() != config.ConfineStrict {
		return nil
	}
	return anyChange(l, s, c, "")
}

func emptied(_ *loosener, s *schema.Setting, c settingChange, _ string) []string {
	if !c.new.IsZero() {
		return nil
	}
	return []string{fmt.Sprintf("was %s and is not set any more", config.ShownValue(s, c.old))}
}

// ofAnotherHSM is the rule of settings that select a token: with those of another HSM, a key store
// reaches keys of other key stores. With the argument emptied, removing the value also loosens.
func ofAnotherHSM(l *loosener, s *schema.Setting, c settingChange, alsoEmptied string) []string {
	if c.new.IsZero() {
		if alsoEmptied == "" {
			return nil
		}
		return emptied(l, s, c, "")
	}
	name := c.newParent.Interface().(config.HSM).Name
	var found []string
	for i := range l.old.Config.HSMs {
		other := &l.old.Config.HSMs[i]
		field := reflect.ValueOf(other).Elem().Field(s.Index)
		if other.Name != name && config.SameValue(field, c.new) {
			found = append(found, fmt.Sprintf("is %s, which the HSM %s had",
				config.ShownValue(s, c.new), other.Name))
		}
	}
	return found
}

// extra is the rule of a list of what is accepted, where an empty list accepts everything.
func extra(_ *loosener, _ *schema.Setting, c settingChange, _ string) []string {
	old, next := textsOf(c.old), textsOf(c.new)
	switch {
	case len(old) == 0:
		return nil
	case len(next) == 0:
		return []string{"is empty now: it accepts any"}
	}
	return besides(old, next)
}

// moreEntries is the rule of a list of what is accepted, where an empty list accepts nothing.
func moreEntries(_ *loosener, _ *schema.Setting, c settingChange, _ string) []string {
	return besides(textsOf(c.old), textsOf(c.new))
}

func besides(old, next []string) []string {
	var found []string
	for _, one := range next {
		if !slices.Contains(old, one) {
			found = append(found, fmt.Sprintf("now accepts %q", one))
		}
	}
	return found
}

// missing is the rule of a list of what is refused.
func missing(_ *loosener, _ *schema.Setting, c settingChange, _ string) []string {
	var found []string
	for _, one := range textsOf(c.old) {
		if !slices.Contains(textsOf(c.new), one) {
			found = append(found, fmt.Sprintf("no longer has %q", one))
		}
	}
	return found
}

// became has the looser value as its argument.
func became(l *loosener, s *schema.Setting, c settingChange, looser string) []string {
	if fmt.Sprint(c.new.Interface()) != looser {
		return nil
	}
	return anyChange(l, s, c, "")
}

// raised is the rule of a limit, where 0 is no limit. With an argument, 0 stands for the value of
// that key instead.
func raised(_ *loosener, s *schema.Setting, c settingChange, otherwise string) []string {
	old, next := quotaOf(c.old, c.oldParent, otherwise), quotaOf(c.new, c.newParent, otherwise)
	switch {
	case old == 0 || next != 0 && next <= old:
		return nil
	case next == 0:
		return []string{fmt.Sprintf("was %d and is unlimited", old)}
	}
	return []string{fmt.Sprintf("was %d and is %d", old, next)}
}

func quotaOf(v, parent reflect.Value, otherwise string) int64 {
	if v.Int() != 0 || otherwise == "" {
		return v.Int()
	}
	t := parent.Type()
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("mapstructure") == otherwise {
			return parent.Field(i).Int()
		}
	}
	return 0
}

func widerLabels(l *loosener, _ *schema.Setting, c settingChange, _ string) []string {
	old, next := c.oldParent.Interface().(config.Keys), c.newParent.Interface().(config.Keys)
	label, err := widerLabel(old, next, l.store.testKey, &l.budget)
	switch {
	case err != nil:
		return []string{fmt.Sprintf("has %v to be compared: it may reach more keys", err)}
	case label != "":
		return []string{fmt.Sprintf("reaches the key with the label %q, which it did not", label)}
	}
	return nil
}

// widerLabel returns a label that next reaches and old does not reach, or "" if there is none.
func widerLabel(old, next config.Keys, testKey string, budget *int) (string, error) {
	var others []otherPattern
	known := map[string]bool{}
	for _, text := range old.Labels {
		known[text] = true
		pattern, good := isolation.Parse(text)
		if good {
			prefix, _ := pattern.Prefix()
			others = append(others, otherPattern{pattern, prefix})
		}
	}
	for _, one := range config.ReachOf(next, testKey) {
		if known[one.Text] || one.Literal && matchesAny(old.Labels, one.Prefix, budget) {
			continue
		}
		covering := alike(others, one.Prefix, budget)
		for _, label := range one.Excluded {
			covering = append(covering, isolation.Plain(label))
		}
		label, err := isolation.Uncovered(one.Pattern, one.Template, covering, budget)
		if err != nil || label != "" && one.KeyIDSize(label) <= xks.MaxKeyID {
			return label, err
		}
	}
	return "", nil
}

// otherPattern is a pattern and what its labels begin with.
type otherPattern struct {
	isolation.Pattern
	prefix string
}

// alike returns the patterns that can match a label that begins with prefix. Most of a thousand
// patterns cannot.
func alike(others []otherPattern, prefix string, budget *int) []isolation.Pattern {
	*budget -= 1 + len(others)/perPosition
	var found []isolation.Pattern
	for _, other := range others {
		if strings.HasPrefix(prefix, other.prefix) || strings.HasPrefix(other.prefix, prefix) {
			found = append(found, other.Pattern)
		}
	}
	return found
}

// perPosition is how many quick comparisons count as one position of the budget.
const perPosition = 16

// matchesAny reports whether one of the patterns matches the label.
func matchesAny(patterns []string, label string, budget *int) bool {
	*budget -= 1 + len(patterns)/perPosition
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		matched, err := path.Match(pattern, label)
		return matched && err == nil
	})
}

func otherAuthorities(l *loosener, _ *schema.Setting, _ settingChange, _ string) []string {
	old, next := l.clientRules()
	switch {
	case old == nil:
		return nil
	case next == nil:
		return []string{"client certificates are not asked for any more"}
	}
	var found []string
	for _, name := range newAuthorities(old, next) {
		found = append(found, fmt.Sprintf("now accepts client certificates of the CA %q", name))
	}
	return found
}

// moreClients is the rule of the lists of subjects and usages, of which a client certificate must
// have one. If there is no CA, no certificate is required, and the rule of the CA reports that.
func moreClients(l *loosener, s *schema.Setting, c settingChange, _ string) []string {
	before, now := l.clientRules()
	old, next := textsOf(c.old), textsOf(c.new)
	if before == nil || now == nil || slices.Contains(old, "any") && s.OneOf != nil {
		return nil
	}
	if len(next) == 0 {
		next = []string{s.Default}
	}
	return besides(old, next)
}

// enforced reports whether the policies of the present key store were enforced.
func (l *loosener) enforced() bool {
	return l.store.policies != nil && l.store.Config.Policy.Mode != string(authz.ModeShadow)
}

func fewerPolicies(l *loosener, _ *schema.Setting, _ settingChange, _ string) []string {
	if !l.enforced() {
		return nil
	}
	return l.loosenedPolicies()
}

func becameShadow(l *loosener, s *schema.Setting, c settingChange, _ string) []string {
	if !l.enforced() || c.new.String() != string(authz.ModeShadow) {
		return nil
	}
	return anyChange(l, s, c, "")
}

// anotherName is the rule of settings that policies can read.
func anotherName(l *loosener, s *schema.Setting, c settingChange, _ string) []string {
	if !l.enforced() || l.policies == nil {
		return nil // the rule of the policies reports that there are none now
	}
	return []string{anyChange(l, s, c, "")[0] + ", which policies may read"}
}

func textsOf(list reflect.Value) []string {
	texts, _ := list.Interface().([]string)
	return texts
}

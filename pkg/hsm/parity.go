package hsm

// Key parity, by what the HSMs list: in what the keys under one label differ between
// the HSMs of a group (requirement R4). Everything here is pure; parity_standing.go
// keeps and tells what is found, crosscheck.go compares the key material itself.

import (
	"fmt"
	"slices"
	"strings"
)

// compare lists the differences under one label. An HSM that was never seen has no
// part in it; one that is away counts as what it held when last seen. once are the versions that
// were on every HSM at some time. Since is left to the caller.
func compare(label string, views []view, once []uint32) []Finding {
	if equal(views) {
		return nil
	}
	var having, lacking []view
	for _, v := range views {
		switch {
		case !v.seen:
		case len(v.objects) == 0:
			lacking = append(lacking, v)
		default:
			having = append(having, v)
		}
	}
	if len(having) == 0 {
		return nil
	}
	c := comparison{label: label, once: once}
	if len(lacking) > 0 {
		c.keyMissing(having, lacking)
	}
	usable, foreign := splitViews(having, func(v view) bool { return slices.ContainsFunc(v.objects, Object.IsAES256) })
	switch {
	case len(usable) == 0:
		c.foreignKeys(foreign)
	case len(foreign) > 0:
		c.add(NotAnEncryptionKey, 0, foreign, "%s AES_256, %s: replace or relabel what is not AES_256", hold(usable), each(foreign, specs))
	}
	for _, number := range versionsOf(usable) {
		c.version(number, usable)
	}
	slices.SortFunc(c.findings, byPlace)
	return c.findings
}

// equal is the quick way out for nearly every key: one and the same AES-256 object on every HSM that was seen.
func equal(views []view) bool {
	var first *Object
	for _, v := range views {
		if !v.seen {
			continue
		}
		if len(v.objects) != 1 || !v.objects[0].IsAES256() {
			return false
		}
		if first == nil {
			first = &v.objects[0]
		}
		if v.objects[0].Version() != first.Version() || !sameAttributes(v.objects[0], *first) {
			return false
		}
	}
	return true
}

// sameAttributes compares what must be alike on all HSMs. CKA_LOCAL, CKA_ALWAYS_SENSITIVE
// and CKA_NEVER_EXTRACTABLE rightly differ between the HSM that generated a
// key and one into which it was unwrapped (PKCS#11 2.40 section 4.4).
func sameAttributes(a, b Object) bool {
	return a.Usage == b.Usage && a.Sensitive == b.Sensitive && a.Extractable == b.Extractable
}

// neededUsage is what Encrypt and Decrypt need.
const neededUsage = CanEncrypt | CanDecrypt

// sameNeeded is sameAttributes without the usages that the proxy never needs.
func sameNeeded(a, b Object) bool {
	a.Usage &= neededUsage
	b.Usage &= neededUsage
	return sameAttributes(a, b)
}

// comparison gathers the findings of one label.
type comparison struct {
	label    string
	once     []uint32
	findings []Finding
}

func (c *comparison) wasComplete(version uint32) bool { return slices.Contains(c.once, version) }

// add notes a finding about some of the HSMs.
func (c *comparison) add(kind FindingKind, version uint32, about []view, format string, args ...any) {
	c.findings = append(c.findings, Finding{Kind: kind, Label: c.label, Version: version, HSMs: names(about), Detail: fmt.Sprintf(format, args...)})
}

func (c *comparison) keyMissing(having, lacking []view) {
	was := slices.ContainsFunc(versionsOf(having), c.wasComplete)
	c.add(KeyMissing, 0, lacking, "%s the key, %s not: %s", hold(having), doNot(lacking), remedy(was))
}

// remedy is what to do about something that is not on every HSM.
func remedy(wasComplete bool) string {
	if wasComplete {
		return "it was on every HSM, so restore it there; until then what is encrypted under it depends on fewer HSMs"
	}
	return "copy it there; what was never on every HSM is not encrypted under"
}

// version compares one version on the HSMs that have an AES-256 key under the label.
func (c *comparison) version(number uint32, usable []view) {
	holders, lacking := splitViews(usable, func(v view) bool { return v.count(number) > 0 })
	other, lacking := splitViews(lacking, func(v view) bool {
		return slices.ContainsFunc(v.objects, func(o Object) bool { return o.Class == SecretKey && o.Version() == number })
	})
	if len(other) > 0 {
		c.add(NotAnEncryptionKey, number, other, "%s AES_256 as version %d, %s: replace or relabel what is not AES_256", hold(holders), number, each(other, specs))
	}
	if len(lacking) > 0 {
		c.add(VersionMissing, number, lacking, "%s version %d, %s not: %s", hold(holders), number, doNot(lacking), remedy(c.wasComplete(number)))
	}
	double, single := splitViews(holders, func(v view) bool { return v.count(number) > 1 })
	if len(double) > 0 {
		c.add(DuplicateVersion, number, double, "%s: %s; until then nothing is encrypted under version %d, and Decrypt tries each",
			each(double, func(v view) string { return describeVersion(v.objects, number) }), duplicateRemedy(double, number), number)
	}
	if len(single) < 2 {
		return
	}
	c.attributes(number, single)
}

// attributes compares the one object of each HSM. What the proxy never uses is a finding of its own: vendors
// have defaults of their own for it, which then differ for every key.
func (c *comparison) attributes(number uint32, single []view) {
	first := single[0].object(number)
	switch {
	case slices.ContainsFunc(single[1:], func(v view) bool { return !sameNeeded(v.object(number), first) }):
		c.add(AttributesDiffer, number, single, "%s: only what all allow is used; make them equal",
			each(single, func(v view) string { return describeAttributes(v.object(number)) }))
	case slices.ContainsFunc(single[1:], func(v view) bool { return !sameAttributes(v.object(number), first) }):
		c.add(UnusedDiffer, number, single, "%s: nothing that the proxy uses; vendors have different defaults",
			each(single, func(v view) string { return "a key that " + describeUsage(v.object(number).Usage&^neededUsage) }))
	}
}

// foreignKeys compares keys that are no AES-256 keys: as a whole, for nothing uses their versions.
func (c *comparison) foreignKeys(foreign []view) {
	first := outline(foreign[0])
	if slices.ContainsFunc(foreign[1:], func(v view) bool { return outline(v) != first }) {
		c.add(AttributesDiffer, 0, foreign, "%s: no key that Encrypt and Decrypt can use, and not the same everywhere", each(foreign, outline))
	}
}

// count is how many AES-256 objects stand for a version.
func (v view) count(number uint32) int {
	n := 0
	for _, o := range v.objects {
		if o.IsAES256() && o.Version() == number {
			n++
		}
	}
	return n
}

// object is the AES-256 object of a version that there is.
func (v view) object(number uint32) Object {
	i := slices.IndexFunc(v.objects, func(o Object) bool { return o.IsAES256() && o.Version() == number })
	return v.objects[i]
}

func versionsOf(views []view) []uint32 {
	var numbers []uint32
	for _, v := range views {
		for _, o := range v.objects {
			if o.IsAES256() {
				numbers = append(numbers, o.Version())
			}
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

func splitViews(views []view, is func(view) bool) ([]view, []view) {
	var yes, no []view
	for _, v := range views {
		if is(v) {
			yes = append(yes, v)
		} else {
			no = append(no, v)
		}
	}
	return yes, no
}

func names(views []view) []string {
	var list []string
	for _, v := range views {
		list = append(list, v.name)
	}
	return list
}

// hold is "a holds" or "a, b hold".
func hold(views []view) string {
	return strings.Join(names(views), ", ") + plural(views, " holds", " hold")
}

// doNot is "b does" or "b, c do", and whether that is old knowledge.
func doNot(views []view) string {
	return strings.Join(names(views), ", ") + lastSeen(views) + plural(views, " does", " do")
}

func plural(views []view, one, many string) string { return choose(len(views) == 1, one, many) }

// choose is yes if first, else no.
func choose(first bool, yes, no string) string {
	if first {
		return yes
	}
	return no
}

// lastSeen marks what an HSM that is away held when it was last seen.
func lastSeen(views []view) string {
	if slices.ContainsFunc(views, func(v view) bool { return v.away }) {
		return " (away, so as last seen)"
	}
	return ""
}

// each is what is to be said of each HSM, one after the other.
func each(views []view, say func(view) string) string {
	var parts []string
	for _, v := range views {
		parts = append(parts, v.name+lastSeen([]view{v})+" holds "+say(v))
	}
	return strings.Join(parts, ", ")
}

// specs are the kinds of keys under a label.
func specs(v view) string {
	var list []string
	for _, o := range v.objects {
		list = append(list, o.Spec())
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), " and ")
}

// outline is everything about the objects under a label that must be alike, in an order of its own.
func outline(v view) string {
	var list []string
	for _, o := range v.objects {
		list = append(list, o.Spec()+" "+describeAttributes(o))
	}
	slices.Sort(list)
	return strings.Join(list, " and ")
}

func describeAttributes(o Object) string {
	return fmt.Sprintf("(%s, %s, %s)", describeUsage(o.Usage), choose(o.Sensitive, "sensitive", "not sensitive"), choose(o.Extractable, "extractable", "not extractable"))
}

// usageNames are the usages in the order of their bits.
var usageNames = []string{"encrypt", "decrypt", "sign", "verify", "wrap", "unwrap", "derive"}

func usageList(usage Usage) []string {
	list := []string{}
	for i, name := range usageNames {
		if usage&(1<<i) != 0 {
			list = append(list, name)
		}
	}
	return list
}

func describeUsage(usage Usage) string {
	list := usageList(usage)
	return "may " + choose(len(list) > 0, strings.Join(list, "+"), "do nothing")
}

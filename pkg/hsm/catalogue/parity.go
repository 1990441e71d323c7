package catalogue

// Key parity by listing: how the keys under one label differ between the HSMs of a group
// (requirement R4). All functions are pure. parity_state.go keeps the findings; package group
// compares the key material itself.

import (
	"fmt"
	"slices"
	"strings"

	"xks-proxy/pkg/hsm"
)

// compare lists the differences under one label. HSMs that were never seen are ignored, and an HSM
// that is away counts as last seen. once lists the versions that were on every HSM at some time.
// The caller sets Since.
func compare(label string, views []View, once []uint32) []Finding {
	if equal(views) {
		return nil
	}
	var having, lacking []View
	for _, v := range views {
		switch {
		case !v.Seen:
		case len(v.Objects) == 0:
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
	usable, foreign := splitViews(
		having,
		func(v View) bool { return slices.ContainsFunc(v.Objects, hsm.Object.IsAES256) },
	)
	switch {
	case len(usable) == 0:
		c.foreignKeys(foreign)
	case len(foreign) > 0:
		c.add(
			NotAnEncryptionKey,
			0,
			foreign,
			"%s AES_256, %s: replace or relabel what is not AES_256",
			hold(usable),
			each(foreign, specs),
		)
	}
	for _, number := range versionsOf(usable) {
		c.version(number, usable)
	}
	slices.SortFunc(c.findings, CompareFindings)
	return c.findings
}

// equal is the fast path for nearly every key: the same single AES-256 object on every HSM seen.
func equal(views []View) bool {
	var first *hsm.Object
	for _, v := range views {
		if !v.Seen {
			continue
		}
		if len(v.Objects) != 1 || !v.Objects[0].IsAES256() {
			return false
		}
		if first == nil {
			first = &v.Objects[0]
		}
		if v.Objects[0].Version() != first.Version() || !sameAttributes(v.Objects[0], *first) {
			return false
		}
	}
	return true
}

// sameAttributes compares the attributes that must be equal on all HSMs. CKA_LOCAL,
// CKA_ALWAYS_SENSITIVE and CKA_NEVER_EXTRACTABLE may differ between the HSM that generated a key
// and one that unwrapped it (PKCS#11 2.40 section 4.4).
func sameAttributes(a, b hsm.Object) bool {
	return a.Usage == b.Usage && a.Sensitive == b.Sensitive && a.Extractable == b.Extractable
}

// neededUsage is the usage that Encrypt and Decrypt need.
const neededUsage = hsm.CanEncrypt | hsm.CanDecrypt

// sameNeeded is sameAttributes without the usages that the proxy never needs.
func sameNeeded(a, b hsm.Object) bool {
	a.Usage &= neededUsage
	b.Usage &= neededUsage
	return sameAttributes(a, b)
}

// comparison collects the findings of one label.
type comparison struct {
	label    string
	once     []uint32
	findings []Finding
}

func (c *comparison) wasCompleteOnce(
	version uint32,
) bool {
	return slices.Contains(c.once, version)
}

// add notes a finding about some of the HSMs.
func (c *comparison) add(
	kind FindingKind,
	version uint32,
	about []View,
	format string,
	args ...any,
) {
	c.findings = append(
		c.findings,
		Finding{
			Kind:    kind,
			Label:   c.label,
			Version: version,
			HSMs:    names(about),
			Detail:  fmt.Sprintf(format, args...),
		},
	)
}

func (c *comparison) keyMissing(having, lacking []View) {
	was := slices.ContainsFunc(versionsOf(having), c.wasCompleteOnce)
	c.add(
		KeyMissing,
		0,
		lacking,
		"%s the key, %s not: %s",
		hold(having),
		doNot(lacking),
		remedy(was),
	)
}

// remedy says what to do about a key or version that is not on every HSM.
func remedy(wasComplete bool) string {
	if wasComplete {
		return "it was on every HSM, so restore it there; " +
			"until then what is encrypted under it depends on fewer HSMs"
	}
	return "copy it there; what was never on every HSM is not encrypted under"
}

// version compares one version on the HSMs with an AES-256 key under the label.
func (c *comparison) version(number uint32, usable []View) {
	holders, lacking := splitViews(usable, func(v View) bool { return v.count(number) > 0 })
	other, lacking := splitViews(lacking, func(v View) bool {
		return slices.ContainsFunc(
			v.Objects,
			func(o hsm.Object) bool { return o.Class == hsm.SecretKey && o.Version() == number },
		)
	})
	if len(other) > 0 {
		c.add(
			NotAnEncryptionKey,
			number,
			other,
			"%s AES_256 as version %d, %s: replace or relabel what is not AES_256",
			hold(holders),
			number,
			each(other, specs),
		)
	}
	if len(lacking) > 0 {
		c.add(
			VersionMissing,
			number,
			lacking,
			"%s version %d, %s not: %s",
			hold(holders),
			number,
			doNot(lacking),
			remedy(c.wasCompleteOnce(number)),
		)
	}
	double, single := splitViews(holders, func(v View) bool { return v.count(number) > 1 })
	if len(double) > 0 {
		c.add(
			DuplicateVersion,
			number,
			double,
			"%s: %s; until then nothing is encrypted under version %d, and Decrypt tries each",
			each(
				double,
				func(v View) string { return describeVersion(v.Objects, number) },
			),
			duplicateRemedy(double, number),
			number,
		)
	}
	if len(single) < 2 {
		return
	}
	c.attributes(number, single)
}

// attributes compares the single object of each HSM. Usages that the proxy never needs are a
// finding of their own, because vendors have different defaults for every key.
func (c *comparison) attributes(number uint32, single []View) {
	first, others := single[0].object(number), single[1:]
	differsInNeed := func(v View) bool { return !sameNeeded(v.object(number), first) }
	differs := func(v View) bool { return !sameAttributes(v.object(number), first) }
	switch {
	case slices.ContainsFunc(others, differsInNeed):
		c.add(AttributesDiffer, number, single, "%s: only what all allow is used; make them equal",
			each(single, func(v View) string { return describeAttributes(v.object(number)) }))
	case slices.ContainsFunc(others, differs):
		c.add(
			UnusedDiffer,
			number,
			single,
			"%s: nothing that the proxy uses; vendors have different defaults",
			each(
				single,
				func(v View) string {
					return "a key that " + describeUsage(v.object(number).Usage&^neededUsage)
				},
			),
		)
	}
}

// foreignKeys compares keys that are not AES-256 as a whole, because nothing uses their versions.
func (c *comparison) foreignKeys(foreign []View) {
	first := outline(foreign[0])
	if slices.ContainsFunc(foreign[1:], func(v View) bool { return outline(v) != first }) {
		c.add(
			AttributesDiffer,
			0,
			foreign,
			"%s: no key that Encrypt and Decrypt can use, and not the same everywhere",
			each(foreign, outline),
		)
	}
}

// count returns the number of AES-256 objects with a version.
func (v View) count(number uint32) int {
	n := 0
	for _, o := range v.Objects {
		if o.IsAES256() && o.Version() == number {
			n++
		}
	}
	return n
}

// object returns the AES-256 object with a version, which must exist.
func (v View) object(number uint32) hsm.Object {
	i := slices.IndexFunc(
		v.Objects,
		func(o hsm.Object) bool { return o.IsAES256() && o.Version() == number },
	)
	return v.Objects[i]
}

func versionsOf(views []View) []uint32 {
	var numbers []uint32
	for _, v := range views {
		for _, o := range v.Objects {
			if o.IsAES256() {
				numbers = append(numbers, o.Version())
			}
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

func splitViews(views []View, is func(View) bool) ([]View, []View) {
	var yes, no []View
	for _, v := range views {
		if is(v) {
			yes = append(yes, v)
		} else {
			no = append(no, v)
		}
	}
	return yes, no
}

func names(views []View) []string {
	var list []string
	for _, v := range views {
		list = append(list, v.Name)
	}
	return list
}

// hold returns "a holds" or "a, b hold".
func hold(views []View) string {
	return strings.Join(names(views), ", ") + plural(views, " holds", " hold")
}

// doNot returns "b does" or "b, c do", and says if that is only what was last seen.
func doNot(views []View) string {
	return strings.Join(names(views), ", ") + lastSeen(views) + plural(views, " does", " do")
}

func plural(views []View, one, many string) string { return choose(len(views) == 1, one, many) }

// choose returns yes if first, else no.
func choose(first bool, yes, no string) string {
	if first {
		return yes
	}
	return no
}

// lastSeen returns a remark if an HSM is away, so that its keys are known as last seen.
func lastSeen(views []View) string {
	if slices.ContainsFunc(views, func(v View) bool { return v.Away }) {
		return " (away, so as last seen)"
	}
	return ""
}

// each joins a statement about each HSM.
func each(views []View, say func(View) string) string {
	var parts []string
	for _, v := range views {
		parts = append(parts, v.Name+lastSeen([]View{v})+" holds "+say(v))
	}
	return strings.Join(parts, ", ")
}

// specs lists the key types under a label.
func specs(v View) string {
	var list []string
	for _, o := range v.Objects {
		list = append(list, o.Spec())
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), " and ")
}

// outline describes all attributes that must be equal, in a fixed order.
func outline(v View) string {
	var list []string
	for _, o := range v.Objects {
		list = append(list, o.Spec()+" "+describeAttributes(o))
	}
	slices.Sort(list)
	return strings.Join(list, " and ")
}

func describeAttributes(o hsm.Object) string {
	return fmt.Sprintf(
		"(%s, %s, %s)",
		describeUsage(o.Usage),
		choose(o.Sensitive, "sensitive", "not sensitive"),
		choose(o.Extractable, "extractable", "not extractable"),
	)
}

// usageNames are the usages in the order of their bits.
var usageNames = []string{"encrypt", "decrypt", "sign", "verify", "wrap", "unwrap", "derive"}

func usageList(usage hsm.Usage) []string {
	list := []string{}
	for i, name := range usageNames {
		if usage&(1<<i) != 0 {
			list = append(list, name)
		}
	}
	return list
}

func describeUsage(usage hsm.Usage) string {
	list := usageList(usage)
	return "may " + choose(len(list) > 0, strings.Join(list, "+"), "do nothing")
}

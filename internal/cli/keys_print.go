package cli

// `keys list` for eyes.

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
)

// printKeys prints a table for each group, and what is wrong with a version below its row.
func printKeys(p *text.Page, answer *api.KeyAnswer, attributes bool) {
	group, rest := "", answer.Keys
	for len(rest) > 0 {
		n := slices.IndexFunc(rest, func(k api.KeyEntry) bool { return k.Group != rest[0].Group })
		if n < 0 {
			n = len(rest)
		}
		if group != "" {
			p.WriteString("\n")
		}
		group = rest[0].Group
		p.Printf("%s:\n\n", group)
		p.Table(keyTable(rest[:n], attributes))
		rest = rest[n:]
	}
	if len(answer.Keys) > 0 {
		p.WriteString("\n")
	}
	p.Paragraph("", "", keySummary(answer))
}

func keyTable(keys []api.KeyEntry, attributes bool) *text.Table {
	t := text.NewTable("LABEL", "<VERSION", "STATE", "HSMS", "USAGE")
	for i := range keys {
		k := &keys[i]
		t.Row(
			hsm.ShowLabel(k.ExactLabel()),
			keyVersionText(k),
			string(k.State),
			holdersText(k),
			commonUsage(k),
		)
		if k.State != catalogue.KeyComplete {
			for _, note := range k.Notes {
				t.Note(note)
			}
		}
		if attributes {
			noteAttributes(t, k)
		}
	}
	return t
}

func keyVersionText(k *api.KeyEntry) string {
	if k.Version == nil {
		return "- "
	}
	text := strconv.FormatUint(uint64(*k.Version), 10)
	if k.Encrypts {
		return text + "*"
	}
	return text + " "
}

func holdersText(k *api.KeyEntry) string {
	holders := 0
	for _, on := range k.HSMs {
		if len(on.Objects) > 0 {
			holders++
		}
	}
	return fmt.Sprintf("%d of %d", holders, len(k.HSMs))
}

// commonUsage is what every object allows, of what the proxy needs.
func commonUsage(k *api.KeyEntry) string {
	if k.Version == nil {
		return k.Spec
	}
	common := []string{"encrypt", "decrypt"}
	for _, on := range k.HSMs {
		for _, o := range on.Objects {
			common = slices.DeleteFunc(
				common,
				func(usage string) bool { return !slices.Contains(o.Usage, usage) },
			)
		}
	}
	return cmp.Or(strings.Join(common, "+"), "none")
}

// noteAttributes says which key stores reach a key, and what each HSM holds of it.
func noteAttributes(t *text.Table, k *api.KeyEntry) {
	for _, store := range k.KeyStores {
		t.Note(fmt.Sprintf("key store %s: external key id %s", store.Name, store.KeyID))
	}
	for _, on := range k.HSMs {
		if len(on.Objects) == 0 {
			t.Note(on.HSM + ": none")
		}
		for _, o := range on.Objects {
			t.Note(on.HSM + ": " + objectText(o))
		}
	}
}

// objectText is one object in words.
func objectText(o catalogue.KeyObject) string {
	id := "no CKA_ID"
	if o.ID != "" {
		id = "CKA_ID 0x" + o.ID
	}
	words := []string{id, o.Spec, cmp.Or(strings.Join(o.Usage, "+"), "no usage")}
	for _, one := range []struct {
		is      bool
		yes, no string
	}{
		{o.Sensitive, "sensitive", "not sensitive"}, {o.Extractable, "extractable", "not extractable"}, {o.Local, "generated here", ""},
	} {
		word := one.no
		if one.is {
			word = one.yes
		}
		if word != "" {
			words = append(words, word)
		}
	}
	return strings.Join(words, ", ")
}

// keySummary counts the versions by state.
func keySummary(answer *api.KeyAnswer) string {
	if len(answer.Keys) == 0 {
		return fmt.Sprintf(
			"No key matches; there are %s in all.",
			text.Plural(answer.All, "version"),
		)
	}
	labels, states := map[string]bool{}, map[catalogue.KeyState]int{}
	for _, k := range answer.Keys {
		labels[k.Group+"\x00"+k.ExactLabel()] = true
		states[k.State]++
	}
	var counts []string
	for _, state := range slices.Backward(catalogue.KeyStates()) {
		if n := states[state]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, state))
		}
	}
	summary := fmt.Sprintf(
		"%s with %s: %s.",
		text.Plural(len(labels), "key"),
		text.Plural(len(answer.Keys), "version"),
		strings.Join(counts, ", "),
	)
	if left := answer.All - len(answer.Keys); left > 0 {
		summary += fmt.Sprintf(" %d more not shown.", left)
	}
	return summary
}

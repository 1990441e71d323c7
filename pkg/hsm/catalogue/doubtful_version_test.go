package catalogue

// Tests of which version an object is, which objects a ciphertext may come from, and what is
// reported as doubtful.

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"xks-proxy/pkg/hsm"
)

func TestVersionRules(t *testing.T) {
	for _, test := range []struct {
		id            string
		id4, num      uint32
		doubt4, doubt bool
	}{
		{id: "", id4: 0, num: 0},
		{id: "\x00\x00\x00\x07", id4: 7, num: 7},
		{id: "\xf0\xf1\xf2\xf3", id4: 4042388211, num: 4042388211},
		{id: "\x01", id4: 0, doubt4: true, num: 1},
		{id: "\x00", id4: 0, doubt4: true, num: 0},
		{id: "\x01\x00", id4: 0, doubt4: true, num: 256},
		{id: "\x00\x00\x00\x00\x00\x02", id4: 0, doubt4: true, num: 2},
		{id: "\x01\x00\x00\x00\x00", id4: 0, doubt4: true, num: 0, doubt: true},
		{id: "an object of ours", id4: 0, doubt4: true, num: 0, doubt: true},
	} {
		o := hsm.Object{ID: []byte(test.id)}
		for rule, want := range map[hsm.VersionRule]string{
			"": fmt.Sprint(test.id4, test.doubt4), hsm.VersionID4: fmt.Sprint(test.id4, test.doubt4),
			hsm.VersionNumber: fmt.Sprint(test.num, test.doubt), hsm.VersionNone: "0 false",
		} {
			read := o.ReadBy(rule)
			if got := fmt.Sprint(read.Version(), read.Doubtful()); got != want {
				t.Errorf("%q by %q: %s, want %s", test.id, rule, got, want)
			}
		}
	}
}

func ids(list ...string) []hsm.Object {
	var objects []hsm.Object
	for _, id := range list {
		objects = append(objects, aesWith(256, both, []byte(id)))
	}
	return objects
}

func TestReaders(t *testing.T) {
	v7, v8 := string(hsm.VersionID(7)), string(hsm.VersionID(8))
	for _, test := range []struct {
		rule    hsm.VersionRule
		ids     []string
		version uint32
		want    []int
	}{
		{hsm.VersionID4, []string{v7, v8}, 8, []int{1}},
		{hsm.VersionID4, []string{v7, v8}, 9, nil},
		{hsm.VersionID4, []string{v7, v8}, 0, []int{0, 1}}, // once none
		{hsm.VersionID4, []string{"", v7}, 0, []int{0}},
		{hsm.VersionID4, []string{"\x02", "\x01"}, 0, []int{1, 0}},
		{hsm.VersionID4, []string{"\x02", "\x01"}, 2, []int{0}}, // once id
		{hsm.VersionID4, []string{"\x07", v7}, 7, []int{1, 0}},  // likeliest first
		{hsm.VersionNumber, []string{"\x02", "\x01"}, 2, []int{0}},
		{hsm.VersionNumber, []string{"\x02", "\x01"}, 0, []int{1, 0}}, // once id4
		{hsm.VersionNumber, []string{"", "\x01"}, 0, []int{0, 1}},
		{hsm.VersionNone, []string{"\x02", "\x01"}, 0, []int{1, 0}},
		{hsm.VersionNone, []string{v7, "\x01"}, 7, []int{0}},
		{hsm.VersionNone, []string{v7, "\x01"}, 1, []int{1}},
	} {
		got := hsm.TrialCandidates(hsm.ReadBy(test.rule, ids(test.ids...)), test.version)
		if !slices.Equal(got, test.want) {
			t.Errorf(
				"%s, %x, version %d: %v, want %v",
				test.rule,
				test.ids,
				test.version,
				got,
				test.want,
			)
		}
	}
	if got := hsm.TrialCandidates([]hsm.Object{aesWith(128, both, nil), {Label: "k", Class: hsm.PublicKey}}, 0); got != nil {
		t.Errorf("what is not AES-256 reads nothing: %v", got)
	}
}

func TestDoubts(t *testing.T) {
	one := []hsm.Object{aes256(1)}
	for _, test := range []struct {
		name  string
		rule  hsm.VersionRule
		views []View
		want  []string
		says  []string // in the first
	}{
		{name: "four bytes, none, and zero", views: holding(one, append(one, ids("")...))},
		{name: "--id 01", views: holding(ids("\x01"), ids("\x01")), want: []string{"doubtful version 0 [a b]"},
			says: []string{"0x01", "version 0", "key_version id to read it as version 1", "0x00000001"}},
		{name: "--id 01 here, 02 there", views: holding(ids("\x01"), ids("\x02")), want: []string{"doubtful version 0 [a b]"}, says: []string{"0x01", "on b", "0x02"}},
		{name: "--id 01, read as a number", rule: hsm.VersionNumber, views: holding(ids("\x01"), ids("\x01"))},
		{name: "too long for a number", rule: hsm.VersionNumber, views: holding(ids("a name")), want: []string{"doubtful version 0 [a]"}, says: []string{"larger than 4 bytes", "none"}},
		{name: "a name", views: holding(ids("a name")), want: []string{"doubtful version 0 [a]"}, says: []string{"key_version none"}},
		{name: "none", rule: hsm.VersionNone, views: holding(ids("a name", "\x01"), ids("\xf0\xf1\xf2\xf3"))},
		{name: "two are a duplicate, which compare reports", views: holding(ids("\x01", "\x02"))},
		{name: "an alien id", views: holding(append(ids("\xf0\xf1\xf2\xf3"), one...), one), want: []string{"implausible version 4042388211 [a]"},
			says: []string{"4042388211", "0xF0F1F2F3", "the next lower version 1", "never encrypted under"}},
		{name: "an alien id alone", views: holding(ids("\xf0\xf1\xf2\xf3")), want: []string{"implausible version 4042388211 [a]"}, says: []string{"above 0"}},
		{name: "rotated after the alien", views: holding(ids("\xf0\xf1\xf2\xf3", "\xf0\xf1\xf2\xf4")), want: []string{"implausible version 4042388211 [a]"}},
		{name: "dates", views: holding([]hsm.Object{aes256(20261129), aes256(20271129), aes256(1)})},
		{name: "a public key", views: holding(rsaPair())},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, v := range test.views {
				hsm.ReadBy(test.rule, v.Objects)
			}
			var got []string
			for _, f := range doubtfulVersions("k", test.views) {
				got = append(got, fmt.Sprintf("%s %d %v", f.Kind, f.Version, f.HSMs))
				for _, part := range test.says {
					if !strings.Contains(f.Detail, part) {
						t.Errorf("%q does not say %q", f.Detail, part)
					}
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// The finding about a duplicate names the setting that would tell the objects apart.
func TestDuplicateNamesTheSetting(t *testing.T) {
	for want, list := range map[string][]hsm.Object{"set key_version id": ids("\x01", "\x02"), ": delete or relabel": ids("\x01", "\x01")} {
		found := compare("k", holding(list, list), nil)
		if len(found) != 1 || found[0].Kind != DuplicateVersion ||
			!strings.Contains(found[0].Detail, want) {
			t.Errorf("%v, want %q", found, want)
		}
	}
}

// Usages that the proxy never needs are a finding that weighs little, and is one line for many
// keys.
func TestVendorDefaultsAreMinor(t *testing.T) {
	var found []Finding
	all := both | hsm.CanSign | hsm.CanVerify | hsm.CanWrap | hsm.CanUnwrap | hsm.CanDerive
	for i := range 1000 {
		here, there := []hsm.Object{aes256(1)}, []hsm.Object{aesWith(256, all, hsm.VersionID(1))}
		found = append(found, compare(fmt.Sprintf("k%d", i), holding(here, there), nil)...)
	}
	found = append(
		found,
		compare(
			"worse",
			holding(
				[]hsm.Object{aes256(1)},
				[]hsm.Object{aesWith(256, hsm.CanDecrypt|hsm.CanSign, hsm.VersionID(1))},
			),
			nil,
		)...)
	groups := GroupFindings(found)
	if len(groups) != 2 || groups[0].Kind != AttributesDiffer || groups[1].Kind != UnusedDiffer ||
		groups[1].Count() != 1000 ||
		groups[1].Kind.Severity() != Minor {
		t.Errorf("%+v", groups)
	}
}

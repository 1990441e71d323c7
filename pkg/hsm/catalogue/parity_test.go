package catalogue

// Tests of what compare finds in listings (requirement R4): missing keys and versions,
// attributes, duplicates, keys of other kinds; and what it costs.

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"xks-proxy/pkg/hsm"
)

// away marks some of the views as old knowledge.
func away(views []View, which ...int) []View {
	for _, i := range which {
		views[i].Away = true
	}
	return views
}

func with(object hsm.Object, change func(*hsm.Object)) hsm.Object {
	change(&object)
	return object
}

func TestCompare(t *testing.T) {
	one, two := []hsm.Object{aes256(1)}, []hsm.Object{aes256(1), aes256(2)}
	unwrapped := with(aes256(1), func(o *hsm.Object) { o.Sensitive = true })
	generated := with(
		unwrapped,
		func(o *hsm.Object) { o.AlwaysSensitive, o.NeverExtractable, o.Local = true, true, true },
	)
	extractable := with(aes256(1), func(o *hsm.Object) { o.Extractable = true })
	aes128 := aesWith(128, both, hsm.VersionID(1))

	for _, test := range []struct {
		name  string
		views []View
		once  []uint32 // versions that were on every HSM
		want  []string // kind, version and HSMs of each finding
		says  []string // in the detail of the first
	}{
		{name: "nobody was seen", views: holding(neverSeen, neverSeen)},
		{name: "nobody holds it", views: holding(nil, nil)},
		{name: "the same", views: holding(one, one)},
		{name: "the same two versions, in another order", views: holding(two, []hsm.Object{aes256(2), aes256(1)})},
		{name: "a single HSM", views: holding(two)},
		{name: "one was never seen", views: holding(one, neverSeen)},
		{name: "generated here, unwrapped there", views: holding([]hsm.Object{generated}, []hsm.Object{unwrapped})},
		{name: "other ids, the same version", views: holding([]hsm.Object{aesWith(256, both, nil)}, []hsm.Object{aesWith(256, both, []byte("a name"))})},

		{name: "key missing, never complete", views: holding(one, nil), want: []string{"key missing 0 [b]"},
			says: []string{"a holds the key, b does not", "copy it there", "not encrypted under"}},
		{name: "key missing, was complete", views: holding(nil, one), once: []uint32{1}, want: []string{"key missing 0 [a]"},
			says: []string{"b holds the key, a does not", "it was on every HSM", "restore"}},
		{name: "key missing on two of three", views: holding(nil, one, nil), want: []string{"key missing 0 [a c]"},
			says: []string{"b holds the key, a, c do not"}},
		{name: "key missing on one of three, and the others differ", views: holding(one, nil, two), want: []string{"key missing 0 [b]", "version missing 2 [a]"},
			says: []string{"a, c hold the key"}},
		{name: "key missing on one that is away", views: away(holding(one, nil), 1), want: []string{"key missing 0 [b]"}, says: []string{"b (away, so as last seen) does not"}},
		{name: "an AES-128 key missing", views: holding([]hsm.Object{aes128}, nil), want: []string{"key missing 0 [b]"}},

		{name: "version missing, never complete", views: holding(two, one), want: []string{"version missing 2 [b]"},
			says: []string{"a holds version 2, b does not", "copy it there"}},
		{name: "version missing, was complete", views: holding(two, one), once: []uint32{1, 2}, want: []string{"version missing 2 [b]"}, says: []string{"it was on every HSM"}},
		{name: "another version was complete", views: holding(two, one), once: []uint32{1}, want: []string{"version missing 2 [b]"}, says: []string{"copy it there"}},
		{name: "no common version", views: holding(one, []hsm.Object{aes256(2)}), want: []string{"version missing 1 [b]", "version missing 2 [a]"}},

		{name: "usage differs", views: holding(one, []hsm.Object{aesWith(256, hsm.CanDecrypt, hsm.VersionID(1))}), want: []string{"attributes differ 1 [a b]"},
			says: []string{"a holds (may encrypt+decrypt, not sensitive, not extractable)", "b holds (may decrypt,"}},
		{name: "extractable here", views: holding(one, []hsm.Object{extractable}), want: []string{"attributes differ 1 [a b]"}, says: []string{", extractable)"}},
		{name: "sensitive here", views: holding([]hsm.Object{unwrapped}, one), want: []string{"attributes differ 1 [a b]"}},
		{name: "it may do nothing there", views: holding(one, []hsm.Object{aesWith(256, 0, hsm.VersionID(1))}), want: []string{"attributes differ 1 [a b]"}, says: []string{"may do nothing"}},

		{name: "two objects for a version", views: holding(append(slices.Clone(one), aes256(1)), one), want: []string{"duplicate version 1 [a]"},
			says: []string{"a holds an object with CKA_ID", "delete or relabel"}},
		{name: "two objects on both", views: holding(append(slices.Clone(one), aes256(1)), append(slices.Clone(one), aes256(1))), want: []string{"duplicate version 1 [a b]"}},
		{name: "two objects on one HSM that is alone", views: holding([]hsm.Object{aes256(1), aes256(1)}), want: []string{"duplicate version 1 [a]"}},

		{name: "AES-256 here, RSA there", views: holding(one, rsaPair()), want: []string{"not AES-256 everywhere 0 [b]"}, says: []string{"a holds AES_256, b holds RSA_2048: replace"}},
		{name: "AES-256 here, AES-128 there", views: holding([]hsm.Object{aes128}, one), want: []string{"not AES-256 everywhere 0 [a]"}},
		{name: "one version is AES-128 there", views: holding(two, []hsm.Object{aesWith(128, both, hsm.VersionID(2)), aes256(1)}),
			want: []string{"not AES-256 everywhere 2 [b]"}, says: []string{"a holds AES_256 as version 2"}},
		{name: "RSA on both", views: holding(rsaPair(), rsaPair())},
		{name: "RSA, one without its private half", views: holding(rsaPair(), rsaPair()[:1]), want: []string{"attributes differ 0 [a b]"}},
		{name: "AES-128 here, RSA there", views: holding([]hsm.Object{aes128}, rsaPair()), want: []string{"attributes differ 0 [a b]"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			found := compare("k", test.views, test.once)
			var got []string
			for _, f := range found {
				got = append(got, fmt.Sprintf("%s %d %v", f.Kind, f.Version, f.HSMs))
				if f.Label != "k" || f.Detail == "" {
					t.Errorf("got %+v", f)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Fatalf("got %q, want %q", got, test.want)
			}
			for _, part := range test.says {
				if !strings.Contains(found[0].Detail, part) {
					t.Errorf("the detail %q does not say %q", found[0].Detail, part)
				}
			}
		})
	}
}

// TestLostVersions: which version is encrypted under when one was complete and is not now.
func TestLostVersions(t *testing.T) {
	one, two := aes256(1), aes256(2)
	for _, test := range []struct {
		name     string
		views    []View
		once     []uint32
		policy   LostKey
		diverged []uint32
		version  uint32 // to encrypt under; 0: none
		complete bool
	}{
		{"complete", holding([]hsm.Object{one}, []hsm.Object{one}), nil, LostKeyEncrypt, nil, 1, true},
		{"lost", holding([]hsm.Object{one}, nil), []uint32{1}, LostKeyEncrypt, nil, 1, false},
		{"lost, and refused", holding([]hsm.Object{one}, nil), []uint32{1}, LostKeyRefuse, nil, 0, false},
		{"never complete", holding([]hsm.Object{one}, nil), nil, LostKeyEncrypt, nil, 0, false},
		{"an older complete one wins", holding([]hsm.Object{one, two}, []hsm.Object{one}), []uint32{1, 2}, LostKeyEncrypt, nil, 1, true},
		{"the newest lost one", holding([]hsm.Object{one, two}, nil), []uint32{1, 2}, LostKeyEncrypt, nil, 2, false},
		{"the newest that was complete", holding([]hsm.Object{one, two, aes256(3)}, nil), []uint32{1, 2}, LostKeyEncrypt, nil, 2, false},
		{"lost here and there", holding([]hsm.Object{one}, []hsm.Object{two}), []uint32{1, 2}, LostKeyEncrypt, nil, 2, false},
		{"on two of three", holding([]hsm.Object{one}, []hsm.Object{one}, nil), []uint32{1}, LostKeyEncrypt, nil, 1, false},
		{"diverged", holding([]hsm.Object{one}, []hsm.Object{one}), []uint32{1}, LostKeyEncrypt, []uint32{1}, 0, false},
		{"diverged, with a good older one", holding([]hsm.Object{one, two}, []hsm.Object{one, two}), []uint32{1, 2}, LostKeyEncrypt, []uint32{2}, 1, false},
		{"it differed, and is on one only now", holding([]hsm.Object{one}, nil), []uint32{1}, LostKeyEncrypt, []uint32{1}, 1, false},
		{"lost on one of three, the others differ", holding([]hsm.Object{one}, []hsm.Object{one}, nil), []uint32{1}, LostKeyEncrypt, []uint32{1}, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var hsms []string
			for _, v := range test.views {
				hsms = append(hsms, v.Name)
			}
			p := NewParity(hsms, "", test.policy)
			p.WasComplete["k"] = test.once
			for _, number := range test.diverged {
				p.Diverged[hsm.KeyRef{Label: "k", Version: number}] = Finding{
					HSMs: []string{"a", "b"},
				}
			}
			key := NewKey("k", test.views)
			p.Record(key)
			version, err := key.EncryptVersion()
			if version != test.version || (err == nil) != (test.version != 0) {
				t.Errorf("got %d, %v; want %d", version, err, test.version)
			}
			if key.Complete() != test.complete {
				t.Errorf("Complete is %v", key.Complete())
			}
			for _, number := range key.Versions() {
				err := key.CheckDecrypt(number)
				if err != nil {
					t.Errorf("version %d does not decrypt: %v", number, err)
				}
			}
		})
	}
}

// BenchmarkCompare is what the comparison of all listings costs: 10,000 keys on two HSMs, alike;
// and a second HSM that is empty.
func BenchmarkCompare(b *testing.B) {
	for _, test := range []struct {
		name   string
		second []hsm.Object
	}{
		{"alike", []hsm.Object{aes256(1)}},
		{"one lacks all", nil},
	} {
		b.Run(test.name, func(b *testing.B) {
			views := holding([]hsm.Object{aes256(1)}, test.second)
			b.ReportAllocs()
			for b.Loop() {
				for range 10000 {
					compare("k", views, nil)
				}
			}
		})
	}
}

// BenchmarkCrossPlan is what a changed catalogue costs the comparison of key material: 10,000 keys,
// in lists by urgency.
func BenchmarkCrossPlan(b *testing.B) {
	c := &Catalogue{Keys: map[string]*Key{}}
	views := holding([]hsm.Object{aes256(1)}, []hsm.Object{aes256(1)})
	for i := range 10000 {
		label := fmt.Sprintf("key-%d", i)
		c.Keys[label] = NewKey(label, views)
	}
	var crosses CrossChecks
	b.ReportAllocs()
	for b.Loop() {
		crosses.plan(c, 3, "")
	}
}

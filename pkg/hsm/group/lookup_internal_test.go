package group

import (
	"fmt"
	"testing"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
)

// TestCatalogueOfMany: what a request pays for a key does not grow with the number of keys.
func TestCatalogueOfMany(t *testing.T) {
	g := groupOf(10000)
	for _, i := range []int{0, 4999, 9999} {
		key, err := g.Key(t.Context(), label(i))
		if err != nil || key.Label != label(i) || !key.Complete() {
			t.Fatalf("key %d: %+v, %v", i, key, err)
		}
	}
	allocs := testing.AllocsPerRun(100, func() { _, _ = g.Key(t.Context(), "key-777") })
	if allocs != 0 {
		t.Errorf("Key allocates %v times", allocs)
	}
}

func BenchmarkKey(b *testing.B) {
	for _, n := range []int{1, 100, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			g := groupOf(n)
			name := label(n / 2)
			b.ReportAllocs()
			for b.Loop() {
				key, err := g.Key(b.Context(), name)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := key.EncryptVersion(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRebuild is what a changed listing costs, in the background.
func BenchmarkRebuild(b *testing.B) {
	g := groupOf(10000)
	b.ReportAllocs()
	for b.Loop() {
		g.rebuild()
	}
}

func label(i int) string { return fmt.Sprintf("key-%d", i) }

// groupOf is two HSMs with n keys each, without any background work.
func groupOf(n int) *Group {
	g := &Group{parity: catalogue.NewParity([]string{"a", "b"}, "", catalogue.LostKeyEncrypt)}
	g.resolver = g.newUnlimitedResolver()
	for i := range 2 {
		m := &member{bit: 1 << i, objects: map[string][]hsm.Object{}}
		for k := range n {
			object := hsm.Object{
				Label: label(
					k,
				), ID: hsm.VersionID(1), Class: hsm.SecretKey, KeyType: "AES", Bits: 256,
				Usage: hsm.CanEncrypt | hsm.CanDecrypt,
			}
			m.objects[object.Label] = []hsm.Object{object}
		}
		g.members = append(g.members, m)
	}
	g.rebuild()
	return g
}

package hsm

import (
	"reflect"
	"testing"
	"xks-proxy/internal/testkit"
)

func TestObjectsKeepTheirLabels(t *testing.T) {
	var objects []Object
	for _, label := range testkit.OddLabels() {
		objects = append(objects, Object{Label: label, ID: []byte{1}, Class: SecretKey})
	}
	data, err := MarshalObjects(objects)
	if err != nil {
		t.Fatal(err)
	}
	got, err := UnmarshalObjects(data)
	if err != nil || !reflect.DeepEqual(got, objects) {
		t.Errorf("%+v, %v", got, err)
	}
	old, err := UnmarshalObjects(
		[]byte(`[{"label":"k","id":"AQ==","class":1,"keyType":"AES","bits":256,"usage":3}]`),
	)
	if err != nil || len(old) != 1 || old[0].Label != "k" {
		t.Errorf("what earlier versions wrote: %+v, %v", old, err)
	}
}

func TestShowLabel(t *testing.T) {
	shown := map[string]string{}
	for _, label := range testkit.OddLabels() {
		text := ShowLabel(label)
		if other, taken := shown[text]; taken {
			t.Errorf("%q and %q look the same: %s", label, other, text)
		}
		shown[text] = label
	}
	for label, want := range map[string]string{"plain": "plain", "über/1": "über/1", "nul\x00": `"nul\x00"`, "\xff": `"\xff"`} {
		if got := ShowLabel(label); got != want {
			t.Errorf("%q is shown as %s", label, got)
		}
	}
}

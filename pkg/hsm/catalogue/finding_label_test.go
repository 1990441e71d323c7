package catalogue

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"testing"
	"xks-proxy/internal/testkit"
)

func TestFindingsKeepTheirLabels(t *testing.T) {
	for _, label := range testkit.OddLabels() {
		data, err := json.Marshal(
			[]Finding{
				{Kind: KeyMissing, Label: label, Version: 3, HSMs: []string{"a"}, Detail: "d"},
			},
		)
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsRune(string(data), '�') && label != "�" {
			t.Errorf("%s", data)
		}
		var got []Finding
		err = json.Unmarshal(data, &got)
		if err != nil || len(got) != 1 || got[0].Label != label || got[0].Version != 3 ||
			got[0].Kind != KeyMissing {
			t.Errorf("%q: %+v, %v", label, got, err)
		}
	}
}

func TestCompletenessKeepsLabels(t *testing.T) {
	once := map[string][]uint32{}
	for i, label := range testkit.OddLabels() {
		once[label] = []uint32{uint32(i)}
	}
	var m, got SavedParity
	m.SetComplete(once)
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	err = json.Unmarshal(data, &got)
	if err != nil ||
		!maps.EqualFunc(
			got.CompleteVersions(),
			once,
			func(a, b []uint32) bool { return reflect.DeepEqual(a, b) },
		) {
		t.Errorf("%s: %v, %v", data, got.CompleteVersions(), err)
	}
}

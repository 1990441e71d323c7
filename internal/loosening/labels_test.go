package loosening

// Labels that are widened, in key stores with very many patterns.

import (
	"fmt"
	"testing"

	"xks-proxy/internal/config"
)

// A thousand patterns that are all narrowed are compared with those that begin alike, which is
// quick
// enough for an answer.
func TestManyNarrowerLabels(t *testing.T) {
	old, next := config.Keys{Label: "{key_id}"}, config.Keys{Label: "{key_id}"}
	for i := range 1000 {
		old.Labels = append(old.Labels, fmt.Sprintf("team-%d-*", i))
		next.Labels = append(next.Labels, fmt.Sprintf("team-%d-a*", i))
	}
	budget := 1_000_000
	label, err := widerLabel(old, next, "test", &budget)
	if label != "" || err != nil {
		t.Errorf("%q, %v", label, err)
	}
	label, err = widerLabel(next, old, "test", &budget)
	if label == "" || err != nil {
		t.Errorf("%q, %v", label, err)
	}
}

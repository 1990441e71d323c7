package server

// What the health port serves beside the health paths.

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"xks-proxy/internal/config"
	"xks-proxy/pkg/hsm/group"
)

// The plain listener has the metrics if they are wanted; what HTTPS serves of it never has.
func TestMetricsPath(t *testing.T) {
	get := func(handler http.Handler, path string) int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		handler.ServeHTTP(w, r)
		return w.Code
	}
	h := newHealth(func() []*group.Group { return nil })
	h.serving.Store(true)
	c := &config.Config{}
	metrics := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	refuse := http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) },
	)
	for _, on := range []bool{true, false} {
		c.Health.Metrics = on
		want := map[bool]int{true: http.StatusOK, false: http.StatusNotFound}[on]
		if got := get(h.plain(c, metrics), MetricsPath); got != want {
			t.Errorf("metrics %t: %d, want %d", on, got, want)
		}
		for path, want := range map[string]int{
			livePath: http.StatusOK, readyPath: http.StatusServiceUnavailable, // there is no HSM
		} {
			if got := get(h.plain(c, metrics), path); got != want {
				t.Errorf("%s beside metrics %t: %d, want %d", path, on, got, want)
			}
		}
	}
	if got := get(h.before(refuse), MetricsPath); got != http.StatusTeapot {
		t.Errorf("HTTPS serves the metrics: %d", got)
	}
}

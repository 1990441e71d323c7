package cli

// The log names the user of every change over the admin socket. The test walks the routes.

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/admin/socket"
)

func TestEveryOrderIsLogged(t *testing.T) {
	rig := newAdminRig(t)
	client := api.NewClient(rig.socket).HTTP
	orders := 0
	err := chi.Walk(socket.Routes{Service: rig.admin}.Handler().(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if method == http.MethodGet {
			return nil
		}
		orders++
		before := rig.log.FilterMessage("admin").Len()
		path := strings.Replace(route, "{name}", "hsm-a", 1) + "?timeout=5s&key_store=finance"
		r, err := http.NewRequestWithContext(t.Context(), method, "http://admin"+path, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(r)
		if err != nil {
			return err
		}
		response.Body.Close()
		lines := rig.log.FilterMessage("admin").All()[before:]
		if len(lines) != 1 {
			t.Errorf("%s %s: %d lines", method, route, len(lines))
			return nil
		}
		got := lines[0].ContextMap()
		for key, want := range map[string]int{"uid": os.Getuid(), "gid": os.Getgid(), "pid": os.Getpid()} {
			if got[key] != int64(want) {
				t.Errorf("%s %s: %s is %v, want %d", method, route, key, got[key], want)
			}
		}
		if got["order"] == "" || got["result"] == "" || got["user"] == nil {
			t.Errorf("%s %s: %v", method, route, got)
		}
		return nil
	})
	if err != nil || orders < 5 {
		t.Errorf("%d orders: %v", orders, err)
	}
}

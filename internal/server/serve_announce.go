package server

// What the log has of a start: each HSM, each key store, and in its last line whether the proxy can
// serve.

import (
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/version"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/status"
	"xks-proxy/pkg/xks"
)

// announce logs what is served and from where. A failed first probe is logged as an error, because
// no later line may report it.
func (s *servers) announce() {
	log := s.parts.log
	for _, g := range s.parts.groupList() {
		announceHSMs(log, g)
	}
	for _, k := range s.parts.config.KeyStores {
		log.Info("key store", zap.String("key_store", k.Name),
			zap.String("uri_path", xks.URIPath(k.PathPrefix)), zap.String("hsm_group", k.HSMGroup),
			zap.Int("credentials", len(k.Credentials)), zap.Strings("labels", k.Keys.Labels))
	}
	fields := []zap.Field{
		zap.String("version", version.Get().Version),
		zap.Stringer("listen", s.listeners.api.Addr()),
	}
	if more := s.listeners.addresses(); len(more) > 0 {
		fields = append(fields, zap.Strings("more_listeners", more))
	}
	if s.listeners.health != nil {
		fields = append(fields, zap.Stringer("health", s.listeners.health.Addr()))
	}
	if s.listeners.metrics != nil {
		fields = append(fields, zap.Stringer("metrics", s.listeners.metrics.Addr()))
	}
	if s.listeners.admin != nil {
		fields = append(fields, zap.String("admin", s.parts.config.Admin.Socket))
	}
	level, message := servingMessage(s.health.verdict(), idleGroups(s.parts.groupList()))
	log.Log(level, message, fields...)
}

// announceHSMs logs what the first probe of each HSM of a group found.
func announceHSMs(log *zap.Logger, g *group.Group) {
	for _, h := range g.Health() {
		log.Log(healthLevels[h.Status], "HSM", zap.String("hsm_group", g.Name()),
			zap.String("hsm", h.HSM), zap.String("status", string(h.Status)),
			zap.String("reason", h.Reason), zap.String("token", h.Info.Label),
			zap.String("serial", h.Info.Serial), zap.String("model", h.Model),
			zap.String("library", h.Info.Library), zap.Int("sessions", h.Info.Sessions))
	}
}

// healthLevels: DEGRADED serves, for now.
var healthLevels = map[status.Status]zapcore.Level{
	status.Active: zap.InfoLevel, status.Degraded: zap.WarnLevel, status.Unavailable: zap.ErrorLevel,
}

// servingMessage is the last line of the start. It begins with "serving" in any case.
func servingMessage(verdict string, idle []string) (zapcore.Level, string) {
	switch {
	case verdict != api.ReadyVerdict:
		return zap.ErrorLevel, "serving, NOT READY: " + verdict
	case len(idle) > 0:
		return zap.ErrorLevel,
			"serving, but no HSM can serve in these HSM groups: " + strings.Join(idle, ", ")
	}
	return zap.InfoLevel, "serving"
}

// idleGroups are the groups of which no HSM can serve.
func idleGroups(groups []*group.Group) []string {
	var idle []string
	for _, g := range groups {
		if !g.CanServe() {
			idle = append(idle, g.Name())
		}
	}
	return idle
}

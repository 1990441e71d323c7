package server

// The last line of a start.

import (
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"xks-proxy/internal/admin/api"
	"xks-proxy/pkg/hsm/status"
)

func TestServingMessage(t *testing.T) {
	for _, test := range []struct {
		verdict string
		idle    []string
		level   zapcore.Level
		want    string
	}{
		{api.ReadyVerdict, nil, zap.InfoLevel, "serving"},
		{"no HSM can serve", []string{"main"}, zap.ErrorLevel,
			"serving, NOT READY: no HSM can serve"},
		{api.ReadyVerdict, []string{"main", "other"}, zap.ErrorLevel,
			"serving, but no HSM can serve in these HSM groups: main, other"},
	} {
		level, message := servingMessage(test.verdict, test.idle)
		if level != test.level || message != test.want {
			t.Errorf("%s, %v: %v %q", test.verdict, test.idle, level, message)
		}
	}
	for status, want := range map[status.Status]zapcore.Level{
		status.Active: zap.InfoLevel, status.Degraded: zap.WarnLevel, status.Unavailable: zap.ErrorLevel,
	} {
		if got := healthLevels[status]; got != want {
			t.Errorf("%s is logged as %v", status, got)
		}
	}
}

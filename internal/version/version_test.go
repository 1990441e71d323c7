package version

import (
	"runtime/debug"
	"testing"
)

func TestDescribe(t *testing.T) {
	commit := []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"},
		{Key: "vcs.time", Value: "2026-01-02T03:04:05+02:00"},
		{Key: "vcs.modified", Value: "false"},
	}
	changed := append(commit[:2:2], debug.BuildSetting{Key: "vcs.modified", Value: "true"})
	for name, c := range map[string]struct {
		given, found string
		settings     []debug.BuildSetting
		want         string
	}{
		"stamped":                {given: "v9.8.7", want: "v9.8.7"},
		"stamped, and a tag":     {given: "v9.8.7", found: "v1.2.3", settings: commit, want: "v9.8.7"},
		"stamped, with changes":  {given: "v9.8.7", settings: changed, want: "v9.8.7"},
		"stamped with blanks":    {given: " ", found: "v1.2.3", want: "v1.2.3"},
		"a tag":                  {found: "v1.2.3", settings: commit, want: "v1.2.3"},
		"a tag, with changes":    {found: "v1.2.3+dirty", settings: changed, want: "v1.2.3+dirty"},
		"a commit":               {settings: commit, want: "v0.0.0-20260102010405-0123456789ab"},
		"a commit of Go (devel)": {found: Unknown, settings: commit, want: "v0.0.0-20260102010405-0123456789ab"},
		"a commit, with changes": {settings: changed, want: "v0.0.0-20260102010405-0123456789ab+dirty"},
		"a commit without time":  {settings: commit[:1], want: Unknown},
		"a short commit": {settings: append(commit[1:2:2], debug.BuildSetting{Key: "vcs.revision", Value: "abc"}),
			want: Unknown},
		"nothing": {want: Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			info := &debug.BuildInfo{Main: debug.Module{Version: c.found}, Settings: c.settings}
			got := describe(c.given, info).Version
			if got != c.want {
				t.Errorf("version %s, want %s", got, c.want)
			}
		})
	}
}

func TestDescribeRecords(t *testing.T) {
	got := describe("v9.8.7", &debug.BuildInfo{Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abcdef"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"},
		{Key: "vcs.modified", Value: "true"}, {Key: "GOFIPS140", Value: "v1.0.0"},
	}})
	want := Info{Version: "v9.8.7", Revision: "abcdef", RevisionTime: "2026-01-02T03:04:05Z", Modified: true,
		Go: got.Go, Platform: got.Platform, FIPS140: got.FIPS140, FIPS140Build: "v1.0.0"}
	if got != want || got.Go == "" || got.Platform == "" {
		t.Errorf("recorded %+v, want %+v", got, want)
	}
}

package test

// What each package may import. A new package gets its line here and in docs/design.md.

// importRules hold for every package. One that is not listed breaks them: it has
// to find its place in the house first.
var importRules = map[string]importRule{
	"pkg/sigv4":         {standardOnly: true, pure: true},
	"pkg/durable":       {standardOnly: true, pure: true},
	"pkg/confine":       {},
	"pkg/hsm":           {standardOnly: true, pure: true},
	"pkg/hsm/catalogue": {ours: []string{"pkg/hsm", "pkg/durable"}, pure: true},
	"pkg/hsm/decide": {ours: []string{
		"pkg/hsm", "pkg/hsm/catalogue",
	}, standardOnly: true, pure: true},
	"pkg/hsm/status": {ours: []string{
		"pkg/hsm", "pkg/hsm/catalogue",
	}, standardOnly: true, pure: true},
	"pkg/hsm/breaker": {ours: []string{"pkg/hsm", "pkg/hsm/status"}, pure: true},
	"pkg/hsm/group": {ours: []string{
		"pkg/hsm", "pkg/hsm/catalogue", "pkg/hsm/decide", "pkg/hsm/status", "pkg/hsm/breaker",
	}, pure: true},
	"pkg/authz":        {pure: true},
	"pkg/hsm/hsmtest":  {ours: []string{"pkg/hsm"}, pure: true},
	"pkg/hsm/pkcs11":   {ours: []string{"pkg/hsm"}},
	"pkg/hsm/worker":   {ours: []string{"pkg/hsm", "internal/version"}, pure: true},
	"pkg/xks/listener": {pure: true},
	"pkg/xks": {ours: []string{
		"pkg/sigv4", "pkg/hsm", "pkg/hsm/catalogue", "pkg/hsm/group", "pkg/hsm/status", "pkg/authz",
		"pkg/xks/listener",
	}, pure: true},
	"configs":             {standardOnly: true, pure: true},
	"internal/filewatch":  {standardOnly: true, pure: true},
	"internal/guarded":    {pure: true},
	"internal/isolation":  {standardOnly: true, pure: true},
	"internal/lastuse":    {ours: []string{"pkg/durable", "pkg/xks"}, pure: true},
	"internal/peer":       {pure: true},
	"internal/secret":     {ours: []string{"internal/guarded", "internal/subprocess"}, pure: true},
	"internal/subprocess": {standardOnly: true, pure: true},
	"internal/access":     {pure: true},
	"internal/text":       {pure: true},
	"internal/sharedlib":  {standardOnly: true, pure: true},
	"internal/version":    {standardOnly: true, pure: true},
	sharedKit:             {ours: []string{"configs", "internal/text"}, pure: true},
	"internal/config/schema": {ours: []string{
		"internal/guarded", "internal/secret", "internal/text", "pkg/authz",
	}, pure: true},
	"internal/config": {ours: []string{
		"internal/access", "internal/config/schema", "internal/guarded", "internal/isolation",
		"internal/peer", "internal/secret", "internal/text", "internal/webconfig", "pkg/authz",
		"pkg/confine", "pkg/hsm", "pkg/hsm/group", "pkg/hsm/pkcs11", "pkg/sigv4", "pkg/xks",
	}},
	"internal/webconfig": {ours: []string{"internal/config/schema", "internal/guarded"}},
	"internal/logging":   {ours: []string{"internal/config"}},
	"internal/certs": {ours: []string{
		"internal/config", "internal/config/schema", "internal/guarded", "internal/text",
	}},
	"internal/check": {ours: []string{
		"internal/access", "internal/certs", "internal/config", "internal/config/schema",
		"internal/sharedlib", "internal/subprocess", "internal/text", "internal/webconfig",
	}},
	"internal/loosening": {ours: []string{
		"internal/certs", "internal/config", "internal/config/schema", "internal/isolation",
		"pkg/authz", "pkg/xks",
	}},
	"internal/killswitch": {ours: []string{
		"internal/peer", "internal/text", "pkg/durable", "pkg/xks",
	}, pure: true},
	"internal/fleet": {ours: []string{
		"internal/config", "internal/config/schema", "internal/secret", "internal/subprocess",
		"internal/text", "pkg/confine", "pkg/durable", "pkg/hsm", "pkg/hsm/catalogue",
		"pkg/hsm/group", "pkg/hsm/pkcs11", "pkg/hsm/status", "pkg/hsm/worker",
	}},
	"internal/admin/api": {ours: []string{
		"internal/certs", "internal/config", "internal/fleet", "internal/killswitch",
		"internal/logging", "internal/loosening", "internal/peer", "pkg/hsm", "pkg/hsm/catalogue",
		"pkg/hsm/status", "pkg/hsm/worker", "pkg/xks/listener",
	}},
	"internal/admin": {ours: []string{
		"internal/admin/api", "internal/certs", "internal/config", "internal/config/schema",
		"internal/fleet", "internal/killswitch", "internal/lastuse", "internal/logging",
		"internal/peer", "internal/text", "internal/version", "pkg/hsm", "pkg/hsm/catalogue",
		"pkg/hsm/group", "pkg/hsm/status", "pkg/hsm/worker", "pkg/xks",
	}},
	"internal/admin/socket": {ours: []string{
		"internal/admin", "internal/admin/api", "internal/config", "internal/fleet",
		"internal/killswitch", "internal/peer", "pkg/hsm/group",
	}},
	"internal/metrics": {ours: []string{
		"internal/admin", "internal/admin/api", "internal/certs", "internal/fleet",
		"internal/logging", "internal/loosening", "internal/version", "pkg/hsm/catalogue",
		"pkg/hsm/status", "pkg/hsm/worker", "pkg/xks", "pkg/xks/listener",
	}},
	"internal/server": {ours: []string{
		"internal/admin", "internal/admin/api", "internal/admin/socket", "internal/certs",
		"internal/config", "internal/config/schema", "internal/filewatch", "internal/fleet",
		"internal/killswitch", "internal/lastuse", "internal/logging", "internal/loosening",
		"internal/metrics", "internal/peer", "internal/secret", "internal/version",
		"internal/webconfig", "pkg/authz",
		"pkg/durable", "pkg/hsm", "pkg/hsm/group", "pkg/hsm/status", "pkg/hsm/worker", "pkg/sigv4",
		"pkg/xks", "pkg/xks/listener",
	}},
	"internal/xksclient": {ours: []string{
		"internal/config/schema", "internal/guarded", "internal/secret", "pkg/hsm", "pkg/xks",
	}, pure: true},
	"internal/demo": {ours: []string{
		"internal/certs", "internal/config", "internal/config/schema", "internal/guarded",
		"internal/secret", "internal/subprocess", "internal/text", "internal/xksclient", "pkg/hsm",
		"pkg/hsm/pkcs11", "pkg/sigv4", "pkg/xks",
	}},
	"internal/cli/command": {ours: []string{
		"internal/admin/api", "internal/config", "internal/config/schema", "internal/secret",
		"internal/text", "pkg/hsm", "pkg/hsm/catalogue", "pkg/hsm/worker",
	}},
	"internal/cli/request": {ours: []string{
		"internal/certs", "internal/cli/command", "internal/config", "internal/config/schema",
		"internal/demo", "internal/guarded", "internal/secret", "internal/text",
		"internal/xksclient", "pkg/sigv4",
	}},
	"internal/cli/probe": {ours: []string{
		"internal/cli/command", "internal/config", "internal/config/schema", "internal/fleet",
		"internal/secret", "internal/subprocess", "internal/text", "pkg/hsm", "pkg/hsm/pkcs11",
		"pkg/hsm/worker",
	}},
	"internal/cli/policy": {ours: []string{
		"internal/cli/command", "internal/config", "internal/config/schema", "internal/guarded",
		"internal/text", "pkg/authz", "pkg/xks",
	}},
	"internal/cli": {ours: []string{
		"configs", "internal/access", "internal/admin", "internal/admin/api",
		"internal/admin/socket", "internal/certs", "internal/check", "internal/cli/command",
		"internal/cli/policy", "internal/cli/probe", "internal/cli/request", "internal/config",
		"internal/config/schema", "internal/demo", "internal/fleet", "internal/killswitch",
		"internal/logging", "internal/secret", "internal/server", "internal/text",
		"internal/version", "internal/xksclient", "pkg/confine", "pkg/hsm", "pkg/hsm/catalogue",
		"pkg/hsm/pkcs11", "pkg/hsm/status", "pkg/hsm/worker", "pkg/sigv4", "pkg/xks",
	}},
	"cmd/xks-proxy": {ours: []string{"internal/cli"}},
}

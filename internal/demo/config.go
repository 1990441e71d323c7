package demo

// The demo's xks-proxy.yaml: complete, and meant to be copied.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"text/template"

	"xks-proxy/internal/xksclient"
)

var demoConfigTemplate = template.Must(
	template.New("xks-proxy.yaml").Funcs(template.FuncMap{"quote": yamlQuote}).Parse(
		`# An xks-proxy configuration, written by "xks-proxy demo". Serve it with
#
#   xks-proxy serve --config xks-proxy.yaml
#
# Copy it and edit the copy: for your own HSMs, change module, token, pin, profile
# and environment of each. Relative paths start at the directory of this file.
# What is not here has its default: "xks-proxy config show FILE" prints all of it.

server:
  listen: {{quote .Listen}}
  tls:
    certificate: server.crt      # for AWS KMS: one of a public CA
    key: server.key

health:
  listen: {{quote .Health}}      # plain HTTP: /healthz/live, /healthz/ready, /metrics

state_directory: state

admin:
{{- if .Admin}}
  socket: state/admin.sock       # of "xks-proxy status", "block", "hsm", …
{{- else}}
  socket: ""                     # state/admin.sock has too long a path here for a Unix socket
{{- end}}

# Each HSM is served by a process of its own. These are two SoftHSM tokens.
hsms:
{{- range .HSMs}}
  - name: {{.Name}}
    profile: softhsm             # luna, nshield, cloudhsm, utimaco, generic
    module: {{quote .Module}}
    token: {{.Token}}
    pin: {file: {{.Name}}/pin}
    environment: [{{quote (printf "SOFTHSM2_CONF=%s" .SoftHSM2Conf)}}]
{{- end}}

# Both hold the same keys and stand in for each other.
hsm_groups:
  - name: main
    hsms:
{{- range .HSMs}}
      - {hsm: {{.Name}}, priority: 0}    # equal priorities share the load
{{- end}}
    test_key: {{.TestKey}}     # the proxy's own, to see that an HSM works

key_stores:
  - name: demo
    path_prefix: {{.PathPrefix}}           # XksProxyUriPath: {{.URIPath}}
    hsm_group: main
    credentials:
      - access_key_id: {{.AccessKeyID}}
        secret_access_key: {file: credential.secret}
    keys:
      labels: ["*"]              # keys on the HSMs that this key store reaches; ["demo-*"] would be some
`),
)

func demoConfig(p plan, to *xksclient.ConnectionFile) ([]byte, error) {
	var text bytes.Buffer
	err := demoConfigTemplate.Execute(&text, map[string]any{
		"Listen": p.at.listen, "Health": p.at.health, "HSMs": to.HSMs, "TestKey": demoTestKey, "PathPrefix": demoPathPrefix,
		"URIPath": to.URIPath, "Admin": p.dir.hasSocket(), "AccessKeyID": to.Credential.AccessKeyID,
	})
	if err != nil {
		return nil, fmt.Errorf("the configuration file cannot be written: %w", err)
	}
	return text.Bytes(), nil
}

// yamlQuote makes a YAML double-quoted scalar, of which JSON's strings are a part.
func yamlQuote(s string) (string, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(s)
	return string(bytes.TrimSpace(b.Bytes())), err
}

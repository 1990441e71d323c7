package config

// The configuration file as Go types. The tags are the schema: everything that
// reads, checks, documents or shows the file works from them (package schema),
// so that a key is declared here and nowhere else.
//
//	mapstructure  the key
//	default       its default, as it would stand in the file
//	doc           what it means, one sentence or two
//	min, max      the range, in the notation of the value; for a list, of each element
//	oneof         the values allowed, separated by |
//	required      must be given and not be empty
//	path          "true": relative to the directory of the file; "log": the same, but
//	              for stderr and stdout
//	hex           written as 0x…
//	number        "true": a text that may also be a number
//	pattern       regular expression of a text, or of each of a list, for JSON Schema
//	fill          placeholders are filled in (key stores only), and what their values
//	              may hold there: see template.go
//	short         of a section: the key that a text in the place of the section gives
//	identity      in an element of a list: what it is called when configurations are compared
//	restart       "true": a change here or below takes effect at the next start only
//	loosens       which changes may let in what was refused before, a rule of
//	              LooseningRules; all keys but those with restart have one

import (
	"time"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/secret"
	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/hsm"
)

// Config is a configuration: checked, with defaults, the environment and resolved paths. Secrets
// are references (see ResolveSecrets).
type Config struct {
	Server            Server      `mapstructure:"server" loosens:"below" doc:"The HTTPS listener that AWS KMS calls, and its limits."`
	Health            Health      `mapstructure:"health" restart:"true" doc:"The listener for load balancers and monitoring."`
	Metrics           Metrics     `mapstructure:"metrics" restart:"true" doc:"A listener for the metrics alone, with TLS and authentication if you like."`
	Admin             Admin       `mapstructure:"admin" restart:"true" doc:"The socket for the commands of operators: status, block, reload, hsm and others."`
	Log               Log         `mapstructure:"log" loosens:"below" doc:"The proxy's log: one structured line for each request, and what happens besides."`
	StateDirectory    string      `mapstructure:"state_directory" restart:"true" default:"state" path:"true" doc:"Directory in which the last catalogue seen on each HSM is kept, so that a restart while one HSM is away does not begin to use a key version that the other lacks. Also what operators have blocked, when each credential was last used, and which PIN an HSM refused, as a slow hash, so that it is not tried again. One directory for each proxy. Empty: none is kept."`
	StartWithoutHSMs  string      `mapstructure:"start_without_hsms" default:"wait" oneof:"wait|exit" loosens:"never" doc:"When every HSM of an HSM group is away at the start: wait serves anyway, not ready until one comes; exit ends the program. A mistake, such as a refused PIN, ends it in either case unless the HSM was reached before."`
	Proxy             proxyConfig `mapstructure:"proxy" loosens:"never" doc:"What GetHealthStatus tells AWS KMS about the proxy."`
	HSMs              []HSM       `mapstructure:"hsms" required:"true" loosens:"below" doc:"The HSMs, each served by a process of its own."`
	HSMGroups         []Group     `mapstructure:"hsm_groups" required:"true" loosens:"below" doc:"HSMs that hold the same keys and stand in for each other."`
	KeyStores         []KeyStore  `mapstructure:"key_stores" loosens:"stores" doc:"The external key stores (tenants), each with its own path, credentials and keys. Those of key_store_directory come after them; one at least is needed."`
	KeyStoreDirectory string      `mapstructure:"key_store_directory" default:"key_stores.d" path:"true" loosens:"never" doc:"Directory of further key stores: each *.yaml in it is one, with the keys of key_stores[] at its top level and the file's name as the default of its name. The default need not exist. Empty: none."`
	Reload            Reload      `mapstructure:"reload" loosens:"below" doc:"What makes the proxy read its configuration again while it runs, beside SIGHUP and xks-proxy reload."`

	Source   *schema.Source             `mapstructure:"-" json:"-"` // for messages about problems that are found later
	Policies map[string]*authz.Policies `mapstructure:"-" json:"-"` // by key store; nil for one that has none
}

// Server is the HTTPS listener that AWS KMS calls, and its limits.
type Server struct {
	Listen             string             `mapstructure:"listen" restart:"true" default:"127.0.0.1:8443" required:"true" doc:"Address and port of the HTTPS listener. AWS KMS reaches it on port 443 of the endpoint."`
	TLS                TLS                `mapstructure:"tls" loosens:"never" doc:"The server's certificate. TLS 1.2 and 1.3 are both on."`
	Budget             time.Duration      `mapstructure:"budget" default:"200ms" min:"10ms" max:"1m" loosens:"never" doc:"Time in which a request is answered, from its first byte on. AWS KMS gives up after 250ms, network included."`
	FirstRequestBudget time.Duration      `mapstructure:"first_request_budget" default:"180ms" min:"10ms" max:"1m" loosens:"never" doc:"The same for the first request of a connection, from the accept on: the TLS handshake has used some of the time. By default the budget if that is less."`
	IdleTimeout        time.Duration      `mapstructure:"idle_timeout" restart:"true" default:"400s" min:"1s" max:"24h" doc:"A connection without a request is closed after this. Above the 350s of a network load balancer, so that it is never the proxy who closes first."`
	TCPKeepAlive       time.Duration      `mapstructure:"tcp_keep_alive" restart:"true" default:"60s" min:"1s" max:"24h" doc:"Interval of TCP keep-alive probes. Below the idle timeout of what stands between, so that idle connections live."`
	ReadHeaderTimeout  time.Duration      `mapstructure:"read_header_timeout" restart:"true" default:"5s" min:"100ms" max:"5m" doc:"Time for the TLS handshake, and for a client to send the header of a request. A PROXY protocol header has as long from the accept on, before the handshake."`
	ReadTimeout        time.Duration      `mapstructure:"read_timeout" restart:"true" default:"5s" min:"100ms" max:"5m" doc:"Time for a client to send a whole request, body included."`
	DrainTimeout       time.Duration      `mapstructure:"drain_timeout" default:"10s" min:"0s" max:"10m" loosens:"never" doc:"After SIGTERM, how long requests in flight may take to finish."`
	DrainDelay         time.Duration      `mapstructure:"drain_delay" default:"0s" min:"0s" max:"10m" loosens:"never" doc:"After SIGTERM, how long to go on serving while readiness already says no, so that load balancers turn away first."`
	MaxConnections     int                `mapstructure:"max_connections" restart:"true" default:"10000" min:"1" max:"1000000" doc:"Connections open at once; more are closed on accept."`
	MaxInFlight        int                `mapstructure:"max_in_flight" default:"1024" min:"1" max:"100000" loosens:"never" doc:"Requests served at once; more are answered ThrottlingException."`
	MaxBody            int                `mapstructure:"max_body" default:"131072" min:"65536" max:"16777216" loosens:"never" doc:"Longest request body, bytes."`
	MaxPlaintext       int                `mapstructure:"max_plaintext" default:"8192" min:"4300" max:"65536" loosens:"never" doc:"Longest plaintext and ciphertext, bytes."`
	MaxAAD             int                `mapstructure:"max_aad" default:"65535" min:"8192" max:"65535" loosens:"never" doc:"Longest additional authenticated data, bytes."`
	MaxQueueTime       time.Duration      `mapstructure:"max_queue_time" default:"100ms" min:"1ms" max:"1m" loosens:"never" doc:"A request that could not be begun within this after it had arrived, or that would wait longer than this for a session of an HSM, is answered ThrottlingException. Below the budget; by default half of it if that is less."`
	ClientCertificates ClientCertificates `mapstructure:"client_certificates" loosens:"below" doc:"mTLS on the port of server.listen. AWS documents it as deprecated."`
	ProxyProtocol      ProxyProtocol      `mapstructure:"proxy_protocol" loosens:"below" doc:"PROXY protocol, versions 1 and 2, on the port of server.listen: the log has the client's address instead of the load balancer's."`
	Listeners          []Listener         `mapstructure:"listeners" loosens:"below" doc:"Further HTTPS ports for the same key stores, each with its own rule about client certificates."`
	HTTP2              bool               `mapstructure:"http2" restart:"true" default:"true" doc:"Offer HTTP/2 beside HTTP/1.1."`
}

// TLS has the certificates of the server.
type TLS struct {
	Certificate string             `mapstructure:"certificate" required:"true" path:"true" doc:"PEM file: the server's certificate first, then the intermediates."`
	Key         string             `mapstructure:"key" required:"true" path:"true" doc:"PEM file: the private key of the certificate. Refused if others than its owner and group can read it."`
	More        []CertificateFiles `mapstructure:"more" doc:"Further certificates, chosen by the name that the client asks for (SNI). The one above is for names that none of these has."`
}

// CertificateFiles is a certificate that clients get when they ask for one of its names.
type CertificateFiles struct {
	Certificate string `mapstructure:"certificate" identity:"true" fill:"path" required:"true" path:"true" doc:"PEM file: the certificate first, then the intermediates."`
	Key         string `mapstructure:"key" fill:"path" required:"true" path:"true" doc:"PEM file: the private key of the certificate. Refused if others than its owner and group can read it."`
}

// ClientCertificates is mTLS (requirement A7). Off without a CA.
type ClientCertificates struct {
	CA       string   `mapstructure:"ca" path:"true" loosens:"authorities" doc:"PEM file with the CA certificates that client certificates must come from. Empty: no client certificate is asked for."`
	Subjects []string `mapstructure:"subjects" loosens:"clients" doc:"Subject common names accepted, compared exactly: cks.kms.REGION.amazonaws.com for AWS KMS. At least one is needed with ca."`
	Usages   []string `mapstructure:"usages" default:"clientAuth" oneof:"clientAuth|serverAuth|any" loosens:"clients" doc:"Extended key usages of which the client certificate has one."`
}

// Listener is a further HTTPS port.
type Listener struct {
	Listen             string             `mapstructure:"listen" restart:"true" identity:"true" required:"true" doc:"Address and port."`
	ClientCertificates ClientCertificates `mapstructure:"client_certificates" loosens:"below" doc:"mTLS on this port."`
	ProxyProtocol      ProxyProtocol      `mapstructure:"proxy_protocol" loosens:"below" doc:"PROXY protocol on this port."`
}

// ProxyProtocol says which load balancers state the address of their client.
type ProxyProtocol struct {
	Trusted []string `mapstructure:"trusted" loosens:"more" doc:"Addresses and networks (CIDR) of the load balancers that send the header. A connection from them must begin with one, one from elsewhere must not, or it is closed. They can claim to be any client: name nobody else. Empty: no header is accepted."`
}

// Reload says when a running proxy reads its configuration again.
type Reload struct {
	Interval  time.Duration `mapstructure:"interval" default:"2s" min:"0s" max:"1h" loosens:"never" doc:"How often the configuration file and the files that it names are looked at; a change is read when it has stood for one interval. 0s: never."`
	Loosening string        `mapstructure:"loosening" default:"warn" oneof:"warn|confirm" loosens:"to:warn" doc:"What becomes of a change that may let in what was refused before: of a policy, a client certificate rule, the labels that a key store reaches and others (marked below). warn takes it and logs a warning. confirm refuses the reload, and only xks-proxy reload --accept-loosening takes it. A start takes everything."`
}

// Health is the listener for load balancers and monitoring.
type Health struct {
	Listen  string `mapstructure:"listen" default:"127.0.0.1:8080" doc:"Address and port for /healthz/live, /healthz/ready and /metrics over plain HTTP. Empty: no such listener."`
	Metrics bool   `mapstructure:"metrics" default:"true" doc:"Serve Prometheus metrics at /metrics of this listener, unless they have one of their own (metrics.listen). They name HSMs, HSM groups, key stores and access key ids: let only load balancers and monitoring reach it."`
}

// Metrics is a listener for the metrics alone.
type Metrics struct {
	Listen    string `mapstructure:"listen" doc:"Address and port for /metrics and nothing else. The health port does not serve the metrics then. Empty: no such listener."`
	WebConfig string `mapstructure:"web_config" path:"true" doc:"File with TLS, client certificates and passwords (bcrypt) for this listener, in the form of Prometheus exporters (exporter-toolkit, web configuration). It must have tls_server_config, and is refused if others than owner and group can read it. Changes of its content take effect at once. Empty: plain HTTP."`
}

// Admin is the socket for the commands of operators.
type Admin struct {
	Socket string `mapstructure:"socket" default:"state/admin.sock" path:"true" doc:"Unix socket, 107 bytes with its directory at most. Anyone who can open it can block keys and take HSMs out of service: mode 0600, or 0660 with a group. Empty: none."`
	Group  string `mapstructure:"group" doc:"Unix group, by name or number, whose members may use the socket too. They need a way through its directory. Empty: the proxy's own user only."`
}

// Log is the log of the proxy.
type Log struct {
	Level  string `mapstructure:"level" default:"info" oneof:"debug|info|warn|error" loosens:"never" doc:"Least level that is logged."`
	Format string `mapstructure:"format" restart:"true" default:"json" oneof:"json|console" doc:"json for machines, console for eyes."`
	Output string `mapstructure:"output" restart:"true" default:"stderr" required:"true" path:"log" doc:"stderr, stdout or a file, which is appended to, and opened again on SIGHUP and at each reload (logrotate)."`

	UnauthenticatedPerSecond int `mapstructure:"unauthenticated_per_second" default:"10" min:"0" max:"10000" loosens:"never" doc:"Lines a second about requests that nobody has authenticated, ten seconds' worth at once; each reason for a refusal has one in 5s besides. All others are counted, and a line every 5s has the counts by reason. They never take the place of another line. 0: all are only counted."`
}

// proxyConfig is what GetHealthStatus says about the proxy.
type proxyConfig struct {
	FleetSize int    `mapstructure:"fleet_size" default:"1" min:"1" max:"10000" doc:"Number of proxies that serve the same endpoint."`
	Vendor    string `mapstructure:"vendor" default:"xks-proxy" required:"true" doc:"xksProxyVendor of GetHealthStatus."`
	Model     string `mapstructure:"model" doc:"xksProxyModel of GetHealthStatus. Empty: xks-proxy and its version."`
}

// HSM is one HSM, with the process that serves it.
type HSM struct {
	Name              string        `mapstructure:"name" identity:"true" required:"true" pattern:"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$" loosens:"never" doc:"Name for logs, groups and GetHealthStatus."`
	Profile           string        `mapstructure:"profile" default:"generic" oneof:"softhsm|luna|nshield|cloudhsm|utimaco|generic" loosens:"never" doc:"The vendor's ways: who makes the IV, what bad ciphertext is answered with, limits."`
	Module            string        `mapstructure:"module" required:"true" path:"true" loosens:"never" doc:"The vendor's PKCS#11 library."`
	Token             string        `mapstructure:"token" loosens:"another" doc:"Label of the token. Of token, serial, slot, token_manufacturer and token_model one at least is given; what is given must be the token's, and exactly one token must match."`
	Serial            string        `mapstructure:"serial" loosens:"another:emptied" doc:"Serial number of the token; a token with another one is refused. Empty: not checked."`
	Slot              *int          `mapstructure:"slot" min:"0" max:"9223372036854775807" loosens:"another" doc:"Number of the slot (CK_SLOT_ID), for tokens that nothing else tells apart. On many HSMs slots change their numbers."`
	TokenManufacturer string        `mapstructure:"token_manufacturer" loosens:"emptied" doc:"Manufacturer that the token states of itself (CK_TOKEN_INFO). Empty: not checked."`
	TokenModel        string        `mapstructure:"token_model" loosens:"emptied" doc:"Model that the token states of itself (CK_TOKEN_INFO). Empty: not checked."`
	TokenInitialized  string        `mapstructure:"token_initialized" default:"required" oneof:"required|ignore" loosens:"to:ignore" doc:"ignore uses a token that says that it is not initialised (CKF_TOKEN_INITIALIZED is not set), which some in use do."`
	UserType          string        `mapstructure:"user_type" default:"user" number:"true" loosens:"never" doc:"User that logs in: user (CKU_USER), crypto-user (Luna's, 0x80000001), context-specific, a number such as 0x80000001, or none for a token that needs no login; then there is no pin."`
	PIN               secret.Ref    `mapstructure:"pin" loosens:"never" doc:"PIN of that user. A wrong PIN is tried once. Required unless user_type is none."`
	Environment       []string      `mapstructure:"environment" loosens:"never" doc:"NAME=value, each set for the process of this HSM only. Paths in them are not resolved. Not for secrets: they are shown."`
	User              string        `mapstructure:"user" loosens:"emptied" doc:"User, by name or number, that the process of this HSM runs as, with that user's groups. Only for a proxy that root starts. The user needs to be able to run the program, and to read the module and what it names; paths in environment are absolute then. Empty: the proxy's user."`
	Confine           Confine       `mapstructure:"confine" loosens:"below" doc:"What the process of this HSM cannot reach: see security.md."`
	Sessions          int           `mapstructure:"sessions" default:"32" min:"1" max:"1024" loosens:"never" doc:"PKCS#11 sessions, hence calls that run at once. One HSM has to carry the load of all: requests a second times seconds an operation, and room to spare."`
	Model             string        `mapstructure:"model" loosens:"never" doc:"Model that GetHealthStatus shows. Empty: what the token says."`
	Vendor            string        `mapstructure:"vendor" loosens:"never" doc:"Vendor that GetHealthStatus shows. Empty: what the token says."`
	HangTimeout       time.Duration `mapstructure:"hang_timeout" default:"2s" min:"100ms" max:"10m" loosens:"never" doc:"A call to the module that takes longer counts as hung; a process with four of them, or with fewer for 30s, is killed and started anew. Time in which the machine stood still does not count."`
	// StartTimeout bounds the opening of the token, not the listing of its keys.
	StartTimeout time.Duration `mapstructure:"start_timeout" default:"60s" min:"1s" max:"30m" loosens:"never" doc:"How long the module may take to start, find the token and log in; then its process is killed and started anew. Once it is known how long that takes, the limit is four times as long, 10s at least, and this at most. The keys are listed afterwards, in the background."`
	MemoryLimit  int           `mapstructure:"memory_limit_mib" default:"2048" min:"0" max:"1048576" loosens:"never" doc:"Memory, in MiB, with which the HSM's process is replaced, because its library leaks: it finishes its calls, the other HSMs serve meanwhile, and no two processes are replaced at once unless one has half as much again. 0: no limit. See hsms.md."`
	Overrides    Overrides     `mapstructure:"overrides" loosens:"never" doc:"Single fields of the profile, for a module that differs from it."`
}

// Confine says which files the process of an HSM may reach.
type Confine struct {
	Mode     string   `mapstructure:"mode" default:"default" oneof:"default|strict|off" loosens:"confinement" doc:"default keeps it from everything that is the proxy's own; strict allows what every program needs, the module, paths in environment and confine.paths, and nothing else; off allows everything."`
	Paths    []string `mapstructure:"paths" path:"true" loosens:"more" doc:"Files and directories that it may read and change in any case, also within the directory of the configuration."`
	Required bool     `mapstructure:"required" default:"false" loosens:"to:false" doc:"Do not start where the kernel cannot do all of it (Landlock ABI 6: Linux 6.12)."`
}

// Overrides changes single fields of a profile. A zero field leaves the value of the profile.
type Overrides struct {
	IVSource          string    `mapstructure:"iv_source" oneof:"proxy|hsm-random|written-back|appended" doc:"Who makes the IV: the proxy, the system's and the HSM's random generators together, the HSM into the zeroed IV buffer, or the HSM appending it to its output."`
	IVSize            int       `mapstructure:"iv_size" min:"12" max:"16" doc:"Length of the IV, bytes: 12 or 16."`
	IVBits            string    `mapstructure:"iv_bits" oneof:"length|zero|absent" doc:"ulIvBits of CK_GCM_PARAMS: the length of the IV in bits, zero, or absent for modules whose structure has no such field (40 bytes instead of 48)."`
	Mechanism         uint32    `mapstructure:"mechanism" min:"1" max:"4294967295" hex:"true" doc:"Mechanism number, CKM_AES_GCM (0x1087) if the profile says nothing else."`
	MaxAAD            int       `mapstructure:"max_aad" min:"512" max:"65558" doc:"Longest AAD the HSM takes, bytes, the proxy's framing of up to 23 bytes included. A longer one goes to another HSM of the group."`
	MaxData           int       `mapstructure:"max_data" min:"512" max:"65536" doc:"Longest plaintext the HSM takes, bytes. A longer one goes to another HSM of the group."`
	ReadOnlySessions  *bool     `mapstructure:"read_only_sessions" doc:"Open read-only sessions; false for modules that have none."`
	InvalidCiphertext []hsm.CKR `mapstructure:"invalid_ciphertext" min:"1" max:"4294967295" hex:"true" doc:"CKR numbers that always mean bad ciphertext."`
	Ambiguous         []hsm.CKR `mapstructure:"ambiguous" min:"1" max:"4294967295" hex:"true" doc:"CKR numbers that mean bad ciphertext, a busy HSM or a fault; repeats and decrypts with the test key tell which."`
}

// Group is a group of HSMs that hold the same keys.
type Group struct {
	Name              string        `mapstructure:"name" identity:"true" required:"true" pattern:"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$" loosens:"never" doc:"Name for key stores and logs."`
	HSMs              []GroupMember `mapstructure:"hsms" required:"true" loosens:"shared" doc:"The members. Two at least, or there is no failover."`
	TestKey           TestKey       `mapstructure:"test_key" short:"label" loosens:"below" doc:"The proxy's own test key, on every HSM of the group: it shows that the HSM works, and no key store can reach it. A text alone is its label."`
	ProbeInterval     time.Duration `mapstructure:"probe_interval" default:"5s" min:"100ms" max:"30s" loosens:"never" doc:"How often each HSM really encrypts and decrypts with the test key."`
	ProbeTimeout      time.Duration `mapstructure:"probe_timeout" default:"2s" min:"10ms" max:"20s" loosens:"never" doc:"A probe that takes longer has failed."`
	CatalogueInterval time.Duration `mapstructure:"catalogue_interval" default:"30s" min:"1s" max:"24h" loosens:"never" doc:"How often the keys of each HSM are listed and compared."`
	AttemptTimeout    time.Duration `mapstructure:"attempt_timeout" default:"60ms" min:"1ms" max:"1m" loosens:"never" doc:"An HSM that has not answered a request within this is suspected to hang: the request goes to another one as well, and this one is taken out of service unless a probe succeeds. Below the budgets of the server."`
	HedgeAfter        time.Duration `mapstructure:"hedge_after" default:"10ms" min:"1ms" max:"1m" loosens:"never" doc:"The earliest at which a request that is slow goes to a second HSM as well; when exactly is learned from recent answers. Below attempt_timeout."`
	HedgePercent      int           `mapstructure:"hedge_percent" default:"5" min:"0" max:"100" loosens:"never" doc:"Share of the requests, percent, that may have such a second attempt, so that slow HSMs do not see twice the load. 0: none."`
	KeyVersion        string        `mapstructure:"key_version" default:"id4" oneof:"id4|id|none" loosens:"never" doc:"How the version of a key is read from CKA_ID, on every HSM of the group. id4: four bytes, big-endian; without a CKA_ID the version is 0. id: a big-endian number of any length, as pkcs11-tool --id writes it. none: CKA_ID says nothing, and a label has one key. See hsms.md."`
	LostKey           string        `mapstructure:"lost_key" default:"encrypt" oneof:"encrypt|refuse" loosens:"to:encrypt" doc:"What Encrypt does with a key version that was on every HSM and is gone from one: go on with those that hold it (as while that HSM is down), or refuse. A version that was never on every HSM is never encrypted under."`
	ParityRate        int           `mapstructure:"parity_rate" default:"5" min:"0" max:"1000" loosens:"emptied" doc:"Comparisons of key material (one HSM decrypts what another encrypted) a second, for the whole group. 0: none."`
}

// TestKey is the test key of a group.
type TestKey struct {
	Label  string `mapstructure:"label" default:"xks-proxy-test" required:"true" loosens:"any" doc:"CKA_LABEL of the key."`
	Create bool   `mapstructure:"create" default:"false" loosens:"never" doc:"Make it on each HSM that comes without it, at the start and whenever the HSM is back: AES-256, generated on the HSM, not extractable. A key that is there is never changed. Of several proxies for the same HSMs, one alone should do so."`
}

// GroupMember is an HSM in a group.
type GroupMember struct {
	HSM      string `mapstructure:"hsm" identity:"true" required:"true" loosens:"never" doc:"Name of the HSM."`
	Priority int    `mapstructure:"priority" default:"0" min:"0" max:"100" loosens:"never" doc:"Equal priorities share the load; a higher number is standby."`
}

// KeyStore is an external key store (a tenant).
type KeyStore struct {
	Name         string             `mapstructure:"name" identity:"true" required:"true" pattern:"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$" loosens:"named" doc:"Name for logs and policies."`
	Owner        string             `mapstructure:"owner" loosens:"named" doc:"Whose keys these are, in words of your own: resource.owner in policies. Key stores of different owners cannot reach one key."`
	Application  string             `mapstructure:"application" loosens:"never" doc:"Which application's keys these are, for {application}."`
	Environment  string             `mapstructure:"environment" loosens:"never" doc:"Such as production, for {environment}."`
	PathPrefix   string             `mapstructure:"path_prefix" fill:"prefix" loosens:"never" doc:"What stands before /kms/xks/v1 in the XksProxyUriPath of this key store. Takes placeholders. Empty: nothing."`
	HSMGroup     string             `mapstructure:"hsm_group" required:"true" loosens:"any" doc:"Name of the HSM group that holds its keys."`
	Hosts        []string           `mapstructure:"hosts" fill:"host" loosens:"extra" doc:"Host names under which this key store is served; elsewhere it does not exist. Lower case, no ports, no wildcards; takes placeholders. Empty: any."`
	Certificates []CertificateFiles `mapstructure:"certificates" loosens:"never" doc:"Certificates for the host names of this key store, beside those of server.tls."`
	Regions      []string           `mapstructure:"regions" pattern:"^[a-z]{2,4}(-[a-z0-9]{1,20}){1,4}$" loosens:"extra" doc:"AWS regions accepted in the signature. Empty: any."`
	Credentials  []Credential       `mapstructure:"credentials" required:"true" loosens:"added" doc:"Access keys that AWS KMS signs with; two while one replaces the other."`
	Keys         Keys               `mapstructure:"keys" loosens:"below" doc:"The keys that this key store reaches."`
	Policy       Policies           `mapstructure:"policy" loosens:"below" doc:"Who in AWS may use the keys, and for what: see policies.md. Without files there is no policy, and what AWS KMS signs is served."`
	Quota        Quota              `mapstructure:"quota" loosens:"below" doc:"How much of the proxy this key store may use; what is beyond is answered ThrottlingException. GetHealthStatus is free."`
	Integrity    string             `mapstructure:"integrity_check" default:"other" oneof:"other|same" loosens:"to:same" doc:"Which HSM decrypts a new ciphertext again when KMS asks for an integrity value: another one of the same priority, which finds two HSMs with different keys under one label, or the same."`
	Blocked      bool               `mapstructure:"blocked" default:"false" loosens:"to:false" doc:"Answer every request InvalidStateException: nothing of this key store can be encrypted or decrypted."`
	LegacyFormat string             `mapstructure:"legacy_format" loosens:"never" doc:"Reserved; must be empty."`
}

// Policies are the policies of a key store.
type Policies struct {
	Files []string `mapstructure:"files" fill:"path" path:"true" loosens:"policies" doc:"Policy files, and directories of which every *.cedar is one. Takes placeholders. Refused if others than their owner can change them. Empty: no policy."`
	Mode  string   `mapstructure:"mode" default:"enforce" oneof:"enforce|shadow" loosens:"unenforced" doc:"enforce denies what the policies do not permit; shadow serves it anyway and says in the log that it would have been denied."`
}

// Quota limits the requests of a key store.
type Quota struct {
	Rate        int `mapstructure:"requests_per_second" default:"0" min:"0" max:"1000000" loosens:"limit" doc:"Authenticated requests a second, in the long run. AWS KMS itself sends 1800 at most unless asked for more. 0: no limit."`
	Burst       int `mapstructure:"burst" default:"0" min:"0" max:"1000000" loosens:"limit:requests_per_second" doc:"Requests at once beyond that rate. 0: a second's worth."`
	KeyRate     int `mapstructure:"key_requests_per_second" default:"0" min:"0" max:"1000000" loosens:"limit" doc:"The same for each single key. 0: no limit."`
	KeyBurst    int `mapstructure:"key_burst" default:"0" min:"0" max:"1000000" loosens:"limit:key_requests_per_second" doc:"0: a second's worth."`
	MaxInFlight int `mapstructure:"max_in_flight" default:"0" min:"0" max:"100000" loosens:"limit" doc:"Requests of this key store served at once. 0: server.max_in_flight."`
}

// Credential is an access key of a key store.
type Credential struct {
	AccessKeyID     string     `mapstructure:"access_key_id" identity:"true" required:"true" pattern:"^[A-Z2-7]{20,30}$" loosens:"never" doc:"20 to 30 of A-Z and 2-7."`
	SecretAccessKey secret.Ref `mapstructure:"secret_access_key" required:"true" loosens:"never" doc:"43 to 64 of A-Z, a-z, 0-9, / + =."`
}

// Keys says which keys a key store reaches.
type Keys struct {
	Labels   []string `mapstructure:"labels" fill:"label" default:"*" required:"true" loosens:"labels" doc:"Patterns on CKA_LABEL (* and ? stop at a /, [a-z] is a class): keys that match none do not exist for this key store. Takes placeholders."`
	Label    string   `mapstructure:"label" fill:"label" default:"{key_id}" required:"true" loosens:"any" doc:"CKA_LABEL of the key with an external key id: {key_id} is replaced by the id and stands in it once. Takes placeholders."`
	Disabled []string `mapstructure:"disabled" pattern:"^[A-Za-z0-9._-]{1,128}$" loosens:"missing" doc:"External key ids that are answered as DISABLED."`
}

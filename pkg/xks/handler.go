package xks

// Handler: the router. A path that is not exactly one of the API's, below exactly one key store's
// prefix, is answered with 404, and any method but POST with 405. state.go builds the routes.

import (
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-chi/chi/v5"
)

// operation is one row of the table of APIs: everything that differs between the four, except their
// own work.
type operation struct {
	number int    // its place in arrays of operationCount
	name   string // as the specification calls it, for the log
	path   string // below the key store's XksProxyUriPath
	keyed  bool   // the path names a key
	shed   bool   // counts towards MaxInFlight and may be shed (H3: health may not)
	fields []metadataField
	errors map[errorName]bool    // that the API may return (X2, X3, X4)
	check  func(*exchange) error // of fields that only this operation has; may be nil
	run    func(*exchange) (response, error)
}

var (
	commonErrors = []errorName{
		invalidState, authenticationFailed, invalidURIPath, throttling, unsupported,
		dependencyTimeout, internal, validation,
	}
	keyErrors = append(
		commonErrors[:len(commonErrors):len(commonErrors)], accessDenied, keyNotFound,
	)
	encErrors = append(keyErrors[:len(keyErrors):len(keyErrors)], invalidKeyUsage)
	decErrors = append(encErrors[:len(encErrors):len(encErrors)], invalidCiphertext)
)

// operations are the four APIs (requirement U2).
var operations = []*operation{
	{
		number: 0, name: "GetKeyMetadata", path: "/keys/{externalKeyId}/metadata", keyed: true,
		shed: true, fields: []metadataField{awsPrincipalARN, kmsOperation, kmsRequestID},
		errors: setOf(keyErrors), run: (*exchange).getKeyMetadata,
	},
	{
		number: 1, name: "Encrypt", path: "/keys/{externalKeyId}/encrypt", keyed: true, shed: true,
		fields: []metadataField{awsPrincipalARN, kmsKeyARN, kmsOperation, kmsRequestID},
		errors: setOf(encErrors), check: (*exchange).checkEncrypt, run: (*exchange).encrypt,
	},
	{
		number: 2, name: "Decrypt", path: "/keys/{externalKeyId}/decrypt", keyed: true, shed: true,
		fields: []metadataField{awsPrincipalARN, kmsKeyARN, kmsOperation, kmsRequestID},
		errors: setOf(decErrors), check: (*exchange).checkDecrypt, run: (*exchange).decrypt,
	},
	{
		number: 3, name: "GetHealthStatus", path: "/health",
		fields: []metadataField{kmsRequestID, kmsOperation},
		errors: setOf(commonErrors), run: (*exchange).getHealthStatus,
	},
}

// possible returns the outcomes that a request for the operation may have.
func (op *operation) possible() map[errorName]bool {
	set := maps.Clone(op.errors)
	set[outcomes[0]] = true
	return set
}

// withoutStore are the outcomes of requests that reach no key store, because the path or the method
// is unknown.
var withoutStore = map[errorName]bool{invalidURIPath: true, unsupported: true}

func setOf(names []errorName) map[errorName]bool {
	set := map[errorName]bool{}
	for _, name := range names {
		set[name] = true
	}
	return set
}

// Handler serves the API. It is an http.Handler and safe for concurrent use.
type Handler struct {
	state  atomic.Pointer[state]
	blocks atomic.Pointer[Blocks] // nil: nothing is blocked

	all       sharedLoad   // authenticated requests
	bodies    atomic.Int64 // bytes of request bodies in memory
	refused   outcomeCounts
	latencies [operationCount]histogram

	replacing sync.Mutex
}

// NewHandler returns a handler that serves a configuration. Its error is that of Config.Validate.
func NewHandler(c Config) (*Handler, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	h := new(Handler)
	s, err := h.newState(c.withDefaults(), nil)
	if err != nil {
		return nil, err
	}
	h.state.Store(s)
	return h, nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := h.state.Load()
	rawPath, _, _ := strings.Cut(r.RequestURI, "?")
	if !plainPath(rawPath) {
		h.begin(s, w, r).refuse(w, errNoSuchPath)
		return
	}
	if r.Method != http.MethodPost {
		h.refuseMethod(w, r, s, rawPath)
		return
	}
	// chi must match the path as it was sent, not a decoded one.
	r.URL.Path, r.URL.RawPath = rawPath, ""
	s.router.ServeHTTP(w, r)
}

// refuseMethod answers 405 where a POST would be served, and 404 elsewhere.
func (h *Handler) refuseMethod(w http.ResponseWriter, r *http.Request, s *state, path string) {
	route := chi.NewRouteContext()
	if s.router.Match(route, http.MethodPost, path) &&
		s.routes[route.RoutePattern()].servedAt(r.Host) {
		w.Header().Set("Allow", http.MethodPost)
		h.begin(s, w, r).refuse(w, errNotAllowed)
		return
	}
	h.begin(s, w, r).refuse(w, errNoSuchPath)
}

// plainPath reports whether every server reads the path in the same way: it is a path, without
// percent signs, empty segments or dot segments (requirement U5).
func plainPath(path string) bool {
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "%") {
		return false
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

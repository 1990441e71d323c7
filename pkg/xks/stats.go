package xks

// Requests and outcomes, for metrics and for operators.

import (
	"time"
)

// KeyStoreStatus describes one key store as it is served now. Counts are since the program started,
// across reloads. Those of a removed key store are lost.
type KeyStoreStatus struct {
	Name        string
	Owner       string
	URIPath     string         // XksProxyUriPath
	Group       string         // HSM group
	Blocked     bool           // by configuration or kill switch
	InFlight    int            // authenticated requests without GetHealthStatus
	Requests    []RequestCount // for each operation, every possible outcome
	Credentials []CredentialStatus

	PolicyDenials       uint64    // requests that the policies denied
	PolicyShadowDenials uint64    // requests that they would have denied in enforce mode
	LastRequest         time.Time // authenticated; zero if there was none
}

// RequestCount is how often an operation had an outcome: "ok" or an error name of X2.
type RequestCount struct {
	Operation string
	Outcome   string
	Count     uint64
}

// CredentialStatus describes one credential of a key store.
type CredentialStatus struct {
	AccessKeyID string
	LastUsed    time.Time // on this host's clock, to the second; zero: not since the start
}

// OperationStatus is how long the answers to one operation took, from the first byte of the
// request, over all key stores and outcomes. It counts authenticated requests only.
type OperationStatus struct {
	Operation string
	Buckets   []Bucket // cumulative, as in Prometheus
	Count     uint64
	Sum       time.Duration
}

// Bucket counts the answers that took UpTo or less.
type Bucket struct {
	UpTo  time.Duration
	Count uint64
}

// HandlerStatus describes what belongs to no single key store.
type HandlerStatus struct {
	InFlight   int            // authenticated requests without GetHealthStatus
	Refused    []RequestCount // requests that reached no key store, by outcome
	Operations []OperationStatus
}

// KeyStores returns the status of every key store, in the order of the configuration.
func (h *Handler) KeyStores() []KeyStoreStatus {
	s, b := h.state.Load(), h.blocks.Load()
	list := make([]KeyStoreStatus, 0, len(s.keyStores))
	for _, store := range s.keyStores {
		status := store.status()
		status.Blocked = store.blocked || b != nil && b.KeyStores[store.name]
		list = append(list, status)
	}
	return list
}

func (s *keyStore) status() KeyStoreStatus {
	l := s.usage
	status := KeyStoreStatus{
		Name: s.name, Owner: s.owner, URIPath: s.uriPath, Group: s.group.Name(),
		InFlight:      int(s.load.inFlight.Load()),
		PolicyDenials: l.denials.Load(), PolicyShadowDenials: l.shadowDenials.Load(),
	}
	status.Requests = l.counts()
	if last := l.lastRequest.Load(); last > 0 {
		status.LastRequest = time.Unix(last, 0).UTC()
	}
	used := s.verifier.LastUsed()
	for _, id := range s.accessKeyIDs {
		status.Credentials = append(
			status.Credentials, CredentialStatus{AccessKeyID: id, LastUsed: used[id]},
		)
	}
	return status
}

// ZeroKeyStoreStatus returns the status of a key store that is configured and not served yet: all
// counts are 0.
func ZeroKeyStoreStatus(name, owner string) KeyStoreStatus {
	return KeyStoreStatus{Name: name, Owner: owner, Requests: new(usage).counts()}
}

func (l *usage) counts() []RequestCount {
	var list []RequestCount
	for _, op := range operations {
		list = l.requests[op.number].appendTo(list, op.name, op.possible())
	}
	return list
}

// ZeroHandlerStatus returns the status before there is a Handler: all counts are 0.
func ZeroHandlerStatus() HandlerStatus { return new(Handler).Status() }

// Status returns the status of what belongs to no single key store.
func (h *Handler) Status() HandlerStatus {
	status := HandlerStatus{
		InFlight: int(h.all.inFlight.Load()),
		Refused:  h.refused.appendTo(nil, "", withoutStore),
	}
	for _, op := range operations {
		status.Operations = append(status.Operations, h.latencies[op.number].status(op.name))
	}
	return status
}

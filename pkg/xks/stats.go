package xks

// What the key stores have been asked and answered, for metrics and for the operator.

import (
	"time"
)

// KeyStoreStatus is one key store as it is served now. Counts are since the program started,
// reloads included; those of a key store that was removed are gone.
type KeyStoreStatus struct {
	Name        string
	Owner       string
	URIPath     string         // XksProxyUriPath
	Group       string         // HSM group
	Blocked     bool           // by configuration or kill switch
	InFlight    int            // authenticated requests, GetHealthStatus not among them
	Requests    []RequestCount // of every operation and outcome that can be, and that was seen
	Credentials []CredentialStatus

	PolicyDenials       uint64    // requests that the policies denied
	PolicyShadowDenials uint64    // that they would have denied
	LastRequest         time.Time // authenticated; zero: none
}

// RequestCount is how often an operation had an outcome: "ok" or an error name of X2.
type RequestCount struct {
	Operation string
	Outcome   string
	Count     uint64
}

// CredentialStatus is one credential of a key store.
type CredentialStatus struct {
	AccessKeyID string
	LastUsed    time.Time // by our clock, to the second; zero: not since the program started
}

// OperationStatus is how long the answers to one operation took, from the first byte of the
// request, all key stores together, good answers or not. Requests that nobody signed for are not in
// it.
type OperationStatus struct {
	Operation string
	Buckets   []Bucket // cumulative, as Prometheus has them
	Count     uint64
	Sum       time.Duration
}

// Bucket counts the answers that took no longer than UpTo.
type Bucket struct {
	UpTo  time.Duration
	Count uint64
}

// HandlerStatus is what does not belong to one key store.
type HandlerStatus struct {
	InFlight   int            // authenticated requests, GetHealthStatus not among them
	Refused    []RequestCount // requests of no key store, by outcome; of no operation
	Operations []OperationStatus
}

// KeyStores gives the state of every key store, in the order of the configuration.
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
		Name: s.name, Owner: s.owner, URIPath: s.uriPath, Group: s.group.Name(), InFlight: int(s.load.inFlight.Load()),
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

// ZeroKeyStoreStatus gives the counts of a key store that is configured and not served yet: all are
// 0.
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

// ZeroHandlerStatus gives the status before there is a Handler: all counts are 0.
func ZeroHandlerStatus() HandlerStatus { return new(Handler).Status() }

// Status gives the state of what does not belong to one key store.
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

package xks

// What the key stores have been asked and answered, for metrics and for the operator.

import "time"

// KeyStoreStatus is one key store as it is served now. Counts are since the program started, reloads included; those of a
// key store that was removed are gone.
type KeyStoreStatus struct {
	Name        string
	Owner       string
	URIPath     string // XksProxyUriPath
	Group       string // HSM group
	Blocked     bool   // by configuration or kill switch
	InFlight    int
	Requests    []RequestCount // of every operation and outcome that was seen
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

// OperationStatus is how long the answers to one operation took, from the first byte of the request, all key stores together.
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
	InFlight   int            // authenticated requests
	Refused    []RequestCount // requests of no key store, by outcome
	Operations []OperationStatus
}

// KeyStores gives the state of every key store, in the order of the configuration.
func (h *Handler) KeyStores() []KeyStoreStatus { return nil }

// Status gives the state of what does not belong to one key store.
func (h *Handler) Status() HandlerStatus { return HandlerStatus{} }

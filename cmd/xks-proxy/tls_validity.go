package main

// How long the certificates in use are good for: for the log, for `xks-proxy status`, for metrics (requirement C1).

import (
	"context"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const validityInterval = 24 * time.Hour

// What a certificate is for.
const (
	useServer   = "server"
	useClientCA = "client_ca" // it signs client certificates
)

// certificateStatus is one certificate in use.
type certificateStatus struct {
	Use       string    `json:"use"`
	Names     []string  `json:"names"`              // DNS names and addresses; the subject of a CA
	KeyStore  string    `json:"keyStore,omitempty"` // "" for those of the server, and CAs
	File      string    `json:"file"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	Problem   string    `json:"problem,omitempty"` // "" while enough time is left
}

// certificates lists all in use, the default first, CAs of clients last.
func (t *tlsHolder) certificates() []certificateStatus {
	current := t.current.Load()
	if current == nil {
		return nil
	}
	all := make([]certificateStatus, 0, len(current.certificates))
	for _, c := range current.certificates {
		problem, _ := validity(c.Leaf, t.now())
		all = append(all, certificateStatus{
			Use: useServer, Names: allNames(c.Leaf), KeyStore: c.keyStore, File: c.file,
			NotBefore: c.Leaf.NotBefore, NotAfter: c.Leaf.NotAfter, Problem: problem,
		})
	}
	for _, ca := range current.clientCAs {
		problem, _ := validity(ca.Certificate, t.now())
		all = append(all, certificateStatus{
			Use: useClientCA, Names: []string{ca.name()}, File: ca.file,
			NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, Problem: problem,
		})
	}
	return all
}

var validityLevels = map[urgency]zapcore.Level{endsSoon: zap.WarnLevel, endsNow: zap.ErrorLevel, unusable: zap.ErrorLevel}

// watchValidity logs what is wrong with the certificates whenever others are put into effect, and
// every day, until ctx ends.
func (t *tlsHolder) watchValidity(ctx context.Context) {
	day := time.NewTicker(validityInterval)
	defer day.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.changed: // by the first use as well
		case <-day.C:
		}
		t.logValidity()
	}
}

// logFirstValidity is for the start: watchValidity does not repeat it.
func (t *tlsHolder) logFirstValidity() {
	select {
	case <-t.changed:
	default:
	}
	t.logValidity()
}

// logValidity logs what is wrong with the certificates now.
func (t *tlsHolder) logValidity() {
	current := t.current.Load()
	for _, ca := range current.clientCAs {
		says, how := validity(ca.Certificate, t.now())
		if how != notUrgent {
			t.log.Warn("the CA of client certificates "+says, zap.String("name", ca.name()), zap.String("file", ca.file))
		}
	}
	for _, c := range current.certificates {
		says, how := validity(c.Leaf, t.now())
		if how == notUrgent {
			continue
		}
		t.log.Log(validityLevels[how], "the certificate "+says, zap.String("key_store", c.keyStore),
			zap.String("file", c.file), zap.String("names", namesOf(c.Leaf)))
	}
}

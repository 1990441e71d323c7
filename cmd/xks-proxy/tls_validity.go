package main

// How long the certificates in force are good for: for the log, for `xks-proxy status`, for metrics (requirement C1).

import (
	"context"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const validityInterval = 24 * time.Hour

// certificateStatus is one certificate in force.
type certificateStatus struct {
	Names     []string  `json:"names"`              // DNS names and addresses
	KeyStore  string    `json:"keyStore,omitempty"` // "" for those of the server
	File      string    `json:"file"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	Problem   string    `json:"problem,omitempty"` // "" while more than 30 days are left
}

// certificates tells of all in force, the default first.
func (t *tlsHolder) certificates() []certificateStatus {
	current := t.current.Load()
	if current == nil {
		return nil
	}
	all := make([]certificateStatus, 0, len(current.certificates))
	for _, c := range current.certificates {
		problem, _ := validity(c.Leaf, t.now())
		all = append(all, certificateStatus{
			Names: allNames(c.Leaf), KeyStore: c.keyStore, File: c.file,
			NotBefore: c.Leaf.NotBefore, NotAfter: c.Leaf.NotAfter, Problem: problem,
		})
	}
	return all
}

var validityLevels = map[urgency]zapcore.Level{endsSoon: zap.WarnLevel, endsNow: zap.ErrorLevel, unusable: zap.ErrorLevel}

// watchValidity logs what is wrong with the certificates whenever others are put in force, and
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
	for _, c := range t.current.Load().certificates {
		says, how := validity(c.Leaf, t.now())
		if how == notUrgent {
			continue
		}
		t.log.Log(validityLevels[how], "the certificate "+says, zap.String("key_store", c.keyStore),
			zap.String("file", c.file), zap.String("names", namesOf(c.Leaf)))
	}
}

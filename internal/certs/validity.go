package certs

// How long the certificates in use remain valid, for the log, `xks-proxy status` and metrics
// (requirement C1).

import (
	"context"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// ValidityInterval is the time between two log lines about a certificate that expires soon.
const ValidityInterval = 24 * time.Hour

// What a certificate is for.
const (
	UseServer   = "server"
	UseClientCA = "client_ca" // it signs client certificates
)

// Status is one certificate in use.
type Status struct {
	Use       string    `json:"use"`                // UseServer or UseClientCA
	Names     []string  `json:"names"`              // DNS names and addresses; the subject of a CA
	KeyStore  string    `json:"keyStore,omitempty"` // "" for those of the server, and CAs
	File      string    `json:"file"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	Problem   string    `json:"problem,omitempty"` // "" while enough time is left
}

// Certificates lists the certificates in use: the default first, the CAs of clients last.
func (t *Holder) Certificates() []Status {
	current := t.Current.Load()
	if current == nil {
		return nil
	}
	all := make([]Status, 0, len(current.Certificates))
	for _, c := range current.Certificates {
		problem, _ := validity(c.Leaf, t.now())
		all = append(all, Status{
			Use: UseServer, Names: AllNames(c.Leaf), KeyStore: c.KeyStore, File: c.file,
			NotBefore: c.Leaf.NotBefore, NotAfter: c.Leaf.NotAfter, Problem: problem,
		})
	}
	for _, ca := range current.clientCAs {
		problem, _ := validity(ca.Certificate, t.now())
		all = append(all, Status{
			Use: UseClientCA, Names: []string{ca.name()}, File: ca.file,
			NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, Problem: problem,
		})
	}
	return all
}

var validityLevels = map[urgency]zapcore.Level{
	EndsSoon: zap.WarnLevel,
	EndsNow:  zap.ErrorLevel,
	Unusable: zap.ErrorLevel,
}

// WatchValidity logs which certificates expire soon or are not valid, after each Use and every
// ValidityInterval, until ctx ends.
func (t *Holder) WatchValidity(ctx context.Context) {
	day := time.NewTicker(ValidityInterval)
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

// LogFirstValidity does the same once, at the start. WatchValidity does not repeat it.
func (t *Holder) LogFirstValidity() {
	select {
	case <-t.changed:
	default:
	}
	t.logValidity()
}

// logValidity logs which certificates expire soon or are not valid.
func (t *Holder) logValidity() {
	current := t.Current.Load()
	for _, ca := range current.clientCAs {
		says, how := validity(ca.Certificate, t.now())
		if how != NotUrgent {
			t.log.Warn(
				"the CA of client certificates "+says, zap.String("name", ca.name()),
				zap.String("file", ca.file),
			)
		}
	}
	for _, c := range current.Certificates {
		says, how := validity(c.Leaf, t.now())
		if how == NotUrgent {
			continue
		}
		t.log.Log(validityLevels[how], "the certificate "+says, zap.String("key_store", c.KeyStore),
			zap.String("file", c.file), zap.String("names", NamesOf(c.Leaf)))
	}
}

// Urgency returns how soon an operator has to replace the certificate.
func (c *Status) Urgency(now time.Time) urgency {
	return urgencyOf(c.NotBefore, c.NotAfter, now)
}

// FirstName returns the first of the names, or "" if there are none.
func (c Status) FirstName() string {
	if len(c.Names) == 0 {
		return ""
	}
	return c.Names[0]
}

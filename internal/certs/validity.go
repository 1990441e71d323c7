package certs

// How long the certificates in use are good for: for the log, for `xks-proxy status`, for metrics
// (requirement C1).

import (
	"context"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const ValidityInterval = 24 * time.Hour

// What a certificate is for.
const (
	UseServer   = "server"
	UseClientCA = "client_ca" // it signs client certificates
)

// Status is one certificate in use.
type Status struct {
	Use       string    `json:"use"`
	Names     []string  `json:"names"`              // DNS names and addresses; the subject of a CA
	KeyStore  string    `json:"keyStore,omitempty"` // "" for those of the server, and CAs
	File      string    `json:"file"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	Problem   string    `json:"problem,omitempty"` // "" while enough time is left
}

// Certificates lists all in use, the default first, CAs of clients last.
func (t *Holder) Certificates() []Status {
	current := t.Current.Load()
	if current == nil {
		return nil
	}
	all := make([]Status, 0, len(current.Certificates))
	for _, c := range current.Certificates {
		problem, _ := validity(c.Leaf, t.Now())
		all = append(all, Status{
			Use: UseServer, Names: AllNames(c.Leaf), KeyStore: c.KeyStore, File: c.file,
			NotBefore: c.Leaf.NotBefore, NotAfter: c.Leaf.NotAfter, Problem: problem,
		})
	}
	for _, ca := range current.clientCAs {
		problem, _ := validity(ca.Certificate, t.Now())
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

// WatchValidity logs what is wrong with the certificates whenever others are put into effect, and
// every day, until ctx ends.
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

// LogFirstValidity is for the start: watchValidity does not repeat it.
func (t *Holder) LogFirstValidity() {
	select {
	case <-t.changed:
	default:
	}
	t.logValidity()
}

// logValidity logs what is wrong with the certificates now.
func (t *Holder) logValidity() {
	current := t.Current.Load()
	for _, ca := range current.clientCAs {
		says, how := validity(ca.Certificate, t.Now())
		if how != NotUrgent {
			t.log.Warn(
				"the CA of client certificates "+says, zap.String("name", ca.name()),
				zap.String("file", ca.file),
			)
		}
	}
	for _, c := range current.Certificates {
		says, how := validity(c.Leaf, t.Now())
		if how == NotUrgent {
			continue
		}
		t.log.Log(validityLevels[how], "the certificate "+says, zap.String("key_store", c.KeyStore),
			zap.String("file", c.file), zap.String("names", NamesOf(c.Leaf)))
	}
}

func (c *Status) Urgency(now time.Time) urgency {
	return urgencyOf(c.NotBefore, c.NotAfter, now)
}

// FirstName stands for all of a certificate's.
func (c Status) FirstName() string {
	if len(c.Names) == 0 {
		return ""
	}
	return c.Names[0]
}

package main

// What a reload may take away of the protection (config_loosens.go): who has to accept it, what the
// log says, what is counted.

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"xks-proxy/internal/text"

	"go.uber.org/zap"
)

// confirms tells whether an operator has to accept what loosens.
func (c reloadConfig) confirms() bool { return c.Loosening == "confirm" }

// acceptance is what an order to reload accepts: nothing, anything, or what was shown with this
// digest.
type acceptance string

const (
	acceptNothing acceptance = ""
	acceptAny     acceptance = "any"
)

// maxShownLoosenings bounds what an error and the log name; the answers in JSON have all.
const maxShownLoosenings = 20

// looseningRefused is the error of a reload that nobody has accepted. asked is another digest, if
// that was accepted instead.
type looseningRefused struct {
	loosens []loosening
	digest  string
	asked   acceptance
}

func (e *looseningRefused) Error() string {
	if e.asked != acceptNothing {
		return fmt.Sprintf("the files have changed since %.40q was shown: nothing was changed; "+
			"see what changes now: xks-proxy config diff", e.asked)
	}
	var b strings.Builder
	b.WriteString("this change may let in what is refused now, and reload.loosening is confirm:")
	for _, one := range shownLoosenings(e.loosens) {
		b.WriteString("\n  " + one)
	}
	b.WriteString("\nNothing was changed. Correct the files, or accept the change: ")
	b.WriteString(acceptCommand(e.digest))
	return b.String()
}

func acceptCommand(digest string) string {
	return "xks-proxy reload --accept-loosening=" + digest
}

func shownLoosenings(all []loosening) []string {
	var lines []string
	for _, one := range all[:min(len(all), maxShownLoosenings)] {
		lines = append(lines, one.String())
	}
	if more := len(all) - maxShownLoosenings; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more: see xks-proxy config diff --json", more))
	}
	return lines
}

// refuses is an error where what was read loosens and may not. A digest accepts what it is of, also
// where nobody has to.
func (r *reloadReading) refuses(accept acceptance) error {
	switch {
	case len(r.loosens) == 0, accept == acceptAny, accept == acceptance(r.digest):
		return nil
	case accept != acceptNothing, r.confirm:
		return &looseningRefused{r.loosens, r.digest, accept}
	}
	return nil
}

// digestOf names what a reading changes, as it is shown, and everything that decides who gets in:
// the whole configuration, since what is added is shown by its name alone, the access keys, the
// policies and the CAs. Two with one digest change the same. PINs are not in it: they let nobody in,
// and can be guessed from a digest.
func digestOf(r *reloadReading) string {
	h := sha256.New()
	for _, what := range []any{r.changes, r.loosens, r.config} {
		text, _ := json.Marshal(what) // of texts and numbers
		fmt.Fprintf(h, "%s\n", text)
	}
	for _, name := range slices.Sorted(maps.Keys(r.secrets.AccessKeys)) {
		for _, key := range r.secrets.AccessKeys[name] {
			fmt.Fprintf(h, "access key %q %q %q\n", name, key.ID, key.Secret.Reveal())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.config.policies)) {
		if policies := r.config.policies[name]; policies != nil {
			fmt.Fprintf(h, "policies %q %x\n", name, policies.Digest())
		}
	}
	for _, address := range slices.Sorted(maps.Keys(r.tls.rules)) {
		rule := r.tls.rules[address]
		if rule == nil {
			continue
		}
		for _, ca := range rule.cas {
			fmt.Fprintf(h, "ca %q %x\n", address, ca.Raw)
		}
	}
	const shown = 8 // bytes
	return hex.EncodeToString(h.Sum(nil)[:shown])
}

// looseningState is what reloads have loosened, for status and metrics.
type looseningState struct {
	// What the last reload loosened that loosened something, and whether an operator accepted that,
	// then or since.
	Loosens  []loosening `json:"loosens"`
	At       time.Time   `json:"at,omitzero"`
	By       string      `json:"by,omitempty"`
	Accepted bool        `json:"accepted,omitempty"`

	// What the last try would have loosened and was refused for.
	Refused []loosening `json:"refused,omitempty"`
	Digest  string      `json:"refusedDigest,omitempty"`

	taken map[looseningCount]int
}

// looseningCount is one line of the metric.
type looseningCount struct {
	setting  string
	accepted bool
}

// note takes what a try came to. An operator who accepts has seen what was loosened before, too.
func (s *looseningState) note(try reloadTry, answer *reloadAnswer, err error) {
	s.Refused, s.Digest = nil, ""
	var refused *looseningRefused
	if errors.As(err, &refused) {
		s.Refused, s.Digest = refused.loosens, refused.digest
	}
	if err != nil {
		return
	}
	accepted := try.accept != acceptNothing
	s.Accepted = s.Accepted || accepted
	if len(answer.Loosens) == 0 {
		return
	}
	s.Loosens, s.At, s.By, s.Accepted = answer.Loosens, try.began, try.by, accepted
	if s.taken == nil {
		s.taken = map[looseningCount]int{}
	}
	for _, one := range answer.Loosens {
		s.taken[looseningCount{one.Setting, accepted}]++
	}
}

// unacceptedFor is how long a change that nobody accepted needs attention.
const unacceptedFor = 24 * time.Hour

// attention is what an operator should look at.
func (s looseningState) attention(now time.Time) []attention {
	var all []attention
	if len(s.Refused) > 0 {
		all = append(all, attention{severityWarning, fmt.Sprintf("The files hold changes that may let in what is refused now (%s); "+
			"they were refused, and the configuration before them is in use. "+
			"Correct the files, or accept the changes: %s",
			someLoosenings(s.Refused), acceptCommand(s.Digest))})
	}
	if len(s.Loosens) > 0 && !s.Accepted && now.Sub(s.At) < unacceptedFor {
		all = append(all, attention{severityWarning, fmt.Sprintf("The reload %s ago by %s may let in what was refused before: %s. "+
			"Correct the files, or say that you meant it: xks-proxy reload --accept-loosening",
			text.Duration(now.Sub(s.At)), s.By, someLoosenings(s.Loosens))})
	}
	return all
}

// fact is the line of status.
func (s looseningState) fact(now time.Time) string {
	accepted := "not accepted"
	if s.Accepted {
		accepted = "accepted"
	}
	return fmt.Sprintf("%s, %s ago by %s, %s: %s", text.Plural(len(s.Loosens), "change"),
		text.Duration(now.Sub(s.At)), s.By, accepted, someLoosenings(s.Loosens))
}

// someLoosenings are the first of them in one line.
func someLoosenings(all []loosening) string {
	const shown = 3
	var texts []string
	for _, one := range all[:min(len(all), shown)] {
		texts = append(texts, one.String())
	}
	if more := len(all) - shown; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, "; ")
}

// counts has a line for every key that can loosen, from the start.
func (s looseningState) counts() []oneValue {
	var values []oneValue
	for _, setting := range looseningSettings {
		for _, accepted := range []bool{false, true} {
			count := s.taken[looseningCount{setting, accepted}]
			values = append(values, sample(float64(count), setting, fmt.Sprint(accepted)))
		}
	}
	return values
}

// looseningSettings are the keys that can loosen, without the names of elements.
var looseningSettings []string

func init() { // the rules are made then, too
	var walk func(s *setting, path string)
	walk = func(s *setting, path string) {
		for _, f := range s.Fields {
			at := joinPath(path, f.Name)
			if f.Restart || f.Loosens == loosensNever {
				continue
			}
			if f.Loosens != loosensBelow {
				looseningSettings = append(looseningSettings, at)
			}
			if f.Kind == section {
				walk(f, at)
			}
		}
	}
	walk(schema, "")
}

// logLoosenings writes a line for each, of a bounded number.
func logLoosenings(log *zap.Logger, try reloadTry, answer *reloadAnswer) {
	for _, one := range answer.Loosens[:min(len(answer.Loosens), maxLoggedChanges)] {
		log.Warn("the reload may let in what was refused before",
			zap.String("by", try.by), zap.Int("generation", answer.Generation),
			zap.Bool("accepted", try.accept != acceptNothing),
			zap.String("key", one.Key), zap.String("loosens", one.What))
	}
	if more := len(answer.Loosens) - maxLoggedChanges; more > 0 {
		log.Warn("the reload may let in more of what was refused before: see xks-proxy status --json",
			zap.String("by", try.by), zap.Int("generation", answer.Generation),
			zap.Int("more", more))
	}
}

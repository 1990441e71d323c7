package server

// What a reload may take away of the protection (package loosening): who has to accept it, what the
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

	"go.uber.org/zap"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/loosening"
)

// looseningRefused is the error of a reload that nobody has accepted. asked is another digest, if
// that was accepted instead.
type looseningRefused struct {
	loosens []loosening.Loosening
	digest  string
	asked   api.Acceptance
}

func (e *looseningRefused) Error() string {
	if e.asked != api.AcceptNothing {
		return fmt.Sprintf("the files have changed since %.40q was shown: nothing was changed; "+
			"see what changes now: xks-proxy config diff", e.asked)
	}
	var b strings.Builder
	b.WriteString("this change may let in what is refused now, and reload.loosening is confirm:")
	for _, one := range api.ShownLoosenings(e.loosens) {
		b.WriteString("\n  " + one)
	}
	b.WriteString("\nNothing was changed. Correct the files, or accept the change: ")
	b.WriteString(api.AcceptCommand(e.digest))
	return b.String()
}

// refuses returns an error if the new configuration loosens protection and nobody accepted that. A
// digest is compared even if the configuration does not ask for acceptance.
func (r *reloadReading) refuses(accept api.Acceptance) error {
	switch {
	case len(r.loosens) == 0, accept == api.AcceptAny, accept == api.Acceptance(r.digest):
		return nil
	case accept != api.AcceptNothing, r.confirm:
		return &looseningRefused{r.loosens, r.digest, accept}
	}
	return nil
}

// digestOf covers the changes as they are shown and everything that decides who gets in: the whole
// configuration, because additions are shown by name only, the access keys, the policies and the
// CAs. Two readings with one digest make the same changes. PINs are left out: they let nobody in
// and could be guessed from a digest.
func digestOf(r *reloadReading) string {
	h := sha256.New()
	for _, what := range []any{r.changes, r.loosens, r.config} {
		text, err := json.Marshal(what)
		if err != nil {
			panic(err) // it consists of texts and numbers
		}
		fmt.Fprintf(h, "%s\n", text)
	}
	for _, name := range slices.Sorted(maps.Keys(r.secrets.AccessKeys)) {
		for _, key := range r.secrets.AccessKeys[name] {
			fmt.Fprintf(h, "access key %q %q %q\n", name, key.ID, key.Secret.Reveal())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.config.Policies)) {
		if policies := r.config.Policies[name]; policies != nil {
			fmt.Fprintf(h, "policies %q %x\n", name, policies.Digest())
		}
	}
	for _, address := range slices.Sorted(maps.Keys(r.tls.Rules)) {
		rule := r.tls.Rules[address]
		if rule == nil {
			continue
		}
		for _, ca := range rule.CAs {
			fmt.Fprintf(h, "ca %q %x\n", address, ca.Raw)
		}
	}
	const shown = 8 // bytes
	return hex.EncodeToString(h.Sum(nil)[:shown])
}

// logLoosenings writes a line for each, of a bounded number.
func logLoosenings(log *zap.Logger, try reloadTry, answer *api.ReloadAnswer) {
	for _, one := range answer.Loosens[:min(len(answer.Loosens), maxLoggedChanges)] {
		log.Warn("the reload may let in what was refused before",
			zap.String("by", try.by), zap.Int("generation", answer.Generation),
			zap.Bool("accepted", try.accept != api.AcceptNothing),
			zap.String("key", one.Key), zap.String("loosens", one.What))
	}
	if more := len(answer.Loosens) - maxLoggedChanges; more > 0 {
		log.Warn(
			"the reload may let in more of what was refused before: see xks-proxy status --json",
			zap.String("by", try.by),
			zap.Int("generation", answer.Generation),
			zap.Int("more", more),
		)
	}
}

// noteLoosening takes what a try came to. An operator who accepts has seen what was loosened
// before, too.
func noteLoosening(s *api.LooseningState, try reloadTry, answer *api.ReloadAnswer, err error) {
	s.Refused, s.Digest = nil, ""
	var refused *looseningRefused
	if errors.As(err, &refused) {
		s.Refused, s.Digest = refused.loosens, refused.digest
	}
	if err != nil {
		return
	}
	accepted := try.accept != api.AcceptNothing
	s.Accepted = s.Accepted || accepted
	if len(answer.Loosens) == 0 {
		return
	}
	s.Loosens, s.At, s.By, s.Accepted = answer.Loosens, try.began, try.by, accepted
	if s.Taken == nil {
		s.Taken = map[api.LooseningCount]int{}
	}
	for _, one := range answer.Loosens {
		s.Taken[api.LooseningCount{Setting: one.Setting, Accepted: accepted}]++
	}
}

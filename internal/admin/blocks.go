package admin

// The orders of the kill switch over the admin socket: block, unblock, and the list of what is
// blocked. Each order is a warning in the log, with who gave it and why.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/config"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/killswitch"
	"xks-proxy/internal/peer"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/xks"
)

// The kinds of refusals of these orders.
var (
	ErrUnknownKeyStore = errors.New("no such key store")
	ErrStaysBlocked    = errors.New("it stays blocked")
)

const (
	shownBlocks = 5 // in a sentence
)

// BlockOrder is one call that blocks or unblocks.
type BlockOrder struct {
	killswitch.BlockTarget
	Reason string
	Force  bool // block a key store that does not exist yet
	By     peer.Peer
}

// Blocks lists what operators and the configuration have blocked.
func (a *Service) Blocks() api.BlockList {
	blocks, unsaved := a.Kill.Look()
	l := api.BlockList{Blocks: append([]killswitch.Block{}, blocks...), Survive: a.Kill.Survives()}
	if unsaved != nil {
		l.Unsaved = unsaved.Error()
	}
	c := a.Running()
	for i, k := range c.KeyStores {
		if k.Blocked {
			l.Configured = append(l.Configured, api.ConfiguredBlock{
				KeyStore: k.Name, Place: config.PlaceOf(c, fmt.Sprintf("key_stores[%d].blocked", i)),
			})
		}
	}
	return l
}

// Block blocks: when it answers, the next request is refused.
func (a *Service) Block(ctx context.Context, o BlockOrder) (string, error) {
	message, err := a.blockTarget(ctx, o)
	return a.switched("block", o, message, err)
}

// Unblock removes a block. It is an error if the target stays blocked for another reason.
func (a *Service) Unblock(ctx context.Context, o BlockOrder) (string, error) {
	message, err := a.unblockTarget(ctx, o)
	return a.switched("unblock", o, message, err)
}

// switched logs who gave an order to the kill switch, why, and what came of it.
func (a *Service) switched(name string, o BlockOrder, message string, err error) (string, error) {
	a.Log.Warn("admin", zap.String("order", name), zap.Stringer("what", o.BlockTarget),
		zap.String("reason", o.Reason), zap.Bool("force", o.Force), zap.Inline(o.By),
		zap.String("result", resultOf(err)))
	return message, err
}

func (a *Service) blockTarget(ctx context.Context, o BlockOrder) (string, error) {
	if o.KeyStore != "" && !o.Force && !slices.Contains(a.keyStoreNames(), o.KeyStore) {
		return "", fleet.Refuse(
			ErrUnknownKeyStore,
			"there is no key store %q; %s Nothing was blocked; --force blocks it anyway, for "+
				"when a reload adds it",
			o.KeyStore,
			text.Sentence(text.DidYouMean(o.KeyStore, a.keyStoreNames())),
		)
	}
	by := o.By.String()
	stands, before, err := a.Kill.Add(ctx, killswitch.Block{
		BlockTarget: o.BlockTarget, Reason: o.Reason, By: by[:min(len(by), killswitch.MaxBlockedBy)], UID: o.By.UID, Since: time.Now().UTC().Truncate(time.Second),
	})
	if errors.Is(err, killswitch.ErrUnsaved) {
		return "", fmt.Errorf(
			"the %s IS BLOCKED now, but %w; fix that, then give the same command again to check",
			o.BlockTarget,
			err,
		)
	}
	if err != nil {
		return "", err
	}
	message := blockedMessage(o.BlockTarget)
	if before {
		message = fmt.Sprintf(
			"The %s was blocked already, %s. That block stays in effect.",
			o.BlockTarget,
			describe(stands),
		)
	}
	for _, note := range a.blockNotes(o) {
		message += "\n" + note
	}
	return message, nil
}

func blockedMessage(t killswitch.BlockTarget) string {
	switch {
	case t.Key == "":
		return fmt.Sprintf(
			"The %s is blocked: from now on all its requests are answered InvalidStateException.",
			t,
		)
	case t.KeyStore == "":
		return fmt.Sprintf(
			"The %s is blocked in every key store: from now on Encrypt and Decrypt are answered "+
				"InvalidStateException.",
			t,
		)
	default:
		return fmt.Sprintf(
			"The %s is blocked: from now on Encrypt and Decrypt are answered "+
				"InvalidStateException.",
			t,
		)
	}
}

// describe says who made a block, when and why.
func describe(b killswitch.Block) string {
	text := fmt.Sprintf("by %s at %s", b.By, b.Since.Format(time.RFC3339))
	if b.Reason != "" {
		text += fmt.Sprintf(" (%s)", b.Reason)
	}
	return text
}

// blockNotes are remarks for the operator who blocks.
func (a *Service) blockNotes(o BlockOrder) []string {
	var notes []string
	if o.KeyStore != "" && !slices.Contains(a.keyStoreNames(), o.KeyStore) {
		notes = append(
			notes,
			"Note: this key store does not exist now; it will be blocked when a reload adds it.",
		)
	}
	if label := a.labelOf(o.BlockTarget); label != "" {
		switch {
		case a.starting():
			notes = append(
				notes,
				"Note: the proxy is starting; whether an HSM has such a key is not known yet.",
			)
		case !a.listed(label):
			notes = append(
				notes,
				fmt.Sprintf(
					"Note: no HSM lists a key of the label %q now; it is blocked anyway.",
					label,
				),
			)
		}
	}
	if !a.Kill.Survives() {
		notes = append(
			notes,
			`WARNING: this block will NOT survive a restart of the proxy, because state_directory is "". Block it in the configuration too.`,
		)
	}
	return notes
}

func (a *Service) unblockTarget(ctx context.Context, o BlockOrder) (string, error) {
	removed, err := a.Kill.Remove(ctx, o.BlockTarget)
	if err != nil &&
		!errors.Is(err, killswitch.ErrBlockedAgain) { // of that, blockedBesides says more
		return "", a.stillBlocked(o, err)
	}
	done := fmt.Sprintf("The %s had no block of its own", o.BlockTarget)
	if len(removed) > 0 {
		done = fmt.Sprintf(
			"The block of the %s %s was removed",
			o.BlockTarget,
			describe(removed[0]),
		)
	}
	if rest := a.blockedBesides(o.BlockTarget); len(rest) > 0 {
		return "", fleet.Refuse(
			ErrStaysBlocked,
			"%s; it stays blocked: %s",
			done,
			strings.Join(rest, "; "),
		)
	}
	names := a.keyStoreNames()
	switch {
	case len(removed) > 0:
		return done + ".", nil
	case o.KeyStore != "" && !slices.Contains(names, o.KeyStore):
		return "", fleet.Refuse(
			ErrUnknownKeyStore,
			"there is no key store %q, and no block of that name; %s",
			o.KeyStore,
			text.DidYouMean(o.KeyStore, names),
		)
	default:
		return fmt.Sprintf(
			"The %s is not blocked; nothing was changed.%s",
			o.BlockTarget,
			a.blockedInstead(),
		), nil
	}
}

// stillBlocked says why an unblock was not carried out.
func (a *Service) stillBlocked(o BlockOrder, err error) error {
	var renamed *killswitch.RenamedError
	switch {
	case errors.As(err, &renamed):
		now := o.BlockTarget
		now.KeyStore = renamed.Now
		return fleet.Refuse(ErrUnknownKeyStore, "%v; nothing was changed: unblock the %s", err, now)
	case errors.Is(err, peer.ErrGone):
		return err
	}
	return fleet.Refuse(
		ErrStaysBlocked,
		"the %s stays blocked, because its block cannot be taken out of the file: %v; fix that "+
			"and give the same command again",
		o.BlockTarget,
		err,
	)
}

// blockedBesides lists what still blocks a target whose own block, if any, has been removed.
func (a *Service) blockedBesides(t killswitch.BlockTarget) []string {
	var rest []string
	if b, again := a.Kill.Blocking(t); again {
		rest = append(rest, fmt.Sprintf("it was blocked again meanwhile, %s", describe(b)))
	}
	if t.KeyStore != "" && t.Key != "" {
		for _, wider := range []killswitch.BlockTarget{{KeyStore: t.KeyStore}, {Key: a.labelOf(t)}} {
			if b, found := a.Kill.Blocking(wider); found {
				rest = append(rest, fmt.Sprintf("the %s is blocked %s", wider, describe(b)))
			}
		}
	}
	c := a.Running()
	for i, k := range c.KeyStores {
		if k.Name != t.KeyStore {
			continue
		}
		if k.Blocked {
			rest = append(
				rest,
				fmt.Sprintf(
					"the configuration has blocked: true at %s; change it there and reload",
					config.PlaceOf(c, fmt.Sprintf("key_stores[%d].blocked", i)),
				),
			)
		}
		if t.Key != "" && slices.Contains(k.Keys.Disabled, t.Key) {
			rest = append(
				rest,
				fmt.Sprintf(
					"the configuration disables the key at %s; change it there and reload",
					config.PlaceOf(c, fmt.Sprintf("key_stores[%d].keys.disabled", i)),
				),
			)
		}
	}
	return rest
}

// blockedInstead helps an operator who named the wrong target.
func (a *Service) blockedInstead() string {
	blocks, _ := a.Kill.List()
	if len(blocks) == 0 {
		return ""
	}
	var names []string
	for _, b := range blocks[:min(len(blocks), shownBlocks)] {
		names = append(names, b.String())
	}
	if more := len(blocks) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more (xks-proxy block list)", more))
	}
	return " Blocked are: " + strings.Join(names, "; ") + "."
}

func (a *Service) keyStoreNames() []string {
	var names []string
	for _, k := range a.Running().KeyStores {
		names = append(names, k.Name)
	}
	return names
}

// labelOf is the CKA_LABEL of the key that a block is about; "" if it is not known, or if it is
// about a key store.
func (a *Service) labelOf(t killswitch.BlockTarget) string {
	if t.Key == "" || t.KeyStore == "" {
		return t.Key
	}
	for _, k := range a.Running().KeyStores {
		if k.Name == t.KeyStore {
			return strings.Replace(k.Keys.Label, xks.KeyIDPlaceholder, t.Key, 1)
		}
	}
	return ""
}

// listed reports whether an HSM has shown a key of that label.
func (a *Service) listed(label string) bool {
	for _, g := range a.Groups() {
		if g.HasKey(label) {
			return true
		}
	}
	return false
}

package group

// Cross-checks: whether the HSMs of a group hold the same key material. In the background one HSM
// encrypts a canary under each key version, and every other one decrypts it (requirement R4).
// Attributes cannot show that: a check value may be missing or belong to another mechanism.
// catalogue.CrossChecks chooses the next version.

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/decide"
)

const (
	crossCheckTimeout      = 2 * time.Second // of one comparison
	crossCheckIdle         = time.Second     // between two looks for something to do
	crossCheckSaveInterval = time.Second     // at least between two writes of what was found
	catchUpRate            = 100             // comparisons a second while an HSM waits for them
)

var (
	canaryAAD       = []byte("xks-proxy parity")
	canaryPlaintext = []byte("xks-proxy parity")
)

// crossCheckLoop compares one version after the other until the group ends.
//
// A key object that was destroyed and created again is compared at once if its attributes or its
// CKA_ID differ, and otherwise when its turn comes.
func (g *Group) crossCheckLoop(ctx context.Context) {
	if len(g.members) < 2 {
		return
	}
	defer g.saveParity()
	usual := rate.NewLimiter(rate.Limit(g.config.ParityRate), 1)
	catchUp := rate.NewLimiter(rate.Limit(max(g.config.ParityRate, catchUpRate)), 1)
	var remembered time.Time
	for ctx.Err() == nil {
		limited := g.anyLimited()
		if !limited && !g.crossCheckEnabled() {
			pause(ctx, crossCheckIdle)
			continue
		}
		limit := usual
		if _, pending := g.crossCheckStats(); limited && pending > 0 || !g.crossCheckEnabled() {
			limit = catchUp // without comparisons the HSM would never serve these keys
		}
		err := limit.Wait(ctx)
		if err != nil {
			return
		}
		ref, found := g.nextCrossCheck()
		if found {
			g.crossCheck(ctx, ref)
		}
		if !found || time.Since(remembered) >= crossCheckSaveInterval {
			g.saveParity()
			g.releaseAllTrust()
			remembered = time.Now()
		}
		if !found {
			pause(ctx, crossCheckPause(limited))
		}
	}
}

// crossCheckPause returns how long to wait when there is nothing to compare.
func crossCheckPause(limited bool) time.Duration {
	if limited {
		return time.Second / catchUpRate
	}
	return crossCheckIdle
}

// crossCheckEnabled reports whether this group compares key material continuously.
func (g *Group) crossCheckEnabled() bool { return g.config.ParityRate > 0 && len(g.members) > 1 }

// crossCheck compares one version and acts on the result.
func (g *Group) crossCheck(ctx context.Context, ref hsm.KeyRef) {
	ctx, cancel := context.WithTimeout(ctx, crossCheckTimeout)
	defer cancel()
	key := g.catalogue.Load().Keys[ref.Label]
	if key == nil || key.Version(ref.Version) == nil {
		return // gone meanwhile
	}
	v := *key.Version(ref.Version)
	tokens := g.admitAll()
	result := g.runCrossCheck(ctx, ref, v).among(g.unreplaced(tokens))
	switch {
	case result.differ != 0:
		g.recordDivergence(ref, result)
	case result.agree != 0:
		g.recordAgreement(ref, result, v.Holders)
		g.markVerified(result.any(), ref, tokens)
		for _, m := range g.members {
			if result.any()&m.bit != 0 {
				g.keySucceeded(m, ref)
			}
		}
	}
	agreed := result.agree
	if agreed != 0 {
		agreed |= result.encrypter.bit
	}
	g.crossChecks.Record(ref, result.any(), agreed, result.differ != 0, time.Now())
}

// runCrossCheck has one HSM encrypt and the others decrypt. An HSM without a verdict is left out of
// the result.
func (g *Group) runCrossCheck(
	ctx context.Context,
	ref hsm.KeyRef,
	v catalogue.Version,
) crossResult {
	up := g.inService(v.Holders)
	encrypter := g.chooseEncrypter(ref, v.Encrypters&up, v.Decrypters&up)
	if encrypter == nil {
		return crossResult{}
	}
	result := crossResult{encrypter: encrypter}
	sealed, err := g.sealCanary(ctx, encrypter, ref)
	if err != nil {
		return result
	}
	for _, m := range g.members {
		if v.Decrypters&up&^encrypter.bit&m.bit == 0 {
			continue
		}
		switch same, err := g.openCanary(ctx, m, ref, sealed); {
		case err != nil:
		case same:
			result.agree |= m.bit
		case g.confirm(ctx, ref, v, encrypter, m):
			result.differ |= m.bit
		case g.findingLimits.lines.Allow():
			g.log.Warn(
				"an HSM did not decrypt what another had encrypted, but a repetition does not "+
					"confirm that their keys differ: one of them sometimes computes wrongly",
				zap.String(
					"label",
					hsm.ShowLabel(ref.Label),
				),
				zap.Uint32("version", ref.Version),
				zap.Strings("hsms", []string{encrypter.Name, m.Name}),
			)
		}
	}
	return result
}

// chooseEncrypter returns, in turn, each HSM that another one can decrypt for, or nil.
func (g *Group) chooseEncrypter(ref hsm.KeyRef, encrypters, decrypters catalogue.Set) *member {
	var able []*member
	for _, m := range g.members {
		if encrypters&m.bit != 0 && decrypters&^m.bit != 0 {
			able = append(able, m)
		}
	}
	if len(able) == 0 {
		return nil
	}
	return able[g.crossChecks.CountRun(ref)%len(able)]
}

// confirm reports whether two HSMs really hold different material: neither decrypts what the other
// encrypts, and each decrypts what it encrypts itself, as far as the key's usage allows.
func (g *Group) confirm(
	ctx context.Context,
	ref hsm.KeyRef,
	v catalogue.Version,
	a, b *member,
) bool {
	for _, try := range []struct {
		from, to *member
		same     bool
	}{{a, a, true}, {b, b, true}, {a, b, false}, {b, a, false}} {
		if v.Encrypters&try.from.bit == 0 || v.Decrypters&try.to.bit == 0 {
			continue
		}
		sealed, err := g.sealCanary(ctx, try.from, ref)
		if err != nil {
			return false
		}
		same, err := g.openCanary(ctx, try.to, ref, sealed)
		if err != nil || same != try.same {
			return false
		}
	}
	return true
}

// sealCanary encrypts the canary. An error means that there is no verdict.
func (g *Group) sealCanary(ctx context.Context, m *member, ref hsm.KeyRef) (hsm.Sealed, error) {
	sealed, err := m.Token.Encrypt(ctx, ref, canaryAAD, canaryPlaintext)
	if err == nil {
		err = checkSealed(sealed, len(canaryPlaintext))
	}
	g.recordCanaryError(m, err)
	return sealed, err
}

// openCanary reports whether an HSM decrypts the canary correctly. An error means that there is no
// verdict.
func (g *Group) openCanary(
	ctx context.Context,
	m *member,
	ref hsm.KeyRef,
	sealed hsm.Sealed,
) (bool, error) {
	plaintext, err := m.Token.Decrypt(ctx, ref, canaryAAD, sealed)
	if decide.RefusalOf(err) > decide.UnprovenRefusal {
		return false, nil
	}
	g.recordCanaryError(m, err)
	return bytes.Equal(plaintext, canaryPlaintext), err
}

// recordCanaryError lists the keys again if the error concerns the key. Faults of the HSM are left
// to its probe: a comparison takes no HSM out of service.
func (g *Group) recordCanaryError(m *member, err error) {
	if err != nil && !hsm.IsFault(err) {
		wake(m.refresh)
	}
}

// recordDivergence records a confirmed difference: it becomes a finding, Encrypt stops using the
// version, and Decrypt also asks the other HSM.
func (g *Group) recordDivergence(ref hsm.KeyRef, result crossResult) {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := result.any()
	if g.recordMismatch(ref, result) {
		return
	}
	known, stands := g.parity.Diverged[ref]
	if stands && g.parity.SetOf(known.HSMs)&all == all {
		return // as it was
	}
	since := time.Now()
	if stands {
		since, all = known.Since, all|g.parity.SetOf(known.HSMs)
	}
	names := g.parity.NamesOf(result.differ)
	g.parity.Diverged[ref] = catalogue.Finding{
		Kind: catalogue.MaterialDiffers, Label: ref.Label, Version: ref.Version,
		HSMs: g.parity.NamesOf(all), Since: since,
		Detail: fmt.Sprintf(
			"%s cannot decrypt what %s encrypts, and vice versa: "+
				"find out which of them has the right key and copy it to the other; until then "+
				"nothing is encrypted under this version, and existing ciphertexts are only "+
				"readable on the HSM that made them",
			strings.Join(names, ", "),
			result.encrypter.Name,
		),
	}
	g.parity.Unsaved = true
	g.rebuildOne(ref.Label)
}

// recordMismatch records a difference if it is clear which copy is wrong: the one that changed.
// That copy stays unused and the others continue to serve the key. It reports whether that was the
// case. Requires Group.mu.
func (g *Group) recordMismatch(ref hsm.KeyRef, result crossResult) bool {
	all := result.any()
	trusted := g.trusted(all, ref)
	if trusted == 0 || trusted == all {
		return false
	}
	if _, stands := g.parity.Mismatched[ref]; stands {
		return true
	}
	changed := strings.Join(g.parity.NamesOf(all&^trusted), ", ")
	g.parity.Mismatched[ref] = catalogue.Finding{
		Kind: catalogue.MaterialDiffers, Label: ref.Label, Version: ref.Version,
		HSMs:  g.parity.NamesOf(all &^ trusted),
		Since: time.Now(),
		Detail: fmt.Sprintf(
			"the token or the keys of %s changed, and its copy of this key differs from that of "+
				"%s: "+
				"it is not used; put the right key there",
			changed,
			strings.Join(g.parity.NamesOf(trusted), ", "),
		),
	}
	g.rebuildOne(ref.Label)
	return true
}

// releaseAllTrust ends the limits of HSMs all of whose keys were compared.
func (g *Group) releaseAllTrust() {
	for _, m := range g.members {
		if m.trust.Limited.Load() {
			g.releaseTrust(m)
		}
	}
}

// recordAgreement ends a finding once all HSMs that differed and still hold the version agree.
func (g *Group) recordAgreement(ref hsm.KeyRef, result crossResult, holders catalogue.Set) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, estranged := g.parity.Mismatched[ref]; estranged {
		delete(g.parity.Mismatched, ref)
		g.rebuildOne(ref.Label)
	}
	known, stands := g.parity.Diverged[ref]
	differed := g.parity.SetOf(known.HSMs) & holders
	if !stands || differed&^result.any() != 0 {
		return
	}
	delete(g.parity.Diverged, ref)
	g.parity.Unsaved = true
	g.rebuildOne(ref.Label)
}

// recheck schedules comparisons of keys whose objects have changed on an HSM.
func (g *Group) recheck(m *member, labels ...string) {
	if len(g.members) > 1 && len(labels) > 0 {
		g.crossChecks.Invalidate(m.bit, labels)
	}
}

// CompareSoon schedules a comparison of the key before all others, at most every ten seconds.
// Callers use it when an HSM cannot read a new ciphertext, or when a ciphertext does not
// authenticate.
func (g *Group) CompareSoon(label string) {
	if g.crossCheckEnabled() || g.anyLimited() {
		g.crossChecks.Prioritise(label, time.Now())
	}
}

// nextCrossCheck returns the version to compare now, if there is one.
func (g *Group) nextCrossCheck() (hsm.KeyRef, bool) {
	up := g.inService(g.parity.All())
	ref, found, unable, changed := g.crossChecks.Next(
		g.catalogue.Load(),
		up,
		g.config.TestKey,
		time.Now(),
	)
	if changed {
		g.log.Info(
			"key versions whose usage allows no comparison of their material between the HSMs",
			zap.Int("versions", unable),
		)
	}
	return ref, found
}

// crossCheckStats returns the number of comparisons with a result since the start, and of key
// versions that wait for their first.
func (g *Group) crossCheckStats() (uint64, int) {
	return g.crossChecks.Stats()
}

// crossResult is the result of one comparison. Each member is in at most one of the sets.
type crossResult struct {
	encrypter *member
	agree     catalogue.Set // decrypted what the encrypter made
	differ    catalogue.Set // holds other material, confirmed
}

// any returns the members with a result.
func (c crossResult) any() catalogue.Set {
	if c.agree|c.differ == 0 {
		return 0
	}
	return c.agree | c.differ | c.encrypter.bit
}

// among drops the members whose token was replaced during the comparison.
func (c crossResult) among(set catalogue.Set) crossResult {
	if c.encrypter == nil || set&c.encrypter.bit == 0 {
		return crossResult{}
	}
	c.agree &= set
	c.differ &= set
	return c
}

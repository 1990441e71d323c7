package group

// Whether the HSMs of a group hold the same key material: in the background one HSM encrypts a
// canary under each key version, and every other one decrypts it (requirement R4). No attribute can tell
// that: a check value may be missing, or be that of another mechanism. This file is the comparison and what
// follows from it; crossplan.go is which version is next.

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
	crossTimeout  = 2 * time.Second // of one comparison
	crossIdle     = time.Second     // between two looks for something to do
	crossRemember = time.Second     // at least between two writes of what was found
	crossCatchUp  = 100             // comparisons a second at least while an HSM serves some keys only after them
)

var (
	crossAAD       = []byte("xks-proxy parity")
	crossPlaintext = []byte("xks-proxy parity")
)

// keepCrossChecking compares one version after the other for as long as the group lasts.
//
// A key object that was destroyed and made again is compared anew at once where its attributes or its CKA_ID tell of it; with
// equal ones it is found when the round comes to it.
func (g *Group) keepCrossChecking(ctx context.Context) {
	if len(g.members) < 2 {
		return
	}
	defer g.rememberParity()
	usual := rate.NewLimiter(rate.Limit(g.config.ParityRate), 1)
	catchUp := rate.NewLimiter(rate.Limit(max(g.config.ParityRate, crossCatchUp)), 1)
	var remembered time.Time
	for ctx.Err() == nil {
		limited := g.limits()
		if !limited && !g.crossChecks() {
			pause(ctx, crossIdle)
			continue
		}
		limit := usual
		if _, pending := g.crossStats(); limited && pending > 0 || !g.crossChecks() {
			limit = catchUp // without comparisons the HSM would never serve these keys
		}
		err := limit.Wait(ctx)
		if err != nil {
			return
		}
		ref, found := g.nextToCross()
		if found {
			g.cross(ctx, ref)
		}
		if !found || time.Since(remembered) >= crossRemember {
			g.rememberParity()
			g.releaseTrusts()
			remembered = time.Now()
		}
		if !found {
			pause(ctx, crossPause(limited))
		}
	}
}

// crossPause is how long to wait when there is nothing to compare.
func crossPause(limited bool) time.Duration {
	if limited {
		return time.Second / crossCatchUp
	}
	return crossIdle
}

// crossChecks reports whether this group compares key material all the time.
func (g *Group) crossChecks() bool { return g.config.ParityRate > 0 && len(g.members) > 1 }

// cross compares one version and acts on the result.
func (g *Group) cross(ctx context.Context, ref hsm.KeyRef) {
	ctx, cancel := context.WithTimeout(ctx, crossTimeout)
	defer cancel()
	key := g.catalogue.Load().Keys[ref.Label]
	if key == nil || key.Version(ref.Version) == nil {
		return // gone meanwhile
	}
	v := *key.Version(ref.Version)
	tokens := g.admitAll()
	result := g.crossOnce(ctx, ref, v).among(g.unreplaced(tokens))
	switch {
	case result.differ != 0:
		g.diverge(ref, result)
	case result.agree != 0:
		g.converge(ref, result, v.Holders)
		g.believe(result.any(), ref, tokens)
		for _, m := range g.members {
			if result.any()&m.bit != 0 {
				g.keyWorks(m, ref)
			}
		}
	}
	agreed := result.agree
	if agreed != 0 {
		agreed |= result.encrypter.bit
	}
	g.crosses.Done(ref, result.any(), agreed, result.differ != 0, time.Now())
}

// crossOnce has one HSM encrypt and the others decrypt. What is not a verdict leaves an HSM out of the result.
func (g *Group) crossOnce(ctx context.Context, ref hsm.KeyRef, v catalogue.Version) crossed {
	up := g.inService(v.Holders)
	encrypter := g.chooseEncrypter(ref, v.Encrypters&up, v.Decrypters&up)
	if encrypter == nil {
		return crossed{}
	}
	result := crossed{encrypter: encrypter}
	sealed, err := g.seal(ctx, encrypter, ref)
	if err != nil {
		return result
	}
	for _, m := range g.members {
		if v.Decrypters&up&^encrypter.bit&m.bit == 0 {
			continue
		}
		switch same, err := g.open(ctx, m, ref, sealed); {
		case err != nil:
		case same:
			result.agree |= m.bit
		case g.confirm(ctx, ref, v, encrypter, m):
			result.differ |= m.bit
		case g.news.lines.Allow():
			g.log.Warn("an HSM once did not decrypt what another had encrypted, and a second try does not bear out that their keys differ: one of them computes wrongly at times",
				zap.String("label", hsm.ShowLabel(ref.Label)), zap.Uint32("version", ref.Version), zap.Strings("hsms", []string{encrypter.Name, m.Name}))
		}
	}
	return result
}

// chooseEncrypter takes each in turn that has another HSM to decrypt; nil if there is none.
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
	return able[g.crosses.Turn(ref)%len(able)]
}

// confirm reports whether two HSMs hold different material, beyond a computation that went wrong once: neither decrypts
// what the other encrypts, and each decrypts what it encrypted itself, as far as the key's usage allows to try.
func (g *Group) confirm(ctx context.Context, ref hsm.KeyRef, v catalogue.Version, a, b *member) bool {
	for _, try := range []struct {
		from, to *member
		same     bool
	}{{a, a, true}, {b, b, true}, {a, b, false}, {b, a, false}} {
		if v.Encrypters&try.from.bit == 0 || v.Decrypters&try.to.bit == 0 {
			continue
		}
		sealed, err := g.seal(ctx, try.from, ref)
		if err != nil {
			return false
		}
		same, err := g.open(ctx, try.to, ref, sealed)
		if err != nil || same != try.same {
			return false
		}
	}
	return true
}

// seal encrypts the canary. Any error means that there is no verdict.
func (g *Group) seal(ctx context.Context, m *member, ref hsm.KeyRef) (hsm.Sealed, error) {
	sealed, err := m.Token.Encrypt(ctx, ref, crossAAD, crossPlaintext)
	if err == nil {
		err = checkSealed(sealed, len(crossPlaintext))
	}
	g.crossFailed(m, err)
	return sealed, err
}

// open reports whether an HSM decrypts a canary to what it was. Any error means that there is no verdict.
func (g *Group) open(ctx context.Context, m *member, ref hsm.KeyRef, sealed hsm.Sealed) (bool, error) {
	plaintext, err := m.Token.Decrypt(ctx, ref, crossAAD, sealed)
	if decide.RefusalOf(err) > decide.UnprovenRefusal {
		return false, nil
	}
	g.crossFailed(m, err)
	return bytes.Equal(plaintext, crossPlaintext), err
}

// crossFailed looks at the keys again where an HSM says that they are not what they were. A fault of the HSM is
// for its probe to find: a comparison takes no HSM out of service.
func (g *Group) crossFailed(m *member, err error) {
	if err != nil && !hsm.IsFault(err) {
		nudge(m.refresh)
	}
}

// diverge is what a confirmed difference means: the finding stands, nothing is encrypted under
// the version, and a Decrypt asks the other HSM, too.
func (g *Group) diverge(ref hsm.KeyRef, result crossed) {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := result.any()
	if g.estrange(ref, result) {
		return
	}
	known, stands := g.parity.Diverged[ref]
	if stands && g.parity.Set(known.HSMs)&all == all {
		return // as it was
	}
	since := time.Now()
	if stands {
		since, all = known.Since, all|g.parity.Set(known.HSMs)
	}
	names := g.parity.NamesOf(result.differ)
	g.parity.Diverged[ref] = catalogue.Finding{
		Kind: catalogue.MaterialDiffers, Label: ref.Label, Version: ref.Version, HSMs: g.parity.NamesOf(all), Since: since,
		Detail: fmt.Sprintf("%s cannot decrypt what %s encrypts, nor the other way round: find out which of them has the right key and put that on the other; "+
			"until then nothing is encrypted under this version, and what was is only readable on the HSM that made it", strings.Join(names, ", "), result.encrypter.Name),
	}
	g.parity.Unsaved = true
	g.rebuildOne(ref.Label)
}

// estrange is what a difference means where it is clear who is to blame: the copy that changed. The
// others go on serving the key, and that copy stays unused. It reports whether that is the case.
// Group.mu is held.
func (g *Group) estrange(ref hsm.KeyRef, result crossed) bool {
	all := result.any()
	trusted := g.trusted(all, ref)
	if trusted == 0 || trusted == all {
		return false
	}
	if _, stands := g.parity.Estranged[ref]; stands {
		return true
	}
	changed := strings.Join(g.parity.NamesOf(all&^trusted), ", ")
	g.parity.Estranged[ref] = catalogue.Finding{
		Kind: catalogue.MaterialDiffers, Label: ref.Label, Version: ref.Version, HSMs: g.parity.NamesOf(all &^ trusted),
		Since: time.Now(),
		Detail: fmt.Sprintf("the token or the keys of %s changed, and its copy of this key is not the key that %s holds: "+
			"it is not used; put the right key there", changed, strings.Join(g.parity.NamesOf(trusted), ", ")),
	}
	g.rebuildOne(ref.Label)
	return true
}

// releaseTrusts ends the limits of HSMs all of whose keys were compared.
func (g *Group) releaseTrusts() {
	for _, m := range g.members {
		if m.trust.Limited.Load() {
			g.releaseTrust(m)
		}
	}
}

// converge ends a finding, once all the HSMs that differed and still hold the version agree.
func (g *Group) converge(ref hsm.KeyRef, result crossed, holders catalogue.Set) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, estranged := g.parity.Estranged[ref]; estranged {
		delete(g.parity.Estranged, ref)
		g.rebuildOne(ref.Label)
	}
	known, stands := g.parity.Diverged[ref]
	differed := g.parity.Set(known.HSMs) & holders
	if !stands || differed&^result.any() != 0 {
		return
	}
	delete(g.parity.Diverged, ref)
	g.parity.Unsaved = true
	g.rebuildOne(ref.Label)
}

// crossAnew has keys compared again soon whose objects have changed on an HSM.
func (g *Group) crossAnew(m *member, labels ...string) {
	if len(g.members) > 1 && len(labels) > 0 {
		g.crosses.Renew(m.bit, labels)
	}
}

// CompareSoon says that a key may not be the same on every HSM: a new ciphertext that one of them cannot read, or
// any that does not authenticate. Its material is compared before that of all others, at most every ten seconds.
func (g *Group) CompareSoon(label string) {
	if g.crossChecks() || g.limits() {
		g.crosses.Doubt(label, time.Now())
	}
}

// nextToCross is the version to compare now, if there is any.
func (g *Group) nextToCross() (hsm.KeyRef, bool) {
	up := g.inService(g.parity.Everyone())
	ref, found, unable, changed := g.crosses.Choose(g.catalogue.Load(), up, g.config.TestKey, time.Now())
	if changed {
		g.log.Info("key versions whose usage allows no comparison of their material between the HSMs", zap.Int("versions", unable))
	}
	return ref, found
}

// crossStats are how many comparisons had a result since the start, and how many key versions wait for their first.
func (g *Group) crossStats() (uint64, int) {
	return g.crosses.Stats()
}

// crossed is what one comparison found out: each member is in at most one of the sets.
type crossed struct {
	encrypter *member
	agree     catalogue.Set // decrypted what the encrypter made
	differ    catalogue.Set // holds other material, confirmed
}

// any is every member of which something was found out.
func (c crossed) any() catalogue.Set {
	if c.agree|c.differ == 0 {
		return 0
	}
	return c.agree | c.differ | c.encrypter.bit
}

// among leaves out the members whose token was replaced during the comparison.
func (c crossed) among(set catalogue.Set) crossed {
	if c.encrypter == nil || set&c.encrypter.bit == 0 {
		return crossed{}
	}
	c.agree &= set
	c.differ &= set
	return c
}

// This file records when each credential was last used, so that an operator knows when a rotation
// is complete (A5).

package sigv4

import "time"

// use records a successful verification. Loading first avoids a write to shared memory for every
// request.
func (a *account) use(now time.Time) {
	seconds := now.Unix()
	for before := a.lastUsed.Load(); before < seconds; before = a.lastUsed.Load() {
		if a.lastUsed.CompareAndSwap(before, seconds) { // not over a later one
			return
		}
	}
}

// LastUsed returns for every access key id of the key store when it last signed an accepted
// request, on this host's clock, to the second. The time is zero if it has not since the Verifier
// was made (see ShareLastUsed).
func (v *Verifier) LastUsed() map[string]time.Time {
	times := make(map[string]time.Time, len(v.byID))
	for id, account := range v.byID {
		times[id] = time.Time{}
		seconds := account.lastUsed.Load()
		if seconds > 0 {
			times[id] = time.Unix(seconds, 0).UTC()
		}
	}
	return times
}

// ShareLastUsed makes v and old record the last uses of their common credentials together. It is
// for a reload that replaces old by v: a credential that is being rotated out must not look unused,
// and old may still verify requests. Call it before the first Verify of v.
func (v *Verifier) ShareLastUsed(old *Verifier) {
	for id, account := range v.byID {
		before, found := old.byID[id]
		if found && before.secret() == account.secret() {
			account.lastUsed = before.lastUsed
		}
	}
}

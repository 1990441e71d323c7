// This file keeps when each credential was last used, so that an operator knows when a rotation is
// over (A5).

package sigv4

import "time"

// use records a successful verification. The load spares the cores a shared write on every request.
func (a *account) use(now time.Time) {
	seconds := now.Unix()
	for before := a.lastUsed.Load(); before < seconds; before = a.lastUsed.Load() {
		if a.lastUsed.CompareAndSwap(before, seconds) { // not over a later one
			return
		}
	}
}

// LastUsed gives, for every access key id of the key store, when it last signed an accepted request
// by our clock, to the second; the zero time if it did not since the Verifier was made (see
// ShareLastUsed).
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

// ShareLastUsed shares the times of the credentials that are the same in old, when a reload
// replaces it: a credential that is rotating out must not look as if it had never been used, and
// what old still verifies meanwhile counts as well. It is for a Verifier that verifies nothing yet.
func (v *Verifier) ShareLastUsed(old *Verifier) {
	for id, account := range v.byID {
		before, found := old.byID[id]
		if found && before.secret() == account.secret() {
			account.lastUsed = before.lastUsed
		}
	}
}

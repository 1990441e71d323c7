package xks

// A new configuration while requests are served.

// Replace puts a new configuration into effect as a whole. If Config.Validate finds an error,
// Replace returns it and the old configuration stays in effect.
//
// Requests that began under the old configuration end under it. What it refers to, the HSM groups
// above all, must live on for Budget or FirstRequestBudget, whichever is longer. A key store of the
// new configuration takes over the counts, the last uses of credentials and the used quota of the
// old key store with the same name. Blocks stay in effect.
func (h *Handler) Replace(c Config) error {
	err := c.Validate()
	if err != nil {
		return err
	}
	h.replacing.Lock() // one of two calls could take over the state of one that never served
	defer h.replacing.Unlock()
	s, err := h.newState(c.withDefaults(), h.state.Load())
	if err != nil {
		return err
	}
	h.state.Store(s)
	return nil
}

// takeOver continues the counts and quota of the key store with the same name in the old
// configuration. This key store serves nothing yet. From now on, requests under the old and the new
// configuration are counted in one place.
func (s *keyStore) takeOver(old *keyStore) {
	s.verifier.ShareLastUsed(old.verifier)
	s.usage = old.usage
	s.usage.bucket.clamp(s.rate, sinceEpoch())
	if s.group == old.group {
		s.load = old.load
	}
}

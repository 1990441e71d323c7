package xks

// A new configuration while requests are served.

// Replace puts a new configuration in the place of the old one, whole or (with the error of
// Config.Validate) not at all. Requests that began under the old one end under it: what it refers
// to, its HSM groups above all, must live for Budget or FirstRequestBudget longer, whichever is
// more. Counts, last uses of credentials and what is left of quotas pass over to the key store of
// the same name. Blocks stay in effect.
func (h *Handler) Replace(c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	h.replacing.Lock() // or the later of two could inherit from one that never served
	defer h.replacing.Unlock()
	s, err := h.newState(c.withDefaults(), h.state.Load())
	if err != nil {
		return err
	}
	h.state.Store(s)
	return nil
}

// inherit takes over what outlives a configuration, of the key store of the same name, while this
// one serves nothing yet. Requests that still run under the old one and those of the new one count
// in one place.
func (s *keyStore) carryOver(old *keyStore) {
	s.verifier.ShareLastUsed(old.verifier)
	s.usage = old.usage
	s.usage.bucket.clamp(s.rate, sinceEpoch())
	if s.group == old.group {
		s.load = old.load
	}
}

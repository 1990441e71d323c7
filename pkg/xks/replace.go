package xks

// A new configuration while requests are served.

// Replace puts a new configuration in the place of the old one, whole or (with the error of Config.Validate) not at all.
// Requests that began under the old one end under it: what it refers to, its HSM groups above all, must live for
// Budget or FirstRequestBudget longer, whichever is more. Counts, last uses of credentials and what is left of quotas pass over to
// the key store of the same name.
func (h *Handler) Replace(c Config) error {
	n, err := NewHandler(c)
	if err != nil {
		return err
	}
	h.state.Store(n.state.Load())
	return nil
}

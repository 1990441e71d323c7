package config

// When a reload needs the consent of an operator.

// Confirms reports whether an operator has to accept a change that loosens protection.
func (c Reload) Confirms() bool { return c.Loosening == "confirm" }
